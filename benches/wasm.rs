//! Wasm filters: what a pass-through plugin costs, to the same component called by bare wasmtime and to a native filter.

mod support;

#[path = "../tests/guests/mod.rs"]
mod guests;

use std::process::ExitCode;

use meshbus::config::Section;
use meshbus::core::filter::{BATCH_MAX, Filter, Input, Verdict};
use meshbus::core::{Envelope, Seq, Timestamp, Topic};
use meshbus::filter::Kind;
use meshbus::filter::wasm::Wasm;
use support::{Args, Failure, Report, Samples, cpu};
use tokio::time::Instant;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine, Store};

use bindings::exports::meshbus::filter::{filter, packed};
use bindings::meshbus::filter::types::{AttrValueParam, Attributes, Event, Timestamp as Time};
use bindings::meshbus::filter::{clock, log, metrics, types};

#[allow(
    clippy::pedantic,
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    reason = "generated"
)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "plugins/wit",
        world: "packed-filter-plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// Bytes of an event's data.
const DATA: usize = 1024;
/// A plugin on our host may cost so many times what it costs bare.
const GATE: f64 = 1.15;

fn main() -> ExitCode {
    support::main("wasm", run)
}

fn run() -> Result<ExitCode, Failure> {
    let args = Args::read()?;
    let mut report = Report::new(&args);
    let home = tempfile::tempdir()?;
    for (form, plugin) in [("typed", guests::guest(guests::PASS)), ("packed", guests::packed())] {
        std::fs::write(home.path().join("plugin.wasm"), &plugin)?;
        for batch in [1, BATCH_MAX] {
            let name = format!("pass, {form}, batch of {batch}");
            if args.wants(&name) {
                measure(&args, &mut report, &name, &plugin, &home.path().join("bench.yaml"), batch)?;
            }
        }
    }
    Ok(report.finish())
}

fn measure(
    args: &Args,
    report: &mut Report,
    name: &str,
    plugin: &[u8],
    file: &std::path::Path,
    batch: usize,
) -> Result<(), Failure> {
    let section =
        Section::from_yaml(&file.to_string_lossy(), "path: plugin.wasm\ncache: ''\ndeadline: 1s\n")
            .map_err(|error| error.to_string())?;
    let factory = Wasm.read(&section).map_err(|error| error.to_string())?;
    factory.prepare().map_err(|reason| reason.to_string())?;
    let mut hosted = factory.build().map_err(|reason| reason.to_string())?;
    let mut bare = Bare::new(plugin)?;
    let mut native: Box<dyn Filter> = Box::new(Native);
    let envelopes: Vec<Envelope> = (0..batch).map(envelope).collect();
    let now = Instant::now();
    let inputs: Vec<Input<'_>> = envelopes
        .iter()
        .map(|envelope| Input { envelope, attempt: 1, seq: Seq(1), route: "bench", since: now, now })
        .collect();
    let calls = args.size(400_000 / batch, 10);
    let spent = |calls: usize, mut call: Box<dyn FnMut() -> Result<usize, Failure> + '_>| {
        let before = cpu();
        for _ in 0..calls {
            if call()? != batch {
                return Err(Failure::from("not all events were answered"));
            }
        }
        Ok((cpu() - before) / (calls * batch) as f64)
    };
    let (mut ours, mut theirs, mut ratio, mut natives) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    spent(calls / 10 + 1, Box::new(|| Ok(hosted.process(&inputs).len())))?;
    for _ in 0..args.rounds {
        let hosted = spent(calls, Box::new(|| Ok(hosted.process(&inputs).len())))?;
        let bare = spent(calls, Box::new(|| bare.call(&envelopes)))?;
        natives.push(spent(calls, Box::new(|| Ok(native.process(&inputs).len())))?);
        ours.push(hosted);
        theirs.push(bare);
        ratio.push(hosted / bare);
    }
    report.noted(name, &ours, " ns/event");
    report.noted(&format!("{name}, bare"), &theirs, " ns/event");
    report.gated(&format!("{name}, to bare"), &ratio, "×", GATE);
    report.noted(&format!("{name}, native"), &natives, " ns/event");
    Ok(())
}

