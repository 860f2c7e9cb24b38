//! What selectors want, what they say when they do not, and the laws of the dialects.

use proptest::prelude::*;

use super::*;
use crate::core::cesql::Expression;
use crate::core::envelope::Cause;
use crate::core::topic::{LEVELS_MAX, TOPIC_MAX, Topic};

fn event(topic: &str) -> Envelope {
    let mut envelope = Envelope::event(Topic::parse(topic.to_owned()).unwrap(), "1", "/src", "com.a");
    envelope.subject = Some("file.png".into());
    envelope.extensions.set("reason", "BackOff");
    envelope.extensions.set("eventcount", 3);
    envelope
}

fn dialect(json: &str) -> Dialect {
    serde_json::from_str(json).unwrap()
}

fn holds(dialect: &Dialect, event: &Envelope) -> bool {
    dialect.holds(&View::of(event)).unwrap()
}

fn matches(filter: &str, topic: &str) -> bool {
    TopicFilter::parse(filter).unwrap().matches(&Topic::parse(topic.to_owned()).unwrap())
}

#[test]
fn wildcards_follow_the_rules_of_their_protocols() {
    for (filter, topic, expected) in [
        ("a/b", "a/b", true),
        ("a/b", "a", false),
        ("a", "a/b", false),
        ("a/#", "a", true),
        ("a/#", "a/b/c", true),
        ("a/#", "ab", false),
        ("a/>", "a", false),
        ("a/>", "a/", true),
        ("a/>", "a/b/c", true),
        ("+", "a", true),
        ("+", "a/b", false),
        ("+/+", "/a", true),
        ("/+", "/a", true),
        ("+", "/a", false),
        ("a/*/c", "a//c", true),
        ("a//c", "a//c", true),
        ("#", "a/b", true),
        (">", "a", true),
        ("+/#", "a", true),
        ("a/+/#", "a", false),
        ("a/+/#", "a/b", true),
    ] {
        assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
    }
}

#[test]
fn a_wildcard_in_the_first_level_skips_dollar_topics() {
    for filter in ["#", ">", "+/x", "*/x", "+/#"] {
        assert!(!matches(filter, "$SYS/x"), "{filter}");
    }
    assert!(matches("$SYS/#", "$SYS/x"));
    assert!(matches("a/#", "a/$x"));
    assert!(!TopicFilter::all().matches(&Topic::parse("$x").unwrap()));
    assert!(Selector::default().matches(&event("$x")).unwrap());
}

#[test]
fn each_spelling_has_its_own_wildcards() {
    let mqtt = TopicFilter::parse_mqtt("*/>/+").unwrap();
    assert_eq!(mqtt.levels(), [Level::Literal("*".into()), Level::Literal(">".into()), Level::One]);
    let subject = TopicFilter::parse_subject("a//b./.*.>").unwrap();
    assert_eq!(
        subject.levels(),
        [Level::Literal("a.b".into()), Level::Literal("".into()), Level::One, Level::Some]
    );
    assert_eq!(subject.to_string(), "a.b//+/>");
    assert_eq!(TopicFilter::parse("a.b//*/>").unwrap(), subject);
    assert_eq!(TopicFilter::parse("a*b/>c").unwrap().literal_topic().unwrap().as_str(), "a*b/>c");
    assert_eq!(TopicFilter::parse("a/+").unwrap().literal_topic(), None);
    assert_eq!(TopicFilter::from(&Topic::parse("a//*").unwrap()), TopicFilter::parse_mqtt("a//*").unwrap());
}

#[test]
fn a_wrong_filter_is_refused_with_the_reason() {
    for (filter, word) in [
        ("", "empty"),
        ("a/#/b", "# must be the last"),
        ("a/>/b", "> must be at the end"),
        ("a/b#", "whole level"),
        ("a+/b", "whole level"),
        ("a\0", "control"),
    ] {
        let error = TopicFilter::parse(filter).unwrap_err().to_string();
        assert!(error.contains(word), "{filter}: {error}");
    }
    assert!(TopicFilter::parse(&"a".repeat(TOPIC_MAX)).is_ok());
    assert!(TopicFilter::parse(&"a".repeat(TOPIC_MAX + 1)).is_err());
    assert!(TopicFilter::parse(&"/".repeat(LEVELS_MAX - 1)).is_ok());
    assert!(TopicFilter::parse(&"/".repeat(LEVELS_MAX)).is_err());
    for subject in ["a..b", ">.a", "a b", "a.#", "", "/"] {
        assert!(TopicFilter::parse_subject(subject).is_err(), "{subject}");
    }
}

