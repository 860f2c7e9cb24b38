//! A Kubernetes Event as one line for people: `Warning BackOff Pod web/shop-1 (12 times): back-off restarting …`.
//!
//! `config: {max: 200}` is the longest line in characters. What is no Event passes as it is.

use meshbus_filter::json::{self, Value};
use meshbus_filter::{Event, Filter, Output, Verdict, export};

struct Summary {
    max: usize,
}

impl Filter for Summary {
    fn init(config: &str) -> Result<Self, String> {
        let config: Value = json::from_str(config).map_err(|error| error.to_string())?;
        let max =
            config.get("max").map_or(Some(200), Value::as_u64).filter(|max| (1..=10_000).contains(max));
        Ok(Self { max: max.ok_or("`max` is no number of characters from 1 to 10000")? as usize })
    }

    fn process(&mut self, event: Event) -> Verdict {
        let Some(line) = event.json().ok().and_then(|event| summary(&event)) else { return Verdict::Pass };
        let short: String = line.chars().take(self.max).collect();
        Output::new().set("datacontenttype", "text/plain").replace_data(short).into()
    }
}

/// `None` for what is no Event: those have a reason and an object they are about.
fn summary(event: &Value) -> Option<String> {
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().trim().to_owned();
    // The two versions of the API name it differently.
    let about =
        [&event["involvedObject"], &event["regarding"]].into_iter().find(|about| about.is_object())?;
    let reason = event["reason"].as_str()?;
    let (namespace, name) = (text(about, "namespace"), text(about, "name"));
    let place = if namespace.is_empty() { name } else { format!("{namespace}/{name}") };
    let count = event["series"]["count"].as_u64().or(event["count"].as_u64()).unwrap_or(1);
    let times = if count > 1 { format!(" ({count} times)") } else { String::new() };
    let said = if event["message"].is_string() { text(event, "message") } else { text(event, "note") };
    let said: Vec<&str> = said.split_whitespace().collect();
    let line = format!(
        "{} {reason} {} {place}{times}: {}",
        text(event, "type"),
        text(about, "kind"),
        said.join(" ")
    );
    Some(line.trim().trim_end_matches(':').to_owned())
}

export!(Summary);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = json::json!({
            "type": "Warning", "reason": "BackOff", "count": 12, "message": "back-off\n restarting ",
            "involvedObject": {"kind": "Pod", "namespace": "web", "name": "shop-1"}
        });
        let line = "Warning BackOff Pod web/shop-1 (12 times): back-off restarting";
        assert_eq!(summary(&event).as_deref(), Some(line));
        let newer = json::json!({
            "type": "Normal", "reason": "Ready", "note": "", "regarding": {"kind": "Node", "name": "n1"}
        });
        assert_eq!(summary(&newer).as_deref(), Some("Normal Ready Node n1"));
        assert_eq!(summary(&json::json!({"reason": "x"})), None);
    }

    #[test]
    fn a_line_is_cut_and_anything_else_passes() {
        let mut filter = Summary::init(r#"{"max": 9}"#).unwrap();
        let data = r#"{"type": "Warning", "reason": "BackOff", "involvedObject": {}}"#;
        let cut = Output::new().set("datacontenttype", "text/plain").replace_data("Warning B");
        assert_eq!(filter.process(Event::new("1", "s", "t").with_data(data)), cut.into());
        assert_eq!(filter.process(Event::new("1", "s", "t").with_data("x")), Verdict::Pass);
        assert!(Summary::init(r#"{"max": 0}"#).is_err());
        assert!(Summary::init("null").is_ok());
    }
}
