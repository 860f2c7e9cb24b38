//! Every topic comes back from every spelling, and no two share one.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::core::topic::{escape, unescape};

/// Levels that come close to every escape.
fn level() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z.]{0,4}",
        "[%25F0abAB=]{0,8}",
        "[^/+#\u{0}-\u{1f}\u{7f}]{0,6}",
        Just(String::new()),
        Just("*".to_owned()),
        Just(">".to_owned()),
        Just(".".to_owned()),
        Just("$SYS".to_owned()),
    ]
}

fn topic() -> impl Strategy<Value = Topic> {
    proptest::collection::vec(level(), 1..6)
        .prop_map(|levels| levels.join("/"))
        .prop_filter_map("a topic is not empty", |text| Topic::parse(text).ok())
}

/// Few letters, so that equal spellings would be met.
fn crowded_topic() -> impl Strategy<Value = Topic> {
    "[./%25FE=a ]{1,5}".prop_filter_map("a topic is not empty", |text| Topic::parse(text).ok())
}

proptest! {
    #[test]
    fn any_text_comes_back_from_a_level(token in any::<String>()) {
        let level = escape(&token);
        prop_assert!(!level.bytes().any(|b| b.is_ascii_control() || b"/+#".contains(&b)), "{level:?}");
        prop_assert_eq!(&*unescape(&level), &*token);
    }

    #[test]
    fn text_near_escapes_comes_back_from_a_level(token in "[%25F0/+#aA\n]{0,10}") {
        let level = escape(&token);
        prop_assert_eq!(&*unescape(&level), &*token);
    }

    #[test]
    fn every_level_is_the_level_of_its_token(level in level()) {
        let token = unescape(&level);
        prop_assert_eq!(&*escape(&token), &*level);
    }

    #[test]
    fn tokens_come_back_from_a_topic(tokens in proptest::collection::vec(any::<String>(), 1..6)) {
        if let Ok(topic) = Topic::from_tokens(tokens.iter().map(String::as_str)) {
            prop_assert_eq!(topic.tokens().collect::<Vec<_>>(), tokens);
        } else {
            prop_assert_eq!(tokens, [""]);
        }
    }

    #[test]
    fn a_topic_comes_back_from_its_subject(topic in topic()) {
        match to_subject(&topic) {
            Ok(subject) => prop_assert_eq!(from_subject(&subject)?, topic),
            Err(_) => prop_assert!(topic.levels().any(|l| l.contains(' ') || l == "*" || l == ">")),
        }
    }

    #[test]
    fn a_subject_comes_back_from_its_topic(subject in "[a./ *>+#%\u{e9}]{0,8}") {
        if let Ok(topic) = from_subject(&subject) {
            prop_assert_eq!(to_subject(&topic)?, subject);
        }
    }

    #[test]
    fn a_topic_comes_back_from_its_key(topic in topic()) {
        let key = to_kv_key(&topic)?;
        prop_assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-/_=.".contains(&b)), "{key}");
        prop_assert!(!key.starts_with('.') && !key.ends_with('.') && !key.contains(".."), "{key}");
        prop_assert_eq!(from_kv_key(&key)?, topic);
    }

    #[test]
    fn a_key_comes_back_from_its_topic(key in "[a./=23DE]{0,8}") {
        if let Ok(topic) = from_kv_key(&key) {
            prop_assert_eq!(to_kv_key(&topic)?, key);
        }
    }

    #[test]
    fn no_two_topics_share_a_spelling(topics in proptest::collection::vec(crowded_topic(), 2..200)) {
        let (mut subjects, mut keys) = (HashMap::new(), HashMap::new());
        for topic in topics {
            if let Ok(subject) = to_subject(&topic) {
                let other = subjects.insert(subject, topic.clone());
                prop_assert!(other.is_none_or(|other| other == topic));
            }
            let other = keys.insert(to_kv_key(&topic)?, topic.clone());
            prop_assert!(other.is_none_or(|other| other == topic));
        }
    }

    #[test]
    fn a_path_segment_is_one_the_api_server_takes(name in any::<String>()) {
        let segment = path_segment(&name);
        prop_assert!(!segment.is_empty() && segment.len() <= SEGMENT_MAX);
        prop_assert!(segment != "." && segment != ".." && !segment.contains(['/', '%']), "{segment}");
        // Never the segment of another name, and the segment of a segment is another one.
        prop_assert!(segment == name || path_segment(&segment) != segment);
    }

    #[test]
    fn an_objects_name_is_one_that_all_kinds_take(name in prop_oneof![any::<String>(), "[a-zA-Z0-9.-]{0,9}"]) {
        let object = object_name(&name);
        let label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'))
        };
        prop_assert!(object.len() <= SEGMENT_MAX && object.split('.').all(label), "{object}");
        prop_assert!(object == name || object_name(&object) != object);
    }

    #[test]
    fn decoders_never_panic(text in any::<String>()) {
        drop((from_subject(&text), from_kv_key(&text)));
    }
}