#[test]
fn dialects_compare_attributes_as_text() {
    for (json, expected) in [
        (r#"{"exact": {"type": "com.a", "reason": "BackOff"}}"#, true),
        (r#"{"exact": {"type": "com.a", "reason": "x"}}"#, false),
        (r#"{"exact": {"eventcount": "3", "specversion": "1.0"}}"#, true),
        (r#"{"prefix": {"subject": "file."}}"#, true),
        (r#"{"suffix": {"subject": ".png"}}"#, true),
        (r#"{"suffix": {"subject": ".jpg"}}"#, false),
        (r#"{"exact": {"missing": "x"}}"#, false),
        (r#"{"not": {"exact": {"missing": "x"}}}"#, true),
        (r#"{"any": [{"exact": {"type": "x"}}, {"prefix": {"type": "com"}}]}"#, true),
        (r#"{"all": [{"exact": {"type": "x"}}, {"prefix": {"type": "com"}}]}"#, false),
    ] {
        let dialect = dialect(json);
        dialect.validate().unwrap();
        assert_eq!(holds(&dialect, &event("t")), expected, "{json}");
    }
}

#[test]
fn a_wrong_dialect_is_refused_with_the_reason() {
    for (json, word) in [
        (r#"{"exact": {}}"#, "at least one attribute"),
        (r#"{"all": []}"#, "all: needs at least one"),
        (r#"{"not": {"any": []}}"#, "any: needs at least one"),
        (r#"{"prefix": {"Type": "x"}}"#, "only a-z and 0-9"),
        (r#"{"exact": {"data": "x"}}"#, "data"),
        (r#"{"suffix": {"type": ""}}"#, "empty"),
    ] {
        let error = dialect(json).validate().unwrap_err();
        assert!(error.contains(word), "{json}: {error}");
    }
    for json in [r#"{"exakt": {"type": "x"}}"#, r#"{"exact": {"a": "b"}, "not": {}}"#, "{}"] {
        assert!(serde_json::from_str::<Dialect>(json).is_err(), "{json}");
    }
    let exact = dialect(r#"{"exact": {"type": "a"}}"#);
    let nested = |n| (1..n).fold(exact.clone(), |inner, _| Dialect::Not(Box::new(inner)));
    nested(DEPTH_MAX).validate().unwrap();
    assert!(nested(DEPTH_MAX + 1).validate().unwrap_err().contains("32"));
    assert!(Dialect::Any(vec![exact; CLAUSES_MAX]).validate().unwrap_err().contains("1024"));
}

#[test]
fn a_refusal_names_the_clause_that_said_no() {
    for (json, expected) in [
        (r#"{"exact": {"type": "a"}}"#, r#"exact type = "a" (is "com.a")"#),
        (r#"{"prefix": {"type": "com", "zone": "x"}}"#, r#"prefix zone = "x" (is missing)"#),
        (
            r#"{"all": [{"suffix": {"type": "a"}}, {"suffix": {"type": "b"}}]}"#,
            r#"suffix type = "b" (is "com.a")"#,
        ),
        (
            r#"{"any": [{"exact": {"type": "a"}}, {"exact": {"id": "2"}}]}"#,
            r#"any of: exact type = "a" (is "com.a"); exact id = "2" (is "1")"#,
        ),
        (
            r#"{"not": {"all": [{"exact": {"id": "1"}}, {"prefix": {"type": "c"}}]}}"#,
            r#"not (exact id = "1" and prefix type = "c")"#,
        ),
    ] {
        assert_eq!(dialect(json).refusal(&event("t")).as_deref(), Some(expected));
    }
}

#[derive(Debug)]
struct Broken;
impl Predicate for Broken {
    fn matches(&self, _: &View<'_>) -> Result<bool, PredicateError> {
        Err(PredicateError { kind: "cast", message: "no number".into() })
    }
    fn refusal(&self, _: &Envelope) -> Option<String> {
        None
    }
    fn text(&self) -> String {
        "INT(type) = 1".into()
    }
}

#[test]
fn a_selector_names_the_first_part_that_said_no() {
    let topic = Topic::parse("k8s/x").unwrap();
    let put = Envelope::put(topic.clone(), Key::new("east", "T", "n"), "1", "");
    let gone = Envelope::delete(topic, Key::new("east", "T", "n"), "1", Cause::Deleted);
    let on = |filter| Selector::topic(TopicFilter::parse(filter).unwrap());
    let named = |name: &'static str| Selector { name: Some(name.into()), ..Selector::state("east", "T") };
    let typed: Arc<dyn Predicate> = Arc::new(dialect(r#"{"exact": {"id": "7"}}"#));
    let cases = [
        (on("a/+"), &put, Some(r#"topic "a/+" (is "k8s/x")"#)),
        (Selector::state("west", "T"), &put, Some(r#"scope = "west" (is "east")"#)),
        (Selector::state("east", "U"), &gone, Some(r#"type_url = "U" (is "T")"#)),
        (named("m"), &put, Some(r#"name = "m" (is "n")"#)),
        (named("n").and(typed), &put, Some(r#"exact id = "7" (is "")"#)),
        (named("n"), &gone, None),
        (on("k8s/#"), &put, None),
        (on("k8s/#").and(Arc::new(Broken)), &put, Some("INT(type) = 1 failed: cast: no number")),
    ];
    for (selector, envelope, expected) in cases {
        assert_eq!(selector.refusal(envelope).as_deref(), expected);
        assert_eq!(selector.matches(envelope).unwrap_or(false), expected.is_none());
    }
    let refusal = Selector::state("east", "T").refusal(&event("t")).unwrap();
    assert_eq!(refusal, r#"scope = "east" (is an event, not state)"#);
    assert!(!Selector::state("east", "T").matches(&event("t")).unwrap());
    assert!(Selector::default().and(Arc::new(Broken)).matches(&event("t")).is_err());
    assert_eq!(on("x").and(Arc::new(Broken)).matches(&event("t")), Ok(false));
}

#[test]
fn a_long_value_is_cut_in_a_refusal() {
    let mut envelope = event("t");
    envelope.kind = "é".repeat(1000).into();
    let refusal = dialect(r#"{"exact": {"type": "a"}}"#).refusal(&envelope).unwrap();
    assert!(refusal.ends_with("é\"…)") && refusal.chars().count() < 120, "{refusal}");
}

fn any_dialect() -> impl Strategy<Value = Dialect> {
    let name = prop_oneof![Just("type"), Just("id"), Just("subject"), Just("ext")];
    let attributes = proptest::collection::btree_map(name.prop_map(str::to_owned), "[ab]{0,2}", 0..3);
    let leaf = prop_oneof![
        attributes.clone().prop_map(Dialect::Exact),
        attributes.clone().prop_map(Dialect::Prefix),
        attributes.prop_map(Dialect::Suffix),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Dialect::All),
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Dialect::Any),
            inner.prop_map(|dialect| Dialect::Not(Box::new(dialect))),
        ]
    })
}

fn any_event() -> impl Strategy<Value = Envelope> {
    let text = || proptest::option::of("[ab]{0,3}");
    ("[ab]{1,2}", "[ab]{1,3}", text(), text()).prop_map(|(id, kind, subject, ext)| {
        let mut envelope = Envelope::event(Topic::parse("t").unwrap(), id, "s", kind);
        envelope.subject = subject.map(Into::into);
        if let Some(ext) = ext {
            envelope.extensions.set("ext", ext);
        }
        envelope
    })
}

/// The expression that says what a dialect does. An attribute that is not there is an error for SQL and no error
/// for a dialect, so the expression asks for it first.
fn sql(dialect: &Dialect) -> String {
    let quoted = |text: &str| text.replace('\'', "''");
    let literal = |text: &str| quoted(text).replace('%', "\\%").replace('_', "\\_");
    let clauses = |attributes: &Attributes, clause: &dyn Fn(&str) -> String| {
        let each =
            attributes.iter().map(|(name, text)| format!("(EXISTS {name} AND {name} {})", clause(text)));
        let each: Vec<String> = each.collect();
        if each.is_empty() { "TRUE".to_owned() } else { format!("({})", each.join(" AND ")) }
    };
    let list = |list: &[Dialect], word: &str, none: &str| match list {
        [] => none.to_owned(),
        list => format!("({})", list.iter().map(sql).collect::<Vec<_>>().join(word)),
    };
    match dialect {
        Dialect::Exact(attributes) => clauses(attributes, &|text| format!("= '{}'", quoted(text))),
        Dialect::Prefix(attributes) => clauses(attributes, &|text| format!("LIKE '{}%'", literal(text))),
        Dialect::Suffix(attributes) => clauses(attributes, &|text| format!("LIKE '%{}'", literal(text))),
        Dialect::All(all) => list(all, " AND ", "TRUE"),
        Dialect::Any(any) => list(any, " OR ", "FALSE"),
        Dialect::Not(dialect) => format!("NOT ({})", sql(dialect)),
        Dialect::Sql(expression) => format!("({})", expression.text()),
    }
}

fn short_filter() -> impl Strategy<Value = TopicFilter> {
    "(a|[$]x|[+])?(/(a|[$]x|[+])?){0,2}|((a|[$]x|[+]|)/){0,2}[#>]"
        .prop_filter_map("not empty", |text| TopicFilter::parse(&text).ok())
}

fn all_topics(levels: &[&str], depth: usize) -> Vec<Topic> {
    let mut texts: Vec<String> = levels.iter().map(|&level| level.to_owned()).collect();
    let mut last = texts.clone();
    for _ in 1..depth {
        last = last
            .iter()
            .flat_map(|text| levels.iter().map(move |level| format!("{text}/{level}")))
            .collect();
        texts.extend(last.iter().cloned());
    }
    texts.into_iter().filter_map(|text| Topic::parse(text).ok()).collect()
}

fn not(dialect: &Dialect) -> Dialect {
    Dialect::Not(Box::new(dialect.clone()))
}

/// NATS's own rule, on subjects.
fn nats_matches(filter: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for want in filter.split('.') {
        match tokens.next() {
            Some(_) if want == ">" => return true,
            Some(have) if want == "*" || want == have => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

proptest! {
    #[test]
    fn dialects_obey_the_laws_of_logic(list in proptest::collection::vec(any_dialect(), 0..4), event in any_event()) {
        let (all, any) = (Dialect::All(list.clone()), Dialect::Any(list.clone()));
        let negated: Vec<_> = list.iter().map(not).collect();
        prop_assert_eq!(holds(&not(&not(&all)), &event), holds(&all, &event));
        prop_assert_eq!(holds(&not(&all), &event), holds(&Dialect::Any(negated.clone()), &event));
        prop_assert_eq!(holds(&not(&any), &event), holds(&Dialect::All(negated), &event));
        prop_assert_eq!(holds(&all, &event), list.iter().all(|dialect| holds(dialect, &event)));
        prop_assert_eq!(holds(&any, &event), list.iter().any(|dialect| holds(dialect, &event)));
    }

    #[test]
    fn there_is_a_refusal_exactly_when_it_does_not_match(dialect in any_dialect(), event in any_event()) {
        prop_assert_eq!(dialect.refusal(&event).is_none(), holds(&dialect, &event));
        drop((dialect.text(), dialect.validate()));
    }

    #[test]
    fn each_dialect_equals_its_sql_form(dialect in any_dialect(), event in any_event()) {
        let text = sql(&dialect);
        let expression = Expression::filter(&text).unwrap();
        prop_assert_eq!(expression.wants(&View::of(&event)), Ok(holds(&dialect, &event)), "{}", text);
        let as_dialect = Dialect::Sql(expression);
        prop_assert_eq!(holds(&not(&as_dialect), &event), !holds(&dialect, &event));
    }

    #[test]
    fn a_filter_reads_back_from_its_text(text in "[a+#*>/.$]{1,8}") {
        if let Ok(filter) = TopicFilter::parse(&text) {
            prop_assert_eq!(TopicFilter::parse(&filter.to_string())?, filter);
        }
        if let Ok(filter) = TopicFilter::parse_mqtt(&text) {
            prop_assert_eq!(filter.to_string(), text);
        }
    }

    #[test]
    fn a_filter_without_wildcards_wants_its_own_topic_only(a in "[a/.$]{1,4}", b in "[a/.$]{1,4}") {
        let filter = TopicFilter::parse(&a)?;
        let own = filter.literal_topic().unwrap();
        prop_assert_eq!(own.as_str(), &*a);
        prop_assert_eq!(filter.matches(&Topic::parse(b.clone())?), a == b);
    }

    #[test]
    fn a_subject_filter_wants_what_nats_would_deliver(
        filter in "([ab*.]|//|[.]/){1,6}(\\.>)?",
        topic in "[ab./]{1,6}",
    ) {
        // NATS itself compares tokens of subjects; the filter compares levels of topics.
        if let (Ok(read), Ok(topic)) = (TopicFilter::parse_subject(&filter), Topic::parse(topic)) {
            let subject = crate::core::spelling::to_subject(&topic)?;
            prop_assert_eq!(read.matches(&topic), nats_matches(&filter, &subject), "{} {}", filter, subject);
        }
    }

    #[test]
    fn a_filter_covers_another_when_it_wants_all_the_other_wants(a in short_filter(), b in short_filter()) {
        // Longer than any of the filters, and with a level none of them names: these topics decide it.
        let topics = all_topics(&["", "a", "$x", "other"], 4);
        let wants_all = topics.iter().all(|topic| a.matches(topic) || !b.matches(topic));
        prop_assert_eq!(a.covers(&b), wants_all, "{} {}", a, b);
    }

    #[test]
    fn filter_readers_never_panic(text in any::<String>()) {
        drop((TopicFilter::parse(&text), TopicFilter::parse_mqtt(&text), TopicFilter::parse_subject(&text)));
    }
}
