//! What a filter makes of an event: told by how it differs from the input.

use crate::{AttrValue, Body, Output, Verdict};

impl Output {
    /// The input as it is, to the next step of the route.
    #[must_use]
    pub fn new() -> Self {
        Self { patch: Vec::new(), data: Body::Keep, to: None }
    }

    /// With this attribute; `mbtopic` moves the event to another topic.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<AttrValue>) -> Self {
        self.patch.push((name.to_owned(), Some(value.into())));
        self
    }

    /// Without this attribute.
    #[must_use]
    pub fn remove(mut self, name: &str) -> Self {
        self.patch.push((name.to_owned(), None));
        self
    }

    /// With other data.
    #[must_use]
    pub fn replace_data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.data = Body::Bytes(data.into());
        self
    }

    /// With this JSON as data.
    #[cfg(feature = "json")]
    #[must_use]
    pub fn replace_json(self, data: &serde_json::Value) -> Self {
        self.replace_data(data.to_string()).set("datacontenttype", "application/json")
    }

    /// Without data.
    #[must_use]
    pub fn without_data(mut self) -> Self {
        self.data = Body::None;
        self
    }

    /// To the `to:` entries of the route that have `output: name`, past its other filters.
    #[must_use]
    pub fn to(mut self, name: &str) -> Self {
        self.to = Some(name.to_owned());
        self
    }
}

impl Default for Output {
    fn default() -> Self {
        Self::new()
    }
}

/// The event goes on as this.
impl From<Output> for Verdict {
    fn from(output: Output) -> Self {
        Self::Emit(vec![output])
    }
}

impl Verdict {
    /// Goes nowhere, and why.
    pub fn drop_because(reason: impl Into<String>) -> Self {
        Self::Drop(Some(reason.into()))
    }

    /// Goes to the dead letter of the route, and why.
    pub fn reject(reason: impl Into<String>) -> Self {
        Self::DeadLetter(reason.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_says_only_what_differs() {
        let output = Output::new().set("a", 1).remove("b").to("alert");
        let patch = vec![("a".to_owned(), Some(AttrValue::Integer(1))), ("b".to_owned(), None)];
        assert_eq!(output, Output { patch, data: Body::Keep, to: Some("alert".to_owned()) });
        let gone = Output::new().without_data();
        assert_eq!(Verdict::from(gone.clone()), Verdict::Emit(vec![gone]));
    }
}
