//! What expressions say, case by case; against a naive evaluator; and that nothing makes them panic.

mod cases;
mod naive;
mod never;

use super::*;
use crate::core::Topic;
use crate::core::envelope::{Change, Key};

/// One of everything an expression can ask for.
fn event() -> Envelope {
    let mut event =
        Envelope::event(Topic::parse("shop/eu/orders").unwrap(), "id-1", "/shop", "order.placed");
    event.subject = Some("Ünit %_\\ test".into());
    event.datacontenttype = Some("application/json".into());
    event.extensions.set("reason", "BackOff");
    event.extensions.set("count", 3);
    event.extensions.set("text7", "7");
    event.extensions.set("least", i32::MIN);
    event.extensions.set("yes", true);
    event.extensions.set("empty", "");
    event.extensions.set("address", "10.1.2.3");
    event.extensions.set("six", "2001:db8::1");
    event.data = r#"{"n": 5, "big": 3000000000, "part": 1.5, "yes": true, "none": null, "list": [1, {"x": "y"}],
        "labels": {"app.kubernetes.io/name": "web", "it's": 1}, "Case": "A", "text": "a\nb", "deep": {"a": {"b": "c"}}}"#
        .into();
    event
}

/// The value, as text in quotes, and the word for the error.
fn outcome(text: &str, event: &Envelope) -> (String, &'static str) {
    match Expression::parse(text) {
        Ok(expression) => {
            let view = View::of(event);
            let outcome = expression.evaluate(&view);
            (outcome.value.to_json().to_string(), outcome.error.map_or("", |error| error.kind.as_str()))
        }
        Err(error) => (error.to_string(), "parse"),
    }
}
