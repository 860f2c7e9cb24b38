//! `meshbus address`: one thing in all five spellings.

use clap::{Args, ValueEnum};
use serde_json::json;

use super::output::Output;
use super::state::full_name;
use super::{Failure, output};
use crate::core::spelling::{from_kv_key, from_subject, to_kv_key, to_subject};
use crate::core::topic::InvalidTopic;
use crate::core::{Key, Topic};
use crate::schema::address::{key_at, kubernetes_path, topic_of};
use crate::schema::kinds::type_url;

/// Show one thing in all spellings: topic, NATS subject, NATS key, Kubernetes path, XDS type and name
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus address sensors/a.1/temp
  meshbus address --as subject sensors.a//1.temp
  meshbus address apps/v1/Deployment web/shop --scope east
  meshbus address envoy.config.cluster.v3.Cluster outbound/x --scope istiod

A Kubernetes plural that is not the bus's own is guessed from its kind.")]
pub(super) struct Address {
    /// A topic (or what --as says), or a type and a name
    #[arg(value_name = "ADDRESS", num_args = 1..=2, required = true)]
    words: Vec<String>,
    /// What ADDRESS is
    #[arg(long = "as", value_enum, default_value_t = Form::Topic, value_name = "FORM")]
    form: Form,
    /// Whose state it is, where the address does not say
    #[arg(long, default_value = Key::LOCAL)]
    scope: String,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// What an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Levels with / between
    Topic,
    /// NATS subject
    Subject,
    /// NATS key-value key
    Key,
}

impl Address {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (topic, key) = self.read()?;
        let xds = key.as_ref().map(|key| format!("{} {}", key.type_url, key.name));
        let unkeyed = "none: no state lives there".to_owned();
        let subject = match &topic {
            Ok(topic) => to_subject(topic).map_err(|error| error.to_string()),
            Err(reason) => Err(reason.clone()),
        };
        let kv = match &topic {
            Ok(topic) => to_kv_key(topic).map_err(|error| error.to_string()),
            Err(reason) => Err(reason.clone()),
        };
        let path = key
            .as_ref()
            .map(|key| kubernetes_path(key).ok_or("none: its type is no kind of its own".to_owned()));
        let lines = [
            ("topic", "topic", topic.map(|topic| topic.to_string())),
            ("NATS subject", "subject", subject),
            ("NATS key", "key", kv),
            ("Kubernetes path", "path", path.unwrap_or(Err(unkeyed.clone()))),
            ("XDS type and name", "xds", xds.ok_or(unkeyed)),
        ];
        if self.output == Output::Json {
            let mut object = serde_json::Map::new();
            for (_, name, text) in &lines {
                object.insert((*name).to_owned(), json!(text.as_ref().ok()));
            }
            object.insert("scope".to_owned(), json!(key.as_ref().map(|key| &*key.scope)));
            return output::line(output::pretty(&object.into())?);
        }
        let mut text = Vec::new();
        for (label, _, spelled) in lines {
            let spelled = spelled.unwrap_or_else(|reason| format!("({reason})"));
            text.push(format!("{label:17}  {}", output::shown(&spelled)));
        }
        if let Some(key) = key.filter(|key| &*key.scope != Key::LOCAL) {
            text.push(format!("{:17}  {}", "scope", output::shown(&key.scope)));
        }
        output::line(text.join("\n"))
    }

    /// The topic, or why there is none; and the key, where state lives there.
    fn read(&self) -> Result<(Result<Topic, String>, Option<Key>), Failure> {
        let wrong = |error: InvalidTopic| Failure::usage(error.to_string());
        match self.words.as_slice() {
            [kind, name] => {
                if self.form != Form::Topic {
                    return Err(Failure::usage("--as is about one ADDRESS, not a type and a name"));
                }
                let kind = type_url(kind).map_err(Failure::usage)?;
                let name = full_name(&kind, name, None)?;
                let key = Key::new(self.scope.clone(), kind.into_owned(), name);
                Ok((topic_of(&key).map_err(|reason| format!("none: {reason}")), Some(key)))
            }
            [address] => {
                let topic = match self.form {
                    Form::Topic => Topic::parse(address.clone()),
                    Form::Subject => from_subject(address),
                    Form::Key => from_kv_key(address),
                };
                let topic = topic.map_err(wrong)?;
                let key = key_at(&topic, &self.scope);
                Ok((Ok(topic), key))
            }
            _ => Err(Failure::usage("an address, or a type and a name")),
        }
    }
}
