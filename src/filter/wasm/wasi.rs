//! A WASI 0.2 that grants nothing, so that guests built for `wasm32-wasip2` as it stands load and run.
//!
//! Such a guest imports all that its standard library could ever need. Here there are no arguments, variables, files
//! or input; output becomes lines of the log; clocks and random numbers work; whatever else is called is a trap that
//! names it. It is linked only to what a component imports of it, under the version it asks for.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType,
};
use wasmtime::{Result, StoreContextMut};

use super::bindings::meshbus::filter::log::Level;
use super::host::{State, wall_clock};

/// The interfaces there are, without their versions.
const INTERFACES: [&str; 20] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];
/// Most random bytes of one call.
const RANDOM_MAX: u64 = 64 << 10;
/// Longest line of output kept until its end comes.
const LINE_MAX: usize = 2048;
/// What one write may bring.
const WRITE_MAX: u64 = 64 << 10;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;

/// Output that has not come to the end of its line.
#[derive(Debug, Default)]
pub(super) struct Streams {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

struct InputStream;
struct OutputStream;
struct Descriptor;
struct Terminal;
struct Failure;

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Resource<Failure>),
    #[component(name = "closed")]
    Closed,
}

#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

/// Whether `interface`, a name with a version, is part of it.
pub(super) fn is_known(interface: &str) -> bool {
    interface.split_once("@0.2.").is_some_and(|(name, _)| INTERFACES.contains(&name))
}

/// Links what `component` imports of it.
///
/// # Errors
/// It imports a thing of another type than WASI 0.2 has under that name.
pub(super) fn link(linker: &mut Linker<State>, component: &Component) -> Result<()> {
    let engine = linker.engine().clone();
    let ty = component.component_type();
    for (name, import) in ty.imports(&engine) {
        let (Some((interface, _)), ComponentItem::ComponentInstance(imported)) =
            (name.split_once('@'), &import.ty)
        else {
            continue;
        };
        if is_known(name) {
            let mut instance = linker.instance(name)?;
            for (item, export) in imported.exports(&engine) {
                define(&mut instance, interface, item, &export.ty)?;
            }
        }
    }
    Ok(())
}

fn define(
    instance: &mut LinkerInstance<'_, State>,
    interface: &str,
    item: &str,
    ty: &ComponentItem,
) -> Result<()> {
    match ty {
        ComponentItem::Resource(_) => instance.resource(item, resource(item), |_, _| Ok(())),
        ComponentItem::ComponentFunc(_) => match interface.split_once('/') {
            Some(("wasi:cli", _)) => cli(instance, interface, item),
            Some(("wasi:io", _)) => io(instance, interface, item),
            Some(("wasi:clocks", _)) => clocks(instance, interface, item),
            Some(("wasi:random", _)) => random(instance, interface, item),
            _ if item == "get-directories" => {
                instance.func_wrap(item, |_, ()| Ok((Vec::<(Resource<Descriptor>, String)>::new(),)))
            }
            _ => refuse(instance, interface, item),
        },
        _ => Ok(()),
    }
}

fn resource(item: &str) -> ResourceType {
    match item {
        "input-stream" => ResourceType::host::<InputStream>(),
        "output-stream" => ResourceType::host::<OutputStream>(),
        "descriptor" => ResourceType::host::<Descriptor>(),
        "error" => ResourceType::host::<Failure>(),
        "terminal-input" | "terminal-output" => ResourceType::host::<Terminal>(),
        _ => ResourceType::host::<()>(),
    }
}

/// A function that is there and does nothing but trap.
fn refuse(instance: &mut LinkerInstance<'_, State>, interface: &str, item: &str) -> Result<()> {
    let name = format!("{interface}#{item}");
    instance.func_new(item, move |_, _, _, _| {
        Err(wasmtime::Error::msg(format!("it called {name}, which filters are not granted")))
    })
}

fn cli(instance: &mut LinkerInstance<'_, State>, interface: &str, item: &str) -> Result<()> {
    match item {
        "get-environment" => instance.func_wrap(item, |_, ()| Ok((Vec::<(String, String)>::new(),))),
        "get-arguments" => instance.func_wrap(item, |_, ()| Ok((Vec::<String>::new(),))),
        "initial-cwd" => instance.func_wrap(item, |_, ()| Ok((None::<String>,))),
        "get-stdin" => instance.func_wrap(item, |_, ()| Ok((Resource::<InputStream>::new_own(0),))),
        "get-stdout" => instance.func_wrap(item, |_, ()| Ok((Resource::<OutputStream>::new_own(STDOUT),))),
        "get-stderr" => instance.func_wrap(item, |_, ()| Ok((Resource::<OutputStream>::new_own(STDERR),))),
        "get-terminal-stdin" | "get-terminal-stdout" | "get-terminal-stderr" => {
            instance.func_wrap(item, |_, ()| Ok((None::<Resource<Terminal>>,)))
        }
        _ => refuse(instance, interface, item),
    }
}