fn envelope(id: usize) -> Envelope {
    let topic = Topic::parse("orders/eu/new").unwrap_or_else(|_| unreachable!("it is a topic"));
    let mut event =
        Envelope::event(topic, format!("order-{id:08}"), "/shop/eu/checkout", "com.example.order.created");
    event.subject = Some("customer/4711".into());
    event.time = Some(Timestamp::now());
    event.datacontenttype = Some("application/json".into());
    for (name, value) in
        [("tenant", "blue"), ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-01"), ("region", "eu")]
    {
        event.extensions.set(name, value);
    }
    event.data = vec![b'x'; DATA].into();
    event
}

/// What a plugin that passes everything on does, without one.
struct Native;

impl Filter for Native {
    fn process(&mut self, batch: &[Input<'_>]) -> Vec<Verdict> {
        std::hint::black_box(batch).iter().map(|_| Verdict::Pass).collect()
    }
}

/// The least a host can do: the same engine settings and limits, the envelopes as parameters, the call.
struct Bare {
    store: Store<Nothing>,
    filter: filter::Guest,
    packed: Option<packed::Guest>,
    frames: Vec<u8>,
}

struct Nothing(wasmtime::StoreLimits);

impl Bare {
    fn new(plugin: &[u8]) -> Result<Self, Failure> {
        let mut config = Config::new();
        config.epoch_interruption(true);
        let engine = Engine::new(&config)?;
        let component = Component::new(&engine, plugin)?;
        let mut linker = Linker::new(&engine);
        types::add_to_linker::<_, HasSelf<Nothing>>(&mut linker, |state| state)?;
        log::add_to_linker::<_, HasSelf<Nothing>>(&mut linker, |state| state)?;
        metrics::add_to_linker::<_, HasSelf<Nothing>>(&mut linker, |state| state)?;
        clock::add_to_linker::<_, HasSelf<Nothing>>(&mut linker, |state| state)?;
        let pre = linker.instantiate_pre(&component)?;
        let limits = wasmtime::StoreLimitsBuilder::new().memory_size(64 << 20).build();
        let mut store = Store::new(&engine, Nothing(limits));
        store.limiter(|state| &mut state.0);
        store.set_epoch_deadline(1_000);
        let instance = pre.instantiate(&mut store)?;
        let filter = filter::GuestIndices::new(&pre)?.load(&mut store, &instance)?;
        let packed = packed::GuestIndices::new(&pre).ok();
        let packed = packed.map(|packed| packed.load(&mut store, &instance)).transpose()?;
        filter.call_init(&mut store, "null")?.map_err(|error| format!("{error:?}"))?;
        Ok(Self { store, filter, packed, frames: Vec::new() })
    }

    fn call(&mut self, envelopes: &[Envelope]) -> Result<usize, Failure> {
        self.store.set_epoch_deadline(1_000);
        if let Some(guest) = &self.packed {
            frames(envelopes, &mut self.frames);
            let answer =
                guest.call_process_packed(&mut self.store, envelopes.len() as u32, &self.frames)?;
            return Ok(answer.len() - 1);
        }
        let extensions: Vec<Vec<(&str, AttrValueParam<'_>)>> = envelopes.iter().map(extensions).collect();
        let events: Vec<Event<'_>> = envelopes
            .iter()
            .zip(&extensions)
            .map(|(envelope, extensions)| Event {
                attributes: Attributes {
                    id: &envelope.id,
                    source: &envelope.source,
                    type_: &envelope.kind,
                    subject: envelope.subject.as_deref(),
                    time: envelope.time.as_ref().map(time),
                    datacontenttype: envelope.datacontenttype.as_deref(),
                    dataschema: envelope.dataschema.as_deref(),
                    extensions,
                },
                data: Some(&envelope.data),
                attempt: 1,
            })
            .collect();
        Ok(self.filter.call_process(&mut self.store, &events)?.len())
    }
}

fn time(time: &Timestamp) -> Time {
    let (seconds, nanoseconds) = time.unix();
    Time { seconds, nanoseconds }
}

fn extensions(envelope: &Envelope) -> Vec<(&str, AttrValueParam<'_>)> {
    let own = envelope.extensions.iter().map(|(name, value)| match value {
        meshbus::core::Value::String(text) => (&**name, AttrValueParam::Text(text)),
        _ => (&**name, AttrValueParam::Boolean(true)),
    });
    own.chain([("mbtopic", AttrValueParam::Text(envelope.topic.as_str()))]).collect()
}

/// The frames of packed.md, for the attributes these envelopes have.
#[expect(clippy::indexing_slicing, reason = "the head was written above")]
fn frames(envelopes: &[Envelope], out: &mut Vec<u8>) {
    out.clear();
    out.push(1);
    for envelope in envelopes {
        let start = out.len();
        out.extend_from_slice(&[0; 10]);
        let mut count: u16 = 0;
        let mut text = |name: &str, tag: u8, text: &str, out: &mut Vec<u8>| {
            out.push(name.len() as u8);
            out.extend_from_slice(name.as_bytes());
            out.push(tag);
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
            count += 1;
        };
        text("id", 2, &envelope.id, out);
        text("source", 5, &envelope.source, out);
        text("type", 2, &envelope.kind, out);
        text("subject", 2, envelope.subject.as_deref().unwrap_or_default(), out);
        text("datacontenttype", 2, envelope.datacontenttype.as_deref().unwrap_or_default(), out);
        for (name, value) in envelope.extensions.iter() {
            if let meshbus::core::Value::String(value) = value {
                text(name, 2, value, out);
            }
        }
        text("mbtopic", 2, envelope.topic.as_str(), out);
        if let Some(instant) = envelope.time.as_ref().map(time) {
            out.extend_from_slice(b"\x04time\x06");
            out.extend_from_slice(&instant.seconds.to_le_bytes());
            out.extend_from_slice(&instant.nanoseconds.to_le_bytes());
            count += 1;
        }
        out.push(1);
        out.extend_from_slice(&(envelope.data.len() as u32).to_le_bytes());
        out.extend_from_slice(&envelope.data);
        let size = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&size.to_le_bytes());
        out[start + 4..start + 8].copy_from_slice(&1_u32.to_le_bytes());
        out[start + 8..start + 10].copy_from_slice(&count.to_le_bytes());
    }
}

impl types::Host for Nothing {}

impl log::Host for Nothing {
    fn enabled(&mut self, _: log::Level) -> bool {
        false
    }

    fn log(&mut self, _: log::Level, _: String, _: Vec<(String, String)>) {}
}

impl metrics::Host for Nothing {
    fn counter_add(&mut self, _: String, _: u64, _: Vec<(String, String)>) {}
    fn gauge_set(&mut self, _: String, _: f64, _: Vec<(String, String)>) {}
    fn histogram_record(&mut self, _: String, _: f64, _: Vec<(String, String)>) {}
}

impl clock::Host for Nothing {
    fn now(&mut self) -> Time {
        Time { seconds: 0, nanoseconds: 0 }
    }

    fn monotonic_ns(&mut self) -> u64 {
        0
    }
}
