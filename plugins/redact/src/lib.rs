//! Puts `***` in place of the values of some fields of JSON data, at any depth.
//!
//! `config: {fields: [password, token], with: "***"}`. Names are compared without regard to case. Data that is no JSON
//! goes to the dead letter: what cannot be looked into is not let out.

use meshbus_filter::json::{self, Value};
use meshbus_filter::{Event, Filter, Output, Verdict, export};

struct Redact {
    /// In lower case.
    fields: Vec<String>,
    with: Value,
}

impl Filter for Redact {
    fn init(config: &str) -> Result<Self, String> {
        let config: Value = json::from_str(config).map_err(|error| error.to_string())?;
        let names = config["fields"].as_array().filter(|names| !names.is_empty());
        let names = names.ok_or("`fields` names nothing: a list such as [password, token]")?;
        let lower = |name: &Value| name.as_str().map(str::to_lowercase);
        let fields = names
            .iter()
            .map(lower)
            .collect::<Option<_>>()
            .ok_or("`fields` holds something that is no name")?;
        let with = config.get("with").cloned().unwrap_or_else(|| "***".into());
        Ok(Self { fields, with })
    }

    fn process(&mut self, event: Event) -> Verdict {
        if event.data().is_empty() {
            return Verdict::Pass;
        }
        let mut data = match event.json() {
            Ok(data) => data,
            Err(reason) => return Verdict::reject(reason),
        };
        if self.redact(&mut data) {
            Output::new().replace_data(data.to_string()).into()
        } else {
            Verdict::Pass
        }
    }
}

impl Redact {
    /// Whether anything was there to replace.
    fn redact(&self, value: &mut Value) -> bool {
        let mut found = false;
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if self.fields.contains(&name.to_lowercase()) {
                        *value = self.with.clone();
                        found = true;
                    } else {
                        found |= self.redact(value);
                    }
                }
            }
            Value::Array(items) => {
                for item in items {
                    found |= self.redact(item);
                }
            }
            _ => {}
        }
        found
    }
}

export!(Redact);

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(data: &str) -> Verdict {
        let mut filter = Redact::init(r#"{"fields": ["password"]}"#).unwrap();
        filter.process(Event::new("1", "s", "t").with_data(data))
    }

    #[test]
    fn a_field_is_redacted_wherever_it_is() {
        let out = Output::new().replace_data(r#"{"a":[{"Password":"***"}],"b":1}"#);
        assert_eq!(redacted(r#"{"a": [{"Password": {"x": 1}}], "b": 1}"#), out.into());
        assert_eq!(redacted(r#"{"b": 1}"#), Verdict::Pass);
        assert_eq!(redacted(""), Verdict::Pass);
    }

    #[test]
    fn what_cannot_be_looked_into_is_not_let_out() {
        assert!(matches!(redacted("password=x"), Verdict::DeadLetter(_)));
    }

    #[test]
    fn a_configuration_that_redacts_nothing_is_refused() {
        for config in ["null", "{}", r#"{"fields": []}"#, r#"{"fields": [1]}"#] {
            assert!(Redact::init(config).is_err(), "{config}");
        }
    }
}
