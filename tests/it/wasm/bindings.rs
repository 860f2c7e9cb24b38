//! The bindings that are kept are those of `plugins/wit`.

use std::fmt::Write;

use wit_component::{StringEncoding, metadata};
use wit_parser::decoding::decode_world;
use wit_parser::{Function, Interface, Resolve, TypeDefKind, WorldId, WorldItem};

use crate::guests;

/// The world all bindings are of.
const WORLD: &str = "filter-plugin";

fn kept(path: &str) -> String {
    std::fs::read_to_string(format!("{}/plugins/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn wit() -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("meshbus-filter.wit", &guests::wit_text()).unwrap();
    let world = resolve.select_world(&[package], Some(WORLD)).unwrap();
    (resolve, world)
}

/// The interfaces of the world, by name, and whether the guest exports it.
fn interfaces(resolve: &Resolve, world: WorldId) -> Vec<(&str, &Interface, bool)> {
    let world = &resolve.worlds[world];
    let sides = [(&world.imports, false), (&world.exports, true)];
    let items =
        sides.into_iter().flat_map(|(items, exported)| items.values().map(move |item| (item, exported)));
    let interfaces = items.filter_map(|(item, exported)| match item {
        WorldItem::Interface { id, .. } => Some((&resolve.interfaces[*id], exported)),
        _ => None,
    });
    interfaces
        .map(|(interface, exported)| (interface.name.as_deref().unwrap(), interface, exported))
        .collect()
}

/// The bytes of the first byte string of Rust in `text`.
fn byte_string(text: &str) -> Vec<u8> {
    let text = text.split_once("b\"\\\n").expect("a byte string").1;
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    loop {
        match rest.next().expect("its end") {
            b'"' => return bytes,
            b'\\' => match rest.next().unwrap() {
                b'0' => bytes.push(0),
                b't' => bytes.push(b'\t'),
                b'r' => bytes.push(b'\r'),
                b'n' => bytes.push(b'\n'),
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                }
                // The string goes on in the next line.
                b'\n' => {}
                other => bytes.push(other),
            },
            byte => bytes.push(byte),
        }
    }
}

#[test]
fn those_for_rust_are_of_the_same_types() {
    let text = kept("sdk/src/bindings.rs");
    let (_, text) = text.split_once("filter-plugin:imports and exports\"").expect("the world's section");
    let (kept, of) = decode_world(&byte_string(text)).expect("a description of a world");
    let (resolve, world) = wit();
    let encoded = |resolve: &Resolve, world| {
        metadata::encode(resolve, world, StringEncoding::UTF8, None).expect("an encoding")
    };
    assert!(
        encoded(&kept, of) == encoded(&resolve, world),
        "plugins/wit has other types than plugins/sdk/src/bindings.rs: see plugins/README.md on generated files"
    );
}

#[test]
fn those_for_c_have_the_same_names_cases_and_fields() {
    let (header, source) = (kept("c/sdk/filter_plugin.h"), kept("c/sdk/filter_plugin.c"));
    let (resolve, world) = wit();
    let snake = |name: &str| name.replace('-', "_");
    let version = resolve.packages[resolve.worlds[world].package.unwrap()].name.version.as_ref().unwrap();
    let (mut cases, mut linked) = (String::new(), Vec::new());
    for (name, interface, exported) in interfaces(&resolve, world) {
        for (ty, id) in &interface.types {
            let c = format!("meshbus_filter_{}_{}", snake(name), snake(ty));
            match &resolve.types[*id].kind {
                TypeDefKind::Record(record) => {
                    let fields: Vec<String> =
                        record.fields.iter().map(|field| snake(&field.name)).collect();
                    assert_eq!(fields_of(&header, &c), fields, "{c}");
                }
                TypeDefKind::Variant(variant) => {
                    let names = variant.cases.iter().map(|case| case.name.as_str());
                    define(&mut cases, &c, names);
                    let held = variant.cases.iter().filter(|case| case.ty.is_some());
                    let held: Vec<String> = held.map(|case| snake(&case.name)).collect();
                    assert_eq!(fields_of(&header, &c), held, "{c}");
                }
                TypeDefKind::Enum(kinds) => {
                    define(&mut cases, &c, kinds.cases.iter().map(|case| case.name.as_str()));
                }
                TypeDefKind::Type(_) => {
                    let c = if exported { format!("exports_{c}") } else { c };
                    assert!(header.contains(&format!(" {c}_t;")), "{c}");
                }
                other => panic!("{c} is of a kind this test does not know: {other:?}"),
            }
        }
        for Function { name: function, .. } in interface.functions.values() {
            let module = format!("meshbus:filter/{name}@{version}");
            linked.push(if exported {
                format!("__export_name__(\"{module}#{function}\")")
            } else {
                format!("__import_module__(\"{module}\"), __import_name__(\"{function}\")")
            });
        }
    }
    let defined: String = header
        .lines()
        .filter(|line| line.starts_with("#define MESHBUS_"))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(sorted(&defined), sorted(&cases));
    for name in &linked {
        assert!(source.contains(name), "{name} is not in filter_plugin.c");
    }
    let count =
        source.matches("__import_name__(\"").count() + source.matches("__export_name__(\"meshbus").count();
    assert_eq!(count, linked.len(), "functions that plugins/wit has not");
}

#[test]
fn both_say_what_the_interface_says() {
    let (rust, c) = (kept("sdk/src/bindings.rs"), kept("c/sdk/filter_plugin.h"));
    let (resolve, world) = wit();
    for (_, interface, exported) in interfaces(&resolve, world) {
        let functions = interface.functions.values().map(|function| &function.docs);
        let types = interface.types.values().map(|id| &resolve.types[*id].docs);
        for docs in functions.chain(types).filter_map(|docs| docs.contents.as_deref()) {
            for line in docs.lines() {
                assert!(rust.contains(&format!("/// {line}\n")), "not in the bindings for Rust: {line}");
                assert!(
                    exported || c.contains(&format!("// {line}\n")),
                    "not in the bindings for C: {line}"
                );
            }
        }
    }
}

/// The names of cases as C has them.
fn define<'a>(out: &mut String, ty: &str, cases: impl Iterator<Item = &'a str>) {
    for (at, case) in cases.enumerate() {
        let name = format!("{ty}_{}", case.replace('-', "_")).to_ascii_uppercase();
        writeln!(out, "#define {name} {at}").unwrap();
    }
}

fn sorted(lines: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    lines
}

/// The fields of a struct of C, in order; of one that holds a variant, those of its union.
fn fields_of(header: &str, name: &str) -> Vec<String> {
    let body = header
        .split_once(&format!("typedef struct {name}_t {{\n"))
        .unwrap_or_else(|| panic!("no {name}"))
        .1;
    let body = body.split_once(&format!("\n}} {name}_t;")).expect("its end").0;
    let fields =
        body.lines().filter(|line| line.ends_with(';') && !line.contains("//") && !line.contains('}'));
    let fields = fields.map(|line| line.trim_end_matches(';').rsplit(' ').next().unwrap().to_owned());
    fields.filter(|field| field != "tag").collect()
}
