//! `topic`: a filter that puts an event on another topic, by a template.
//!
//! ```yaml
//! filters:
//!   - topic: "alerts/{severity|unknown}/{topic.1}"
//! ```
//!
//! The topic is what `{topic}` stands for in the filters and addresses that follow, and what orders events without
//! a key. Each value fills one token; a missing one without default rejects the event.

use std::sync::Arc;

use bytestring::ByteString;
use schemars::{Schema, json_schema};

use super::Kind;
use super::stateless::{Judge, Stateless};
use crate::config::{ConfigError, Section};
use crate::core::filter::{FilterFactory, Input, Verdict};
use crate::core::template::{Spelling, Template};

/// `topic`.
#[derive(Debug)]
pub struct Retopic;

#[derive(Debug)]
struct Retopicker(Template);

impl Kind for Retopic {
    fn name(&self) -> &'static str {
        "topic"
    }

    fn schema(&self) -> Schema {
        json_schema!({
            "description": "A template of the new topic, such as `alerts/{severity|unknown}`.",
            "type": "string",
        })
    }

    fn read(&self, section: &Section) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let text: String = section.parse()?;
        let template =
            Template::parse(&text, Spelling::Topic).map_err(|reason| section.error("", reason))?;
        Ok(Stateless::factory(Retopicker(template)))
    }
}

impl Judge for Retopicker {
    fn name(&self) -> ByteString {
        format!("topic {}", self.0.text()).into()
    }

    fn judge(&self, input: &Input<'_>) -> Verdict {
        match self.0.render_topic(input.envelope, input.route) {
            Ok(topic) if topic == input.envelope.topic => Verdict::Pass,
            Ok(topic) => {
                let mut envelope = input.envelope.clone();
                envelope.topic = topic;
                Verdict::Change(Box::new(envelope))
            }
            Err(reason) => Verdict::Reject(reason),
        }
    }
}
