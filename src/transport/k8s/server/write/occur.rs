//! Publishing an event by creating a `CloudEvent`.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::super::access::Target;
use super::super::answer::Answer;
use super::{Writing, body, metadata, refused};
use crate::core::access::Action;
use crate::core::spelling::path_segment;
use crate::core::{Topic, uuid};
use crate::schema::cloudevents;
use crate::transport::k8s::codec::status::{Reason, Status};

/// The attribute that names the topic, as readers of other protocols are told it.
const TOPIC: &str = "mbtopic";

impl Writing<'_> {
    /// `POST` of a `CloudEvent`: its `spec` is the event in the JSON format, `spec.mbtopic` its topic
    /// (default `events/{type}`). Answered when the log has it.
    pub(super) async fn publish(&mut self) -> Result<Answer, Status> {
        let (mut object, _) =
            body::object(self.kind(), &self.call.headers, &self.call.body, self.options.validation)?;
        let spec = object.get("spec").cloned().unwrap_or(Value::Null);
        let (event, topic) = Self::read(spec, &object)?;
        let definition = &self.kind().definition;
        let target = Target { definition, subresource: "", namespace: "", name: "" };
        self.caller.authorize_object(Action::Publish, &topic, "create", target)?;
        let Some(name) = self.send(event, &topic).await? else {
            return Ok(self.answer(StatusCode::CREATED, &object));
        };
        if let Some(metadata) = metadata::of(&mut object) {
            metadata.insert("name".to_owned(), json!(path_segment(&name.1)));
            metadata.insert("resourceVersion".to_owned(), json!(name.0.to_string()));
            metadata.insert("creationTimestamp".to_owned(), json!(metadata::now()));
        }
        Ok(self.answer(StatusCode::CREATED, &object))
    }

    /// The event that a spec describes, and its topic.
    fn read(mut spec: Value, object: &Value) -> Result<(crate::core::Envelope, Topic), Status> {
        let name = metadata::text(object, "name");
        let wrong = |field: &str, detail: String| {
            let message = format!("CloudEvent.meshbus.dev {name:?} is invalid: {field}: {detail}");
            Status::new(Reason::Invalid, message).about("meshbus.dev", "CloudEvent", name).cause(
                "FieldValueInvalid",
                &detail,
                field,
            )
        };
        let Some(fields) = spec.as_object_mut() else {
            return Err(wrong(
                "spec",
                "Required value: the event, in the JSON format of CloudEvents".to_owned(),
            ));
        };
        let topic = fields.remove(TOPIC);
        fields.entry("specversion").or_insert_with(|| json!("1.0"));
        fields.entry("id").or_insert_with(|| json!(uuid::random()));
        fields.entry("source").or_insert_with(|| json!("/kubernetes"));
        let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let topic = match topic {
            Some(Value::String(topic)) => Topic::parse(topic).map_err(|error| error.to_string()),
            Some(other) => Err(format!("{other} is no topic")),
            None => Topic::from_tokens(["events", &*kind]).map_err(|error| error.to_string()),
        }
        .map_err(|why| wrong("spec.mbtopic", format!("Invalid value: {why}")))?;
        let mut event = cloudevents::json::decode(&Bytes::from(spec.to_string()), topic.clone())
            .map_err(|error| wrong("spec", format!("Invalid value: {error}")))?;
        event.topic = topic.clone();
        Ok((event, topic))
    }

    /// Publishes; `None` for a dry run, else the position and the name of the event.
    async fn send(
        &self,
        event: crate::core::Envelope,
        topic: &Topic,
    ) -> Result<Option<(crate::core::Seq, String)>, Status> {
        if self.options.dry_run {
            return Ok(None);
        }
        let receipts = self.shared.bus.publish(vec![event]).await;
        let seq = match receipts.first().map(crate::core::Receipt::stored) {
            Some(Ok(seq)) => seq,
            Some(Err(refusal)) => return Err(refused::status(refusal, &self.kind().definition, "")),
            None => return Err(Status::new(Reason::InternalError, "the event was not taken")),
        };
        Ok(Some((seq, format!("{topic}/{seq}"))))
    }
}
