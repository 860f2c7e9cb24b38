//! Settings of a `wasm:` filter, and what they mean once checked.

use std::path::{Path, PathBuf};
use std::time::Duration as StdDuration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::values::{Duration, Size};
use crate::config::{ConfigError, Section};
use crate::core::envelope::check_name;

/// Least and most memory of a plugin: a page, and what 32 bits reach.
const MEMORY: std::ops::RangeInclusive<u64> = 64 << 10..=4 << 30;
/// Shortest and longest time of a call.
const DEADLINE: std::ops::RangeInclusive<StdDuration> =
    StdDuration::from_millis(1)..=StdDuration::from_mins(1);
/// Most attributes that can be named.
const ATTRIBUTES_MAX: usize = 64;
/// The name under which a guest sees the topic.
pub(super) const TOPIC: &str = "mbtopic";

/// `wasm:` in `filters:` of a route: a filter plugin, a Wasm component of the world `meshbus:filter/filter-plugin`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The component; relative to the file this stands in. When it changes it is loaded, tried and taken up; one
    /// that does not load changes nothing.
    pub path: PathBuf,
    /// What the file must hold: `sha256:` and 64 hexadecimal digits; default anything.
    pub digest: Option<String>,
    /// Given to the plugin as JSON when it begins; what it holds is up to the plugin.
    #[serde(default)]
    pub config: serde_json::Value,
    /// Most memory of an instance; default 64MiB.
    #[serde(default = "default_memory")]
    pub memory: Size,
    /// Longest time of a call, over the events of its batch; default 10ms.
    #[serde(default = "default_deadline")]
    pub deadline: Duration,
    /// The attributes the plugin is given, each of which has its price; default all. `mbtopic` is the topic.
    pub attributes: Option<Vec<String>>,
    /// Whether the plugin is given the data; default `full`. What it does not see it can still keep or replace.
    #[serde(default)]
    pub body: Body,
    /// What becomes of events while the plugin is off for having failed too often; default `dead_letter`.
    #[serde(default)]
    pub on_fault: OnFault,
    /// Where compiled plugins are kept, a directory that is ours alone; default `meshbus` in the user's cache
    /// directory. `""` keeps none.
    pub cache: Option<PathBuf>,
}

/// What a plugin is given of an event's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// All of it.
    #[default]
    Full,
    /// Nothing.
    None,
}

/// What becomes of events while the breaker is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFault {
    /// They go to the dead letter of the route.
    #[default]
    DeadLetter,
    /// They go on as if there were no filter.
    Pass,
    /// They wait until the plugin is tried again.
    Stop,
}

/// Settings that were checked.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) path: PathBuf,
    /// What the file's digest must be, in lower case.
    pub(super) digest: Option<String>,
    /// JSON.
    pub(super) config: String,
    pub(super) memory: usize,
    pub(super) deadline: StdDuration,
    /// What is passed of an event.
    pub(super) shown: Shown,
    pub(super) on_fault: OnFault,
    /// Default, off or a directory.
    pub(super) cache: Option<PathBuf>,
}

/// What of an event a plugin is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    attributes: Option<Vec<String>>,
    pub(super) body: Body,
}

impl Shown {
    /// Whether attribute `name` is passed.
    #[inline]
    pub(super) fn attribute(&self, name: &str) -> bool {
        self.attributes.as_ref().is_none_or(|names| names.iter().any(|have| have == name))
    }

    pub(super) fn new(attributes: Option<Vec<String>>, body: Body) -> Self {
        Self { attributes, body }
    }
}

/// Reads and checks the settings; no I/O.
///
/// # Errors
/// Names the place in the file and what would be right.
pub(super) fn read(section: &Section) -> Result<Checked, ConfigError> {
    let settings: Settings = section.parse()?;
    if settings.path.as_os_str().is_empty() {
        return Err(section.error_with_hint("path", "names no file", "path: plugins/redact.wasm"));
    }
    if !MEMORY.contains(&settings.memory.0) {
        return Err(section.error_with_hint("memory", "is out of range", "64KiB to 4GiB"));
    }
    if !DEADLINE.contains(&settings.deadline.0) {
        return Err(section.error_with_hint("deadline", "is out of range", "1ms to 1m"));
    }
    if let Some(digest) = &settings.digest {
        check_digest(digest).map_err(|reason| section.error_with_hint("digest", reason, DIGEST_HINT))?;
    }
    if let Some(names) = &settings.attributes {
        check_attributes(section, names)?;
    }
    let beside = Path::new(section.file()).parent().unwrap_or(Path::new(""));
    Ok(Checked {
        path: beside.join(&settings.path),
        digest: settings.digest.map(|digest| digest.to_ascii_lowercase()),
        config: settings.config.to_string(),
        memory: usize::try_from(settings.memory.0).unwrap_or(usize::MAX),
        deadline: settings.deadline.0,
        shown: Shown::new(settings.attributes, settings.body),
        on_fault: settings.on_fault,
        cache: settings.cache,
    })
}

const DIGEST_HINT: &str = "digest: sha256:… as `sha256sum FILE` prints it";

fn check_digest(digest: &str) -> Result<(), String> {
    let digits = digest.strip_prefix("sha256:").ok_or("does not begin with sha256:")?;
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("has {} digits after sha256:, not 64 hexadecimal ones", digits.len()));
    }
    Ok(())
}

fn check_attributes(section: &Section, names: &[String]) -> Result<(), ConfigError> {
    const CONTEXT: [&str; 7] = ["id", "source", "type", "subject", "time", "datacontenttype", "dataschema"];
    if names.len() > ATTRIBUTES_MAX {
        let reason = format!("names {} attributes; at most {ATTRIBUTES_MAX}", names.len());
        return Err(section.error_with_hint("attributes", reason, "leave it out to pass all"));
    }
    for (at, name) in names.iter().enumerate() {
        if !CONTEXT.contains(&name.as_str())
            && let Err(error) = check_name(name)
        {
            let hint = "attributes: [type, subject, mbtopic, myextension]";
            return Err(section.error_with_hint(&format!("attributes[{at}]"), error.to_string(), hint));
        }
    }
    Ok(())
}

fn default_memory() -> Size {
    Size(64 << 20)
}

fn default_deadline() -> Duration {
    Duration::from_millis(10)
}
