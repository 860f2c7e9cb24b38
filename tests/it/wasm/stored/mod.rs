//! Guests of each version of the interface, kept as text: what ran once runs on every later host, and answers as it did.

mod make;

use std::path::PathBuf;
use std::time::Duration;

use meshbus::core::Timestamp;
use meshbus::core::envelope::Value;
use meshbus::filter::wasm;

use super::*;
use crate::guests;

/// The forms in which a guest of each version is stored.
const FORMS: [&str; 2] = ["typed", "packed"];

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/guests"))
}

/// The version of `plugins/wit`.
fn version() -> String {
    let text = guests::wit_text();
    let package = text.lines().find_map(|line| line.strip_prefix("package meshbus:filter@"));
    package.and_then(|rest| rest.strip_suffix(';')).expect("a package").to_owned()
}

/// The stored guests of a form: version and component.
fn stored(form: &str) -> Vec<(String, Vec<u8>)> {
    let mut guests = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if let Some(version) = name.strip_suffix(&format!("-{form}.wat")) {
            guests.push((version.to_owned(), wat::parse_file(&path).expect(&name)));
        }
    }
    guests.sort();
    guests
}

/// An event on which each guest has the answer number `digit`.
fn asking(digit: usize) -> Envelope {
    let mut event = event(0);
    event.id = format!("{digit}/asked").into();
    event
}

/// Answer number 2: an attribute of every type.
fn changed() -> Envelope {
    let mut event = asking(2);
    event.subject = None;
    event.topic = Topic::parse("old/ones").unwrap();
    event.data = "changed".into();
    event.extensions.set("aboolean", Value::Boolean(true));
    event.extensions.set("aninteger", Value::Integer(-7));
    event.extensions.set("atext", "text");
    event.extensions.set("abinary", Value::Binary(vec![0, 255].into()));
    event.extensions.set("auri", Value::Uri("https://example.com/a".into()));
    event.extensions.set("auriref", Value::UriRef("../b".into()));
    event
        .extensions
        .set("atime", Value::Timestamp(Timestamp::parse("2023-11-14T22:13:20.000000005Z").unwrap()));
    event
}

/// Holds the answers 0 to 5, in which both forms say the same.
fn assert_as_it_did(version: &str, verdicts: &[Verdict]) {
    assert!(matches!(verdicts[0], Verdict::Pass), "{version}: {verdicts:?}");
    assert!(matches!(&verdicts[1], Verdict::Drop(Some(why)) if **why == *"why"), "{version}: {verdicts:?}");
    let Verdict::Change(event) = &verdicts[2] else { panic!("{version}: {verdicts:?}") };
    assert_eq!(**event, changed(), "{version}");
    assert!(matches!(verdicts[3], Verdict::Retry(pause) if pause == Duration::from_millis(1500)));
    assert_eq!(reason(&verdicts[4]), "too old", "{version}");
    let Verdict::Emit(outputs) = &verdicts[5] else { panic!("{version}: {verdicts:?}") };
    let [alert, second] = &outputs[..] else { panic!("{version}: {outputs:?}") };
    assert_eq!((alert.name.as_deref(), alert.envelope.data.len()), (Some("alert"), 0), "{version}");
    assert_eq!((second.name.as_deref(), &*second.envelope.id), (None, "second"), "{version}");
    assert_eq!(second.envelope.data, asking(5).data, "{version}");
}

/// What the plugin `name` counted itself, by each of the three ways there are.
fn counted(name: &str) -> Vec<(u64, f64)> {
    let figures =
        wasm::figures().into_iter().find(|figures| &*figures.plugin == name).expect("a plugin in use");
    figures.series.into_iter().map(|series| (series.count, series.value)).collect()
}

#[test]
fn this_version_has_stored_guests() {
    for form in FORMS {
        let versions: Vec<String> = stored(form).into_iter().map(|(version, _)| version).collect();
        assert!(versions.contains(&version()), "{versions:?}: see tests/fixtures/guests/README.md");
        assert!(versions.contains(&"0.1.0".to_owned()), "{versions:?}: the first is never removed");
    }
}

#[test]
fn a_stored_typed_guest_answers_as_it_did() {
    for (version, guest) in stored("typed") {
        let name = format!("{version}-typed.wasm");
        let rig = Rig::named(&name, &guest, "");
        let mut filter = rig.filter();
        let events: Vec<Envelope> = (0..8).map(asking).collect();
        let verdicts = ask(&mut *filter, &events);
        assert_as_it_did(&version, &verdicts);
        assert_eq!(reason(&verdicts[6]), r#"{"total": 7}"#, "{version}: the data");
        assert_eq!(reason(&verdicts[7]), "orders/new", "{version}: the last attribute is the topic");
        assert_eq!(counted(&name), [(1, 3.0), (1, 2.5), (1, 1.5)], "{version}");
    }
}

#[test]
fn a_stored_packed_guest_answers_as_it_did_and_is_given_what_it_was() {
    for (version, guest) in stored("packed") {
        let name = format!("{version}-packed.wasm");
        let rig = Rig::named(&name, &guest, "");
        let mut filter = rig.filter();
        let mut events: Vec<Envelope> = (0..6).map(asking).collect();
        events.push(asking(8));
        let verdicts = ask(&mut *filter, &events);
        assert_as_it_did(&version, &verdicts);
        let Verdict::Change(event) = &verdicts[6] else { panic!("{version}: {verdicts:?}") };
        assert_eq!(event.data.escape_ascii().to_string(), FRAME.escape_ascii().to_string(), "{version}");
        assert_eq!(counted(&name), [(1, 3.0), (1, 2.5), (1, 1.5)], "{version}");
    }
}

/// The event that answer number 8 gives back, as 0.1.0 had it packed.
const FRAME: &[u8] = b"\x8d\0\0\0\x01\0\0\0\x06\0\
    \x02id\x02\x07\0\0\08/asked\x06source\x05\x05\0\0\0/shop\x04type\x02\x11\0\0\0com.example.order\
    \x07subject\x02\x07\0\0\0order 7\x06tenant\x02\x04\0\0\0blue\x07mbtopic\x02\n\0\0\0orders/new\
    \x01\x0c\0\0\0{\"total\": 7}";

/// Not a test: writes the guests of the version of `plugins/wit` where there are none. What is stored stays.
#[test]
#[ignore = "makes files: tests/fixtures/guests/make runs it"]
fn make() {
    for (form, text) in FORMS.into_iter().zip([make::typed(), make::packed()]) {
        let path = folder().join(format!("{}-{form}.wat", version()));
        if !path.exists() {
            std::fs::write(path, text).unwrap();
        }
    }
}
