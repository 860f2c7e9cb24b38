//! What templates render, what they refuse, and that a value never makes a second token.

use proptest::prelude::*;

use super::*;
use crate::core::data::DATA_MAX;
use crate::core::spelling::{from_subject, to_subject};

use Spelling::{Subject, Url};

fn event() -> Envelope {
    let topic = Topic::parse("sensors/a%2Fb//t.1").unwrap();
    let mut envelope = Envelope::event(topic, "id-1", "/src/x", "com.example.a");
    envelope.extensions.set("reason", "BackOff");
    envelope.extensions.set("count", 3);
    envelope.extensions.set("empty", "");
    envelope.extensions.set("star", "*");
    envelope.extensions.set("space", "a b");
    envelope.extensions.set("dots", "..");
    envelope.data = r#"{"a": {"b": [1.5, "x/y", true, null, {}]}, "n": 7, "": 1}"#.into();
    envelope
}

fn rendered(template: &str, spelling: Spelling) -> Result<ByteString, String> {
    Template::parse(template, spelling)?.render(&event(), "warnings").map_err(|reason| reason.to_string())
}

#[test]
fn fields_become_their_values() {
    for (template, expected) in [
        ("alerts/{reason}", "alerts/BackOff"),
        ("{type}/{count}-{id}", "com.example.a/3-id-1"),
        ("{source}", "%2Fsrc%2Fx"),
        ("x/{data.n}/{data.a.b[0]}/{data.a.b[1]}/{data.a.b[2]}", "x/7/1.5/x%2Fy/true"),
        ("{topic.0}/{topic.1}/{topic.3}", "sensors/a%2Fb/t.1"),
        ("copy/{topic}", "copy/sensors/a%2Fb//t.1"),
        ("dead/{route}", "dead/warnings"),
        ("x/{missing|none}/{reason|none}/{empty|none}", "x/none/BackOff/"),
        ("x/{missing|a/b}/{topic.9|}", "x/a%2Fb/"),
        ("x/{data.a.b[3]|null}/{data.zzz|z}/{data.n.m|m}", "x/null/z/m"),
        ("{{{reason}}}/{{}}", "{BackOff}/{}"),
        ("constant//topic", "constant//topic"),
        ("{specversion}", "1.0"),
    ] {
        assert_eq!(rendered(template, Spelling::Topic).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn values_are_escaped_for_the_spelling() {
    for (template, spelling, expected) in [
        ("alerts.{type}.{reason}", Subject, "alerts.com//example//a.BackOff"),
        ("a.{empty}.{topic.2}", Subject, "a././"),
        ("{empty}", Subject, "/"),
        ("a.x{empty}.{source}", Subject, "a.x.%2Fsrc%2Fx"),
        ("a.x{star}", Subject, "a.x*"),
        ("copy.{topic}", Subject, "copy.sensors.a%2Fb./.t//1"),
        ("foo/bar.a+b", Subject, "foo/bar.a+b"),
        ("https://h/{space}/{source}?t={topic}", Url, "https://h/a%20b/%2Fsrc%2Fx?t=sensors/a%252Fb//t.1"),
        ("/é/{topic.3}/x{dots}", Url, "/é/t.1/x.."),
    ] {
        assert_eq!(rendered(template, spelling).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn what_cannot_be_rendered_names_the_field() {
    for (template, spelling, expected) in [
        ("a/{involvednamespace}", Spelling::Topic, "{involvednamespace} is missing"),
        ("a/{topic.4}", Spelling::Topic, "{topic.4} is missing"),
        ("a/{data.a.b[3]}", Spelling::Topic, "{data.a.b[3]} is missing"),
        ("a/{data.a.b[4]}", Spelling::Topic, "{data.a.b[4]} is an object"),
        ("a/{data.a.b|x}", Spelling::Topic, "{data.a.b} is a list"),
        ("{empty}", Spelling::Topic, "not empty"),
        ("a.{space}", Subject, "{space} is \"a b\", which has no NATS subject: it holds a space"),
        ("a.{star}", Subject, "a token *, which NATS reads as a wildcard"),
        ("a.{empty}{star}", Subject, "a token *"),
        ("/a/{dots}/b", Url, "segment . or .."),
        ("/a/%2e{missing|.}", Url, "segment . or .."),
    ] {
        let reason = rendered(template, spelling).unwrap_err();
        assert!(reason.contains(expected), "{template}: {reason}");
    }
}

#[test]
fn data_that_is_no_json_or_too_large_is_missing() {
    let mut envelope = event();
    let template = Template::parse("a/{data.n}", Spelling::Topic).unwrap();
    let or_none = Template::parse("a/{data.n|none}", Spelling::Topic).unwrap();
    for (data, why) in [("{\"n\": ", "no JSON".to_owned()), (&" ".repeat(DATA_MAX + 1), "1 MiB".to_owned())]
    {
        envelope.data = data.to_owned().into();
        let reason = template.render(&envelope, "r").unwrap_err();
        assert!(reason.starts_with("{data.n} is missing: ") && reason.contains(&*why), "{reason}");
        assert_eq!(or_none.render(&envelope, "r").unwrap(), "a/none");
    }
    envelope.data = "[[1], {\"x\": 2}]".into();
    let items = Template::parse("{data[0][0]}/{data[1].x}", Spelling::Topic).unwrap();
    assert_eq!(items.render(&envelope, "r").unwrap(), "1/2");
}

#[test]
fn a_wrong_template_is_refused_with_the_column() {
    for (template, spelling, expected) in [
        ("", Spelling::Topic, "column 1: the template is empty"),
        ("é/{reason", Spelling::Topic, "column 3: { is not closed"),
        ("a}b", Spelling::Topic, "column 2: } closes nothing"),
        ("a/{}", Spelling::Topic, "column 3: {} names no field"),
        ("a/{Reason}", Spelling::Topic, "column 3: {Reason} names no field"),
        ("a/{a {b}", Spelling::Topic, "column 3: {a {b} holds a brace"),
        ("{data}", Spelling::Topic, "column 1: {data} is no single value"),
        ("{data.}", Spelling::Topic, "a name is empty"),
        ("{data.a[x]}", Spelling::Topic, "write [0]"),
        ("{data.a]}", Spelling::Topic, "] closes nothing"),
        ("{topic.first}", Spelling::Topic, "write {topic.0}"),
        ("a/{topic}x", Spelling::Topic, "column 3: {topic} is several tokens"),
        ("a/+/b", Spelling::Topic, "column 3: the address holds a wildcard (+ or #)"),
        ("a/*", Spelling::Topic, "column 3: the address holds a wildcard (*)"),
        ("a\n", Spelling::Topic, "column 2: the address holds a control"),
        ("a b.{id}", Subject, "column 2: the address holds a space"),
        ("{reason}..b", Subject, "column 10: the subject has an empty token"),
        ("{{.", Subject, "column 4: the subject has an empty token"),
        (".a", Subject, "column 1: the subject has an empty token"),
        ("a.>.{id}", Subject, "column 3: the address holds a wildcard (>)"),
        ("/a b", Url, "column 3: the address holds a space"),
        ("/a/../b", Url, "column 1: the address \"/a/../b\" has a segment"),
    ] {
        let error = Template::parse(template, spelling).unwrap_err();
        assert!(error.contains(expected), "{template:?}: {error}");
    }
    let long = "a".repeat(TOPIC_MAX + 1);
    assert!(Template::parse(&long, Spelling::Topic).unwrap_err().contains("4096"));
    assert!(Template::parse(&"a/".repeat(200), Spelling::Topic).unwrap_err().contains("200 levels"));
}

#[test]
fn a_constant_template_is_rendered_once() {
    let template = Template::parse("alerts.all", Subject).unwrap();
    let (a, b) = (template.render(&event(), "x").unwrap(), template.render(&event(), "y").unwrap());
    assert_eq!(a.as_bytes().as_ptr(), b.as_bytes().as_ptr());
    assert_eq!(a, template.text());
}

#[test]
fn only_a_topic_template_renders_a_topic() {
    let topic = Template::parse("dead/{route}", Spelling::Topic).unwrap();
    assert_eq!(topic.render_topic(&event(), "r/1").unwrap(), Topic::parse("dead/r%2F1").unwrap());
    let constant = Template::parse("dead/all", Spelling::Topic).unwrap();
    assert_eq!(constant.render_topic(&event(), "r").unwrap().as_str(), "dead/all");
    let subject = Template::parse("dead.x", Subject).unwrap();
    assert!(subject.render_topic(&event(), "r").unwrap_err().contains("no template of a topic"));
}

#[test]
fn the_attributes_a_template_uses_are_listed_once() {
    let text = "{type}.{reason|none}.{data.a}.{topic.1}.{route}.{type}.{topic}";
    let template = Template::parse(text, Subject).unwrap();
    assert_eq!(template.fields(), ["type", "reason"]);
    assert_eq!(template.text(), text);
}

#[test]
fn a_value_that_is_too_long_is_refused() {
    let mut envelope = event();
    envelope.extensions.set("long", "x".repeat(TOPIC_MAX));
    for spelling in [Spelling::Topic, Subject] {
        let separator = if spelling == Subject { '.' } else { '/' };
        let template = Template::parse(&format!("a{separator}{{long}}"), spelling).unwrap();
        assert!(template.render(&envelope, "r").unwrap_err().contains("too long"));
    }
    let url = Template::parse("/{long}", Url).unwrap();
    assert!(url.render(&envelope, "r").is_ok());
    envelope.extensions.set("long", "x".repeat(URL_MAX));
    assert!(url.render(&envelope, "r").unwrap_err().contains("too long"));
}

proptest! {
    #[test]
    fn a_value_fills_exactly_one_token(a in any::<String>(), b in "[./%2F+#*> a]{0,6}") {
        let mut envelope = event();
        envelope.extensions.set("a", a.clone());
        envelope.extensions.set("b", b.clone());
        let topic = Template::parse("x/{a}/{b}", Spelling::Topic).unwrap().render_topic(&envelope, "r");
        let Ok(topic) = topic else { return Ok(()) };
        prop_assert_eq!(topic.tokens().collect::<Vec<_>>(), ["x", &*a, &*b]);

        // As a subject it is the same topic, wherever that has one.
        let subject = Template::parse("x.{a}.{b}", Subject).unwrap().render(&envelope, "r");
        match (subject, to_subject(&topic)) {
            (Ok(subject), Ok(expected)) => {
                prop_assert_eq!(&*subject, &*expected);
                prop_assert_eq!(from_subject(&subject)?, topic);
            }
            (Err(_), Err(_)) => {}
            other => prop_assert!(false, "{:?}", other),
        }

        let url = Template::parse("/{a}/{b}", Url).unwrap().render(&envelope, "r");
        match url {
            Ok(url) => {
                let decoded: Vec<_> = url
                    .split('/')
                    .map(|segment| percent_encoding::percent_decode_str(segment).decode_utf8().unwrap())
                    .collect();
                prop_assert_eq!(decoded, ["", &*a, &*b]);
            }
            Err(_) => prop_assert!([&*a, &*b].iter().any(|value| matches!(*value, "." | ".."))),
        }
    }

    #[test]
    fn the_parser_never_panics(text in "[{}|a.\\[\\]0/+ *>é]{0,12}|\\PC{0,12}") {
        for spelling in [Spelling::Topic, Subject, Url] {
            if let Ok(template) = Template::parse(&text, spelling) {
                drop(template.render(&event(), "r"));
            }
        }
    }
}
