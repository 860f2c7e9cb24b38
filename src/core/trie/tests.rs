//! The trie gives what the naive matcher gives, whatever was inserted and removed.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

fn topic(text: &str) -> Topic {
    Topic::parse(text.to_owned()).unwrap()
}

fn collected(trie: &Trie<u32>, topic: &Topic) -> Vec<u32> {
    let mut values = Vec::new();
    trie.collect(topic, &mut values);
    values.sort_unstable();
    values
}

fn any_filter() -> impl Strategy<Value = TopicFilter> {
    let level = prop_oneof![
        3 => Just(""), 3 => Just("a"), 3 => Just("b"), 2 => Just("$x"), 3 => Just("+"), 1 => Just("*"),
    ];
    let end = prop_oneof![3 => Just(None), 1 => Just(Some("#")), 1 => Just(Some(">"))];
    (proptest::collection::vec(level, 0..5), end).prop_filter_map("not empty", |(mut levels, end)| {
        levels.extend(end);
        TopicFilter::parse(&levels.join("/")).ok()
    })
}

fn any_topic() -> impl Strategy<Value = Topic> {
    let level = prop_oneof![Just(""), Just("a"), Just("b"), Just("$x"), Just("c")];
    proptest::collection::vec(level, 1..6)
        .prop_filter_map("not empty", |levels| Topic::parse(levels.join("/")).ok())
}

proptest! {
    #[test]
    fn a_trie_equals_the_naive_matcher(
        changes in proptest::collection::vec((any_filter(), 0..4_u32, prop::bool::weighted(0.7)), 0..60),
        topics in proptest::collection::vec(any_topic(), 1..20),
    ) {
        let mut trie = Trie::new();
        let mut pairs = BTreeSet::new();
        let mut filters = Vec::new();
        for (filter, value, insert) in changes {
            let before = trie.epoch();
            // The text tells filters apart here: none was read as MQTT.
            let pair = (filter.to_string(), value);
            let changed = if insert {
                let changed = trie.insert(&filter, value);
                prop_assert_eq!(pairs.insert(pair), changed);
                changed
            } else {
                let changed = trie.remove(&filter, value);
                prop_assert_eq!(pairs.remove(&pair), changed);
                changed
            };
            prop_assert_eq!(trie.epoch() > before, changed);
            prop_assert_eq!(trie.len(), pairs.len());
            filters.push(filter);
        }
        for topic in topics {
            let wanted = pairs.iter().filter(|(text, _)| filter(text).matches(&topic));
            let mut wanted: Vec<_> = wanted.map(|(_, value)| *value).collect();
            wanted.sort_unstable();
            prop_assert_eq!(collected(&trie, &topic), wanted);
        }
        for filter in filters {
            for value in 0..4 {
                trie.remove(&filter, value);
            }
        }
        prop_assert!(trie.is_empty());
        prop_assert_eq!(trie.nodes.len(), 1, "empty nodes are pruned");
    }

    #[test]
    fn a_cache_gives_what_was_put_last_or_nothing(
        puts in proptest::collection::vec((any_topic(), 0..3_u64), 1..60),
    ) {
        let mut cache = MatchCache::with_slots(8);
        let mut last = std::collections::HashMap::new();
        for (n, (topic, epoch)) in puts.into_iter().enumerate() {
            cache.put(&topic, epoch, n);
            prop_assert_eq!(cache.get(&topic, epoch), Some(&n));
            prop_assert_eq!(cache.get(&topic, epoch + 1), None);
            last.insert(topic, (epoch, n));
        }
        for (topic, (epoch, n)) in last {
            prop_assert!(cache.get(&topic, epoch).is_none_or(|have| *have == n));
        }
    }
}

#[test]
fn a_value_comes_once_for_each_of_its_filters() {
    let mut trie = Trie::new();
    for text in ["a/#", "a/+", "a/b", "+/b", ">"] {
        assert!(trie.insert(&filter(text), 7));
        assert!(!trie.insert(&filter(text), 7), "the same pair is held once");
    }
    assert_eq!(collected(&trie, &topic("a/b")), [7; 5]);
    assert_eq!(trie.len(), 5);
    assert!(!trie.remove(&filter("a/b"), 8));
    assert!(!trie.remove(&filter("a/b/c"), 7));
}

#[test]
fn the_deepest_topic_is_matched() {
    let deep = vec!["a"; 200].join("/");
    let wild = vec!["+"; 200].join("/");
    let mut trie = Trie::new();
    trie.insert(&filter(&deep), 1);
    trie.insert(&filter(&wild), 2);
    assert_eq!(collected(&trie, &topic(&deep)), [1, 2]);
    trie.remove(&filter(&deep), 1);
    trie.remove(&filter(&wild), 2);
    assert_eq!(trie.nodes.len(), 1);
}
