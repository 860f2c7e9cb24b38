//! The configuration as it is in force: printed without secrets, and as fingerprints that tell what changed.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::load::Config;
use super::routes::{DEAD_LETTER, Destination, RouteConfig};
use super::yaml::to_yaml;

/// What stands in place of a secret.
const REDACTED: &str = "***";
/// Fields whose text is a secret, by a part of their name; `{file:}` and `{env:}` stay, as they hold none.
const SECRET_WORDS: [&str; 10] = [
    "password",
    "passphrase",
    "passwd",
    "secret",
    "token",
    "credential",
    "authorization",
    "apikey",
    "nkey",
    "seed",
];

/// Tells whether a part of the configuration changed: the same for equal values, whatever their order,
/// layout or place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0).chars().take(16).collect::<String>())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Config {
    /// YAML of the configuration in force: files merged, variables replaced, the bus's own defaults filled in;
    /// secrets and the credentials of URLs are redacted. It reads back as the same configuration, save those.
    pub fn print_redacted(&self) -> String {
        let mut value = self.effective();
        redact(&mut value, false);
        to_yaml(value)
    }

    /// Of the settings of a connector, its transport and role; `None` where there is no such connector.
    pub fn fingerprint_connector(&self, name: &str) -> Option<Fingerprint> {
        let connector = self.connector(name)?;
        let settings = connector.section.to_json();
        Some(fingerprint(&json!([connector.transport, connector.role.as_str(), settings])))
    }

    /// Of a route and of the connectors it sends to, whose settings its targets depend on; `None` where there
    /// is no such route.
    pub fn fingerprint_route(&self, name: &str) -> Option<Fingerprint> {
        let route = self.route(name)?;
        let sinks = route.to.iter().chain([&route.dead_letter]);
        let connectors: Vec<String> = sinks
            .filter_map(|sink| match &sink.place {
                Destination::Connector { name, .. } => self.fingerprint_connector(name),
                Destination::Bus(_) | Destination::State(_) => None,
            })
            .map(|fingerprint| data_encoding::HEXLOWER.encode(&fingerprint.0))
            .collect();
        Some(fingerprint(&json!([route.section.to_json(), connectors])))
    }

    /// As it stands in the files, with the bus's own defaults; nothing redacted.
    fn effective(&self) -> Value {
        let mut top = Map::new();
        top.insert("name".to_owned(), json!(self.name));
        let connectors = self.connectors.iter().map(|connector| {
            let settings = Some(connector.section.to_json()).filter(|it| !it.is_null());
            let settings = settings.unwrap_or_else(|| json!({}));
            (connector.name.clone(), json!({ connector.transport: { connector.role.as_str(): settings } }))
        });
        top.insert("connectors".to_owned(), connectors.collect());
        let routes = self.routes.iter().map(|route| (route.name.clone(), effective_route(route)));
        top.insert("routes".to_owned(), routes.collect());
        for (key, value) in [
            ("derive", self.root.get("derive").map(|derive| derive.to_json()).unwrap_or_default()),
            ("event_log", json!(self.event_log)),
            ("state", json!(self.state)),
            ("descriptors", self.root.get("descriptors").map(|files| files.to_json()).unwrap_or_default()),
            ("access", json!(self.access)),
            ("insecure", json!(self.insecure)),
            ("logging", json!(self.logging)),
            ("admin", json!(self.admin)),
            ("health", json!(self.health)),
            ("shutdown", json!(self.shutdown)),
            ("tests", self.root.get("tests").map(|tests| tests.to_json()).unwrap_or_default()),
        ] {
            if !value.is_null() && value != json!([]) {
                top.insert(key.to_owned(), value);
            }
        }
        Value::Object(top)
    }
}

fn effective_route(route: &RouteConfig) -> Value {
    let mut value = route.section.to_json();
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, field| !field.is_null());
        fields.insert("retry".to_owned(), json!(route.retry));
        fields.entry("dead_letter").or_insert_with(|| json!({ "bus": DEAD_LETTER }));
        fields.insert("when_full".to_owned(), json!(route.when_full));
        fields.insert("in_flight".to_owned(), json!(route.in_flight));
    }
    value
}

/// Hides what is secret and writes `${` so that it reads back as itself. `secret` says that the value is that
/// of a field whose name says so.
fn redact(value: &mut Value, secret: bool) {
    match value {
        // A map's own fields say what is secret: `{file: PATH}` is not, nor is all of a connector `token-hub`.
        Value::Object(fields) => fields.iter_mut().for_each(|(key, field)| redact(field, is_secret(key))),
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, secret)),
        Value::String(text) if secret && !text.is_empty() => REDACTED.clone_into(text),
        Value::String(text) => *text = redact_url(text).replace("${", "$${"),
        Value::Number(_) if secret => *value = Value::from(REDACTED),
        _ => {}
    }
}