fn io(instance: &mut LinkerInstance<'_, State>, interface: &str, item: &str) -> Result<()> {
    type Written = (std::result::Result<(), StreamError>,);
    type Out = Resource<OutputStream>;
    match item {
        "[method]output-stream.check-write" => {
            instance.func_wrap(item, |_, (_,): (Out,)| Ok((Ok::<u64, StreamError>(WRITE_MAX),)))
        }
        "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush" => instance
            .func_wrap(
                item,
                |store: StoreContextMut<'_, State>, (stream, bytes): (Out, Vec<u8>)| -> Result<Written> {
                    write(store, stream.rep(), &bytes);
                    Ok((Ok(()),))
                },
            ),
        "[method]output-stream.flush" | "[method]output-stream.blocking-flush" => {
            instance.func_wrap(item, |_, (_,): (Out,)| -> Result<Written> { Ok((Ok(()),)) })
        }
        "[method]input-stream.read" | "[method]input-stream.blocking-read" => instance
            .func_wrap(item, |_, (_, _): (Resource<InputStream>, u64)| {
                Ok((Err::<Vec<u8>, _>(StreamError::Closed),))
            }),
        _ => refuse(instance, interface, item),
    }
}

fn clocks(instance: &mut LinkerInstance<'_, State>, interface: &str, item: &str) -> Result<()> {
    match (interface, item) {
        ("wasi:clocks/wall-clock", "now") => instance.func_wrap(item, |_, ()| {
            let (seconds, nanoseconds) = wall_clock();
            Ok((Datetime { seconds, nanoseconds },))
        }),
        ("wasi:clocks/wall-clock", "resolution") => {
            instance.func_wrap(item, |_, ()| Ok((Datetime { seconds: 0, nanoseconds: 1_000 },)))
        }
        ("wasi:clocks/monotonic-clock", "now") => instance
            .func_wrap(item, |store: StoreContextMut<'_, State>, ()| Ok((store.data().elapsed_nanos(),))),
        ("wasi:clocks/monotonic-clock", "resolution") => instance.func_wrap(item, |_, ()| Ok((1_000_u64,))),
        _ => refuse(instance, interface, item),
    }
}

fn random(instance: &mut LinkerInstance<'_, State>, interface: &str, item: &str) -> Result<()> {
    match item {
        "get-random-bytes" | "get-insecure-random-bytes" => {
            instance.func_wrap(item, |_, (length,): (u64,)| {
                if length > RANDOM_MAX {
                    let error = format!("it asked for {length} random bytes; at most {RANDOM_MAX} at once");
                    return Err(wasmtime::Error::msg(error));
                }
                let mut bytes = vec![0; length as usize];
                fill(&mut bytes)?;
                Ok((bytes,))
            })
        }
        "get-random-u64" | "get-insecure-random-u64" => instance.func_wrap(item, |_, ()| Ok((number()?,))),
        "insecure-seed" => instance.func_wrap(item, |_, ()| Ok(((number()?, number()?),))),
        _ => refuse(instance, interface, item),
    }
}

fn number() -> Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Good enough for keys: a guest may rely on `wasi:random/random` for that.
fn fill(bytes: &mut [u8]) -> Result<()> {
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(bytes).map_err(|_| wasmtime::Error::msg("the system has no random numbers"))
}

/// Whole lines go to the log; the rest waits for its end, or until it is long enough.
fn write(mut store: StoreContextMut<'_, State>, stream: u32, bytes: &[u8]) {
    let state = store.data_mut();
    let (level, pending) = match stream {
        STDERR => (Level::Warn, &mut state.streams.stderr),
        _ => (Level::Info, &mut state.streams.stdout),
    };
    let mut text = std::mem::take(pending);
    text.extend_from_slice(bytes);
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let rest = lines.pop().filter(|rest| rest.len() <= LINE_MAX).map(<[u8]>::to_vec).unwrap_or_default();
    for line in lines {
        if !line.is_empty() {
            state.line(level, &String::from_utf8_lossy(line), &[]);
        }
    }
    let pending = if stream == STDERR { &mut state.streams.stderr } else { &mut state.streams.stdout };
    *pending = rest;
}
