//! State outputs of routes: an event becomes the value of a key, or its end.

use meshbus::core::route::{Router, Sink, To};
use meshbus::core::template::{Spelling, Template};
use meshbus::core::{Bus, Envelope, Key, Outcome, Version};
use meshbus::schema::address;

use super::routes::{fates, route, start};
use super::{event, small_bus};

fn state(template: &str) -> To {
    let topic = Template::parse(template, Spelling::Topic).expect("valid");
    To { output: None, sink: Sink::State { topic, key_at: address::key_at } }
}

fn about(id: &str, subject: &str, data: &'static str) -> Envelope {
    let mut envelope = event("alerts/x", 0);
    envelope.id = id.to_owned().into();
    envelope.subject = Some(subject.to_owned().into());
    envelope.data = data.into();
    envelope
}

fn value(bus: &Bus, key: &Key) -> Option<String> {
    bus.get(key).map(|record| String::from_utf8_lossy(&record.envelope.data).into_owned())
}

async fn publish(bus: &Bus, envelope: Envelope) -> Outcome {
    let receipts = bus.ingress("in", "in").publish(vec![envelope]).await;
    fates(&receipts).await.pop().expect("one")
}

#[tokio::test(start_paused = true)]
async fn an_event_becomes_the_value_at_the_topic_and_one_without_data_its_end() {
    let bus = small_bus(64);
    let router = Router::new(bus.clone());
    let _worker = start(&router, route("keep", "alerts/#", vec![state("alarms/{subject}")]));
    let key = Key::new(Key::LOCAL, Key::VALUE, "alarms/a%2Fb");
    assert_eq!(publish(&bus, about("1", "a/b", "hot")).await, Outcome::Delivered);
    assert_eq!(value(&bus, &key).as_deref(), Some("hot"));
    assert_eq!(publish(&bus, about("2", "a/b", "cold")).await, Outcome::Delivered);
    assert_eq!(value(&bus, &key).as_deref(), Some("cold"));
    let record = bus.get(&key).expect("it is there");
    assert_eq!(record.envelope.change.key(), Some(&key));
    assert_eq!(publish(&bus, about("3", "a/b", "")).await, Outcome::Delivered);
    assert_eq!(value(&bus, &key), None);
    // To delete what is not there is no failure.
    assert_eq!(publish(&bus, about("4", "a/b", "")).await, Outcome::Filtered);
}

#[tokio::test(start_paused = true)]
async fn resources_and_objects_are_written_under_their_topics() {
    let bus = small_bus(64);
    let router = Router::new(bus.clone());
    let to = vec![
        state("xds/local/envoy.config.cluster.v3.Cluster/{subject}"),
        state("k8s/local/core/v1/ConfigMap/default/{subject}"),
    ];
    let _worker = start(&router, route("keep", "alerts/#", to));
    assert_eq!(publish(&bus, about("1", "a", "x")).await, Outcome::Delivered);
    let cluster = Key::new(Key::LOCAL, "type.googleapis.com/envoy.config.cluster.v3.Cluster", "a");
    assert_eq!(value(&bus, &cluster).as_deref(), Some("x"));
    let object = Key::new(Key::LOCAL, "core/v1/ConfigMap", "default/a");
    assert_eq!(value(&bus, &object).as_deref(), Some("x"));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_key_ends_what_was_made_of_it() {
    let bus = small_bus(64);
    let router = Router::new(bus.clone());
    let _worker = start(&router, route("keep", "sensors/#", vec![state("copies/{topic.1}")]));
    let (source, copy) =
        (Key::new("in", Key::VALUE, "sensors/t"), Key::new(Key::LOCAL, Key::VALUE, "copies/t"));
    let topic = meshbus::core::Topic::parse("sensors/t").expect("valid");
    let put = Envelope::put(topic.clone(), source.clone(), "1", "21");
    assert_eq!(publish(&bus, put).await, Outcome::Delivered);
    assert_eq!(value(&bus, &copy).as_deref(), Some("21"));
    let mut gone = Envelope::delete(topic, source, Version::from("1"), meshbus::core::Cause::Deleted);
    gone.data = "21".into();
    assert_eq!(publish(&bus, gone).await, Outcome::Delivered);
    assert_eq!(value(&bus, &copy), None);
}

#[tokio::test(start_paused = true)]
async fn what_the_bus_does_not_own_or_nothing_lives_at_goes_to_the_dead_letter() {
    for template in ["xds/{subject}/envoy.config.cluster.v3.Cluster/a", "k8s/{subject}"] {
        let bus = small_bus(64);
        let router = Router::new(bus.clone());
        let _worker = start(&router, route("keep", "alerts/#", vec![state(template)]));
        let Outcome::Rejected(reason) = publish(&bus, about("1", "east", "x")).await else {
            panic!("{template} was taken");
        };
        let dead = bus.recent_events(1).pop().expect("a dead letter");
        assert_eq!(dead.envelope.topic.as_str(), "dead/keep");
        let words =
            if template.starts_with("xds") { "of the scope east" } else { "no state lives at k8s/east" };
        assert!(reason.contains(words), "{reason}");
    }
}

/// What a route writes it does not take again, though it asks for it.
#[tokio::test(start_paused = true)]
async fn a_route_that_writes_where_it_reads_ends() {
    let bus = small_bus(64);
    let router = Router::new(bus.clone());
    let _worker = start(&router, route("again", "limits/#", vec![state("limits/{topic.1}")]));
    let topic = meshbus::core::Topic::parse("limits/eu").expect("valid");
    let put = Envelope::put(topic, Key::new("in", Key::VALUE, "limits/eu"), "1", "10");
    let before = bus.figures().seq;
    assert_eq!(publish(&bus, put).await, Outcome::Delivered);
    assert_eq!(bus.figures().seq.0, before.0 + 2);
}
