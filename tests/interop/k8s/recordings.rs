//! What a real API server answered, as the shared conformance data has it: one exchange a line.

use std::path::PathBuf;

use serde::Deserialize;
use std::collections::BTreeMap;

/// One recorded exchange.
#[derive(Debug, Deserialize)]
pub(crate) struct Exchange {
    pub(crate) scenario: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) request_headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) request_body: Option<String>,
    pub(crate) status: u16,
    pub(crate) response_headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) response_body: String,
}

impl Exchange {
    /// Whether the recorded answer is whole: long ones are cut.
    pub(crate) fn is_whole(&self) -> bool {
        !self.response_body.contains("…<cut")
    }

    /// Whether it is a watch, whose answer is a stream of lines.
    pub(crate) fn is_watch(&self) -> bool {
        self.path.contains("watch=true") || self.path.contains("watch=1")
    }
}

/// The folder of the shared conformance data, beside the project; `None` where it is not.
pub(crate) fn folder() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance/k8s");
    folder.is_dir().then_some(folder)
}

/// The recorded exchanges whose scenario begins so, in order; `None` where the data is not there.
pub(crate) fn exchanges(group: &str) -> Option<Vec<Exchange>> {
    let text =
        std::fs::read_to_string(folder()?.join("recordings.jsonl")).expect("recordings that can be read");
    let all = text.lines().map(|line| serde_json::from_str::<Exchange>(line).expect("an exchange"));
    Some(all.filter(|exchange| exchange.scenario.starts_with(group)).collect())
}
