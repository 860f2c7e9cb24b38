//! `explain`: what each route would do with an event, and the weakest guarantee on the way.

use bytes::Bytes;
use bytestring::ByteString;
use serde_json::{Value, json};

use super::App;
use crate::config::Section;
use crate::core::consumer::Source;
use crate::core::delivery::Guarantee;
use crate::core::route::Explanation;
use crate::core::template::{Spelling, Template};
use crate::core::{Envelope, Topic};
use crate::schema::cloudevents::json;

/// The topic of an event that names none: what an HTTP listener does by default.
const DEFAULT_TOPIC: &str = "events/{type}";

impl App {
    /// What each route would do with a structured `CloudEvent`.
    ///
    /// The members `mbtopic` and `mbconnector` of the event say on which topic and by which connector it is
    /// taken to come in; without them the topic is `events/{type}` and the connector any.
    ///
    /// # Errors
    /// Says what is wrong with the event.
    pub fn explain(&self, event: &Bytes) -> Result<Value, String> {
        let placeholder = Topic::parse("events").map_err(|error| error.to_string())?;
        let mut envelope = json::decode(event, placeholder).map_err(|error| error.to_string())?;
        let connector = envelope.extensions.remove("mbconnector").map(|value| value.to_text());
        envelope.topic = match envelope.extensions.remove("mbtopic") {
            Some(topic) => Topic::parse(topic.to_text()).map_err(|error| error.to_string())?,
            None => Template::parse(DEFAULT_TOPIC, Spelling::Topic).and_then(|template| {
                template.render_topic(&envelope, "").map_err(|reason| reason.to_string())
            })?,
        };
        envelope.validate().map_err(|error| error.to_string())?;
        let ingress = connector.unwrap_or_default();
        let came_in = self.0.connectors.lock().get(&ingress).map(|running| running.ingress.clone());
        let routes: Vec<Value> = self
            .0
            .router
            .routes()
            .iter()
            .map(|(_, spec, _)| {
                let explanation = spec.explain(&envelope, &ingress);
                let decided = self.decided(&spec.from, &explanation.conditions);
                to_json(&explanation, came_in.as_ref(), decided)
            })
            .collect();
        let taken = routes.iter().any(|route| route["takes"] == json!(true));
        Ok(json!({
            "event": {"id": &*envelope.id, "source": &*envelope.source, "type": &*envelope.kind},
            "topic": envelope.topic.as_str(),
            "connector": if ingress.is_empty() { Value::Null } else { json!(&*ingress) },
            "redelivery": came_in.as_ref().map(|guarantee| json!({
                "identity": guarantee.identity,
                "because": &*guarantee.because,
            })),
            "routes": routes,
            "delivered_without_routes": !taken,
        }))
    }

    /// Who decides which part of what a route with conditions wants: the peers its connectors subscribe at, the
    /// topics the bus looks up, and the bus for each event. Conditions are not sent to any peer.
    fn decided(&self, from: &[Source], conditions: &[String]) -> Value {
        let mut parts = Vec::new();
        let mut decided = |part: String, by: String| parts.push(json!({"part": part, "by": by}));
        if !conditions.is_empty() {
            let config = self.config();
            for source in from {
                let client = source.connector.as_deref().and_then(|name| config.connector(name));
                let asked = client.and_then(|client| client.section.get("subscribe"));
                for asked in asked.iter().flat_map(Section::items) {
                    let filter = ["topic", "subject"].iter().find_map(|key| asked.get(key));
                    if let (Some(client), Some(filter)) = (client, filter.as_ref().and_then(Section::text))
                    {
                        decided(format!("subscribe {filter}"), format!("the peer of {}", client.name));
                    }
                }
                if let Some(topic) = &source.topic {
                    decided(format!("topic {topic}"), "the bus, once for each topic".to_owned());
                }
            }
        }
        for condition in conditions {
            decided(condition.clone(), "the bus, for each event".to_owned());
        }
        parts.into()
    }

    /// An envelope as the configuration's own tests and `explain` read it.
    ///
    /// # Errors
    /// Says what is wrong with the event.
    pub fn routes_of(&self, envelope: &Envelope, ingress: &str) -> Vec<Explanation> {
        self.0.router.routes().iter().map(|(_, spec, _)| spec.explain(envelope, ingress)).collect()
    }
}

fn to_json(route: &Explanation, came_in: Option<&Guarantee>, decided: Value) -> Value {
    let sinks: Vec<Value> = route
        .sinks
        .iter()
        .map(|sink| {
            json!({
                "connector": &*sink.connector,
                "address": sink.address.as_deref(),
                "refused": sink.refused,
                "guarantee": sink.guarantee.as_ref().map(guarantee),
            })
        })
        .collect();
    let filters: Vec<Value> =
        route.filters.iter().map(|filter| json!({"name": &*filter.name, "does": filter.does})).collect();
    let on_the_way = || {
        let ingress = came_in.map(|guarantee| (ByteString::from_static("in"), guarantee));
        let sinks = route.sinks.iter().filter(|sink| sink.refused.is_none());
        ingress.into_iter().chain(
            sinks.filter_map(|sink| sink.guarantee.as_ref().map(|found| (sink.connector.clone(), found))),
        )
    };
    let weakest = on_the_way().min_by_key(|(_, guarantee)| guarantee.assurance).map(
        |(hop, found)| json!({"hop": &*hop, "assurance": assurance(found), "because": &*found.because}),
    );
    json!({
        "route": &*route.route,
        "takes": route.refused.is_none(),
        "refused": route.refused,
        "filters": filters,
        "sinks": sinks,
        "weakest": weakest,
        "decided": decided,
    })
}

fn guarantee(guarantee: &Guarantee) -> Value {
    json!({"assurance": assurance(guarantee), "because": &*guarantee.because})
}

fn assurance(guarantee: &Guarantee) -> &'static str {
    match guarantee.assurance {
        crate::core::delivery::Assurance::AtMostOnce => "at most once",
        crate::core::delivery::Assurance::AtLeastOnce => "at least once",
    }
}