fn is_secret(key: &str) -> bool {
    let folded: String =
        key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SECRET_WORDS.iter().any(|word| folded.contains(word))
}

/// Without what stands before the `@` of a URL's host (in NATS a name alone is a token), and without the
/// values of secret parameters.
fn redact_url(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else { return Cow::Borrowed(text) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let host = authority.rsplit_once('@').map(|(_, host)| format!("{REDACTED}@{host}"));
    let tail = match tail.split_once('?') {
        Some((path, query)) => {
            let query: Vec<Cow<'_, str>> = query.split('&').map(redact_parameter).collect();
            format!("{path}?{}", query.join("&"))
        }
        None => tail.to_owned(),
    };
    Cow::Owned(format!("{scheme}://{}{tail}", host.as_deref().unwrap_or(authority)))
}

fn redact_parameter(parameter: &str) -> Cow<'_, str> {
    match parameter.split_once('=') {
        Some((key, _)) if is_secret(key) => Cow::Owned(format!("{key}={REDACTED}")),
        _ => Cow::Borrowed(parameter),
    }
}

pub(super) fn fingerprint(value: &Value) -> Fingerprint {
    let mut hash = Sha256::new();
    hash_canonical(value, &mut hash);
    Fingerprint(hash.finalize().into())
}

/// JSON with sorted keys and no spaces.
fn hash_canonical(value: &Value, hash: &mut Sha256) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(key, _)| *key);
            hash.update(b"{");
            for (key, field) in fields {
                hash.update(Value::from(key.as_str()).to_string());
                hash.update(b":");
                hash_canonical(field, hash);
                hash.update(b",");
            }
            hash.update(b"}");
        }
        Value::Array(items) => {
            hash.update(b"[");
            for item in items {
                hash_canonical(item, hash);
                hash.update(b",");
            }
            hash.update(b"]");
        }
        scalar => hash.update(scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Section;

    proptest! {
        #[test]
        fn any_text_that_is_printed_reads_back(key in "\\PC{0,8}", text in "(?s).{0,24}", word in "[ -~]{0,6}") {
            let value = json!({ "a": [text, word], "b": { key: "x" } });
            let mut escaped = value.clone();
            redact(&mut escaped, false);
            let read = Section::from_yaml("f", &to_yaml(escaped));
            prop_assert_eq!(read.unwrap().to_json(), value);
        }
    }

    #[test]
    fn the_credentials_of_a_url_are_hidden_and_nothing_else_of_it() {
        for (text, expected) in [
            ("nats://u:p@h:1/x", "nats://***@h:1/x"),
            ("nats://token@h", "nats://***@h"),
            ("mqtt://u:p@ss@h:1", "mqtt://***@h:1"),
            ("https://h/a@b?token=x&y=1&api_key=z", "https://h/a@b?token=***&y=1&api_key=***"),
            ("https://h/?a=1#f@g", "https://h/?a=1#f@g"),
            ("plain a@b", "plain a@b"),
        ] {
            assert_eq!(redact_url(text), expected, "{text}");
        }
    }

    #[test]
    fn fields_whose_name_says_secret_are_hidden_but_not_where_a_secret_is_kept() {
        let mut value = json!({
            "password": "p", "api_key": 5, "headers": {"Authorization": "Bearer x", "accept": "y"},
            "token": {"file": "/run/token"}, "secrets": ["a", {"env": "A"}], "user": "u", "nkey_seed": "", "x": "${Y}",
        });
        redact(&mut value, false);
        let expected = json!({
            "password": "***", "api_key": "***", "headers": {"Authorization": "***", "accept": "y"},
            "token": {"file": "/run/token"}, "secrets": ["***", {"env": "A"}], "user": "u", "nkey_seed": "", "x": "$${Y}",
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn a_fingerprint_is_of_the_values_only() {
        assert_eq!(fingerprint(&json!({"a": 1, "b": [2]})), fingerprint(&json!({"b": [2], "a": 1})));
        assert_ne!(fingerprint(&json!({"a": 1})), fingerprint(&json!({"a": "1"})));
        assert_ne!(fingerprint(&json!(["a", "b"])), fingerprint(&json!(["b", "a"])));
        assert_eq!(fingerprint(&json!({})).to_string().len(), 16);
    }
}