/// As nats-server 2.15.1 itself maps what is published over MQTT to it.
#[test]
fn subjects_follow_the_rule_of_nats_server() {
    for (topic, subject) in [
        ("a/b", "a.b"),
        ("a.b/c", "a//b.c"),
        ("/a", "/.a"),
        ("a/", "a./"),
        ("a//b", "a./.b"),
        (".", "//"),
        ("..", "////"),
        ("//", "/././"),
        ("a/...b", "a.//////b"),
        ("x/é/%25", "x.é.%25"),
        ("a/%2Fb", "a.%2Fb"),
        ("a/b*/>c", "a.b*.>c"),
    ] {
        assert_eq!(to_subject(&Topic::parse(topic).unwrap()).unwrap(), subject);
        assert_eq!(from_subject(subject).unwrap().as_str(), topic);
    }
}

#[test]
fn what_has_no_subject_is_refused_by_name() {
    for (topic, word) in [("a/b c", "space"), ("a/*", "wildcard"), (">/a", "wildcard")] {
        let error = to_subject(&Topic::parse(topic).unwrap()).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains(topic), "{error}");
    }
    for (subject, word) in [
        ("", "empty token"),
        ("a..b", "empty token"),
        (".a", "empty token"),
        ("a.*", "wildcard"),
        ("a.>", "wildcard"),
        ("a.b c", "white space"),
        ("a.b\r\n", "control"),
        ("a.+", "%2B"),
        ("a.b#", "%23"),
        ("a/b", "single /"),
        ("a.///", "single /"),
    ] {
        let error = from_subject(subject).unwrap_err().to_string();
        assert!(error.contains(word), "{subject:?}: {error}");
    }
}

#[test]
fn keys_escape_what_a_bucket_refuses() {
    for (topic, key) in [
        ("a/b-c_d.e", "a/b-c_d.e"),
        (".a.", "=2Ea=2E"),
        ("a...b", "a.=2E=2Eb"),
        ("a=b", "a=3Db"),
        ("k8s/é", "k8s/=C3=A9"),
        ("a//b/", "a//b/"),
    ] {
        assert_eq!(to_kv_key(&Topic::parse(topic).unwrap()).unwrap(), key);
        assert_eq!(from_kv_key(key).unwrap().as_str(), topic);
    }
    for key in ["a=b", "a=", "a=6", "=61", "=2e", "a..b", ".a", "a.", "=FF", "a b", "=2B", ""] {
        assert!(from_kv_key(key).is_err(), "{key}");
    }
}

#[test]
fn a_spelling_that_would_be_too_long_is_refused() {
    let dots = Topic::parse(format!("a{}b", ".".repeat(3000))).unwrap();
    assert!(to_subject(&dots).unwrap_err().to_string().contains("4096"));
    assert!(to_kv_key(&dots).unwrap_err().to_string().contains("4096"));
}

#[test]
fn a_name_that_fits_one_segment_stays() {
    for name in ["a", "outbound|8080||web.default.svc.cluster.local", "Upper_Case", "a:b", "...", "é"] {
        assert_eq!(path_segment(name), name);
    }
    let longest = "n".repeat(SEGMENT_MAX);
    assert_eq!(path_segment(&longest), longest);
}

#[test]
fn a_name_that_does_not_fit_becomes_a_slug_with_a_hash() {
    let segment = path_segment("//Listener/a.b%c/");
    assert_eq!(segment, "listener-a-b-c-ql4fydogp3lha526q65nuwc6jn");
    for name in ["", ".", "..", "///", "é/é", "a\nb"] {
        let segment = path_segment(name);
        assert!(ends_in_hash(&segment) && !segment.starts_with('-') && segment.len() <= 63, "{segment}");
    }
    let long = path_segment(&"N".repeat(SEGMENT_MAX + 1)).into_owned();
    assert_eq!(long.len(), 63);
}

#[test]
fn a_name_that_looks_made_up_does_not_take_the_segment_of_another() {
    let made_up = path_segment("a/b").into_owned();
    let of_the_look_alike = path_segment(&made_up);
    assert_ne!(of_the_look_alike, made_up);
    assert!(ends_in_hash(&of_the_look_alike));
    // The other end of the same rule: too few, too many or other digits are no hash.
    for name in ["web-7d4b9c6f5-x2x7z", "a-abcdefghijklmnopqrstuvwxyz2", "a-abcdefghijklmnopqrstuvwxy1"] {
        assert_eq!(path_segment(name), name);
    }
}
