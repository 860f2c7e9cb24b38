//! Settings of the client role.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::values::{Duration, Secret, Size};
use crate::config::{ConfigError, Section};
use crate::runtime::tls::ClientTls;
use crate::schema::kinds::{group_version_kind, proto_name, type_url};

#[cfg(test)]
mod tests;

/// Most changes, objects or writes one setting may allow to be under way or on a page.
const COUNT_MAX: usize = 65_536;
/// Longest name of a field manager that an API server takes.
const MANAGER_MAX: usize = 128;

/// `connectors: {NAME: {k8s: {client: …}}}`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// The kubeconfig file; default `$KUBECONFIG`, else `~/.kube/config`, else the cluster this runs in.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; default its current one.
    pub context: Option<String>,
    /// The API server itself, instead of a kubeconfig, with the path below which its API is:
    /// `http://127.0.0.1:18001/scopes/east`.
    pub url: Option<String>,
    /// The bearer token to show at `url`.
    pub token: Option<Secret>,
    /// Authorities to trust, and the certificate to show, at `url`.
    pub tls: ClientTls,
    /// What to bring onto the bus, one entry for each type.
    pub watch: Vec<WatchConfig>,
    /// Where it is kept how far each watch has come; default a file.
    pub cursor: CursorConfig,
    /// Lets one of several buses watch at a time: the one that holds this Lease; the others refuse writes.
    pub leader_election: Option<ElectionConfig>,
    /// The name that what routes write is marked with, by which their own changes are recognised; writes of
    /// owners that name none have `-write` after it. Default `meshbus`.
    pub field_manager: String,
    /// Whether Secrets may be watched; default false.
    pub allow_secrets: bool,
    /// What the events' `type` is; default `meshbus`.
    pub event_types: EventTypes,
    /// Lets so many changes of Events about one object pass, and tells how many were held back when one more may
    /// pass; default: all pass.
    pub frequency: Option<FrequencyConfig>,
    /// Adds labels and annotations of the object an Event is about; default none.
    pub enrich: Option<EnrichConfig>,
    /// Most objects asked for on one page of a list; default 500.
    pub page_size: usize,
    /// Most changes of one watch that wait for their routes; beyond, the watch is not read; default 1024.
    pub in_flight: usize,
    /// Most writes under way at a time; default 64.
    pub writes: usize,
    /// How long a request may take, and a watch be silent beyond its time; default 30s.
    pub timeout: Duration,
    /// How long the server is asked to keep a watch open; default 290s.
    pub watch_timeout: Duration,
    /// Longest line of a watch and largest single object; longer ones are left out and counted; default 16MiB.
    pub max_object: Size,
    /// How often it is looked which kinds the cluster has; default 5m.
    pub discovery_interval: Duration,
}

/// One entry of `watch`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchConfig {
    /// `core/v1/Event`, `v1/Pod`, `apps/v1/Deployment`, `example.com/v1/Widget`. Each type once.
    #[serde(rename = "type")]
    pub type_url: String,
    /// Only objects in these namespaces. Several are one watch of all that is filtered here.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// `app in (a,b),!canary`; the server checks it.
    pub label_selector: Option<String>,
    /// `type=Warning,involvedObject.kind!=Pod`; the server checks it.
    pub field_selector: Option<String>,
    /// Brings only what is in `metadata`; default false.
    #[serde(default)]
    pub metadata_only: bool,
    /// Keeps `metadata.managedFields`, often half of an object; default false.
    #[serde(default)]
    pub managed_fields: bool,
    /// Which Events that are there at the very first start are told to routes; default `all`.
    #[serde(default)]
    pub start: Start,
    /// Tells routes of Events that were deleted, which is mostly the end of their time to live; default false.
    #[serde(default)]
    pub expired: bool,
}

/// Which Events a very first start tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// All there are.
    #[default]
    All,
    /// Only those that come.
    Now,
    /// Those last seen within so long.
    Since(Duration),
}

/// Where it is kept how far each watch has come.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CursorConfig {
    /// In what; default `file`.
    pub store: Store,
    /// The file; default `cursor-NAME.redb` in `$STATE_DIRECTORY`, else `$XDG_STATE_HOME/meshbus`, else
    /// `~/.local/state/meshbus`, else `/var/lib/meshbus`.
    pub path: Option<PathBuf>,
    /// The namespace of the Lease; default that of `leader_election`.
    pub namespace: Option<String>,
    /// The name of the Lease; default that of `leader_election`.
    pub name: Option<String>,
}

/// What keeps how far watches have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// A file: positions, and which objects there were, so that what went meanwhile is told.
    #[default]
    File,
    /// An annotation of a Lease: positions only, without a volume and for several buses. Where the server has
    /// forgotten a position after a restart, what was deleted meanwhile is not told, since no names are kept.
    Lease,
    /// Nothing: each start begins anew.
    None,
}

/// The Lease that makes one bus the one that watches.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElectionConfig {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who this bus is in it; default made of the host's name and the process.
    pub identity: Option<String>,
    /// How long it holds without being renewed; default 15s.
    #[serde(default = "default_lease")]
    pub lease_duration: Duration,
    /// After how long without a renewal the holder itself stops; default 10s.
    #[serde(default = "default_renew")]
    pub renew_deadline: Duration,
    /// How often it is renewed or looked at; default 2s.
    #[serde(default = "default_retry")]
    pub retry_period: Duration,
}

/// What the events' `type` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventTypes {
    /// `dev.meshbus.resource.{added,modified,deleted}.v1`
    #[default]
    Meshbus,
    /// `dev.knative.apiserver.resource.{add,update,delete}`
    Knative,
}

/// So many at once, then one more each `per`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FrequencyConfig {
    /// How many pass at once.
    pub burst: u32,
    /// After how long one more may pass.
    pub per: Duration,
}

/// What of the object that an Event is about is added to it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EnrichConfig {
    /// Its labels of these names, as the extension `label` and the name's letters and digits.
    pub labels: Vec<String>,
    /// Its annotations of these names, as `annotation` and the name's letters and digits.
    pub annotations: Vec<String>,
    /// The types of objects known for this; default `core/v1/Pod`.
    pub types: Vec<String>,
    /// Most objects remembered; default 20000.
    pub max_objects: Option<usize>,
}

fn default_lease() -> Duration {
    Duration::from_secs(15)
}

fn default_renew() -> Duration {
    Duration::from_secs(10)
}

fn default_retry() -> Duration {
    Duration::from_secs(2)
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            context: None,
            url: None,
            token: None,
            tls: ClientTls::default(),
            watch: Vec::new(),
            cursor: CursorConfig::default(),
            leader_election: None,
            field_manager: "meshbus".to_owned(),
            allow_secrets: false,
            event_types: EventTypes::default(),
            frequency: None,
            enrich: None,
            page_size: 500,
            in_flight: 1024,
            writes: 64,
            timeout: Duration::from_secs(30),
            watch_timeout: Duration::from_secs(290),
            max_object: Size(16 << 20),
            discovery_interval: Duration::from_secs(300),
        }
    }
}

impl ClientConfig {
    /// Reads and checks a client's settings.
    ///
    /// # Errors
    /// Names the field and what would be right.
    pub fn from_section(section: &Section) -> Result<Self, ConfigError> {
        let mut config: Self = section.parse()?;
        for (at, watch) in config.watch.iter_mut().enumerate() {
            watch.check(section, &format!("watch[{at}]"), config.allow_secrets)?;
        }
        config.check_server(section)?;
        config.check_overlap(section)?;
        config.check_bounds(section)?;
        config.check_cursor(section)?;
        if let Some(election) = &config.leader_election {
            election.check(section)?;
        }
        if let Some(enrich) = &mut config.enrich {
            enrich.check(section, config.allow_secrets)?;
        }
        if config.frequency.is_some_and(|frequency| frequency.burst == 0 || frequency.per.0.is_zero()) {
            let hint = "{burst: 25, per: 5m}";
            return Err(section.error_with_hint("frequency", "lets nothing pass", hint));
        }
        Ok(config)
    }

    /// The server is named by a kubeconfig or by its URL, which goes with what is to be shown there.
    fn check_server(&self, section: &Section) -> Result<(), ConfigError> {
        let Some(url) = &self.url else {
            let stray = [("token", self.token.is_some()), ("tls", self.tls != ClientTls::default())];
            return match stray.into_iter().find(|(_, set)| *set) {
                Some((name, _)) => {
                    let hint = "a kubeconfig says itself what to show";
                    Err(section.error_with_hint(name, "goes with url", hint))
                }
                None => Ok(()),
            };
        };
        let named = [("kubeconfig", self.kubeconfig.is_some()), ("context", self.context.is_some())];
        if let Some((name, _)) = named.into_iter().find(|(_, set)| *set) {
            return Err(section.error(name, "url names the server already"));
        }
        let parsed = url.parse::<http::Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|it| !it.host().is_empty() && !it.as_str().contains('@'))
                && uri.query().is_none()
        });
        let hint = "https://10.0.0.1:6443, http://127.0.0.1:18001/scopes/east";
        let wrong = || section.error_with_hint("url", "is no URL of an API server", hint);
        let parsed = parsed.ok_or_else(wrong)?;
        if parsed.scheme_str() == Some("http") && self.tls != ClientTls::default() {
            return Err(section.error("tls", "is for an https:// URL"));
        }
        if self.tls.cert.is_some() != self.tls.key.is_some() {
            return Err(section.error("tls", "cert and key go together"));
        }
        Ok(())
    }

    /// A type has one watch, so that a list of it says all that there is of it in this scope.
    fn check_overlap(&self, section: &Section) -> Result<(), ConfigError> {
        for (at, watch) in self.watch.iter().enumerate() {
            let key = watch.key_type();
            if self.watch.iter().take(at).any(|before| before.key_type() == key) {
                return Err(section.error_with_hint(
                    &format!("watch[{at}].type"),
                    format!("{key} is watched already"),
                    "name the namespaces of both in one entry, or use another connector with its own scope",
                ));
            }
        }
        Ok(())
    }

    fn check_bounds(&self, section: &Section) -> Result<(), ConfigError> {
        for (name, value) in
            [("page_size", self.page_size), ("in_flight", self.in_flight), ("writes", self.writes)]
        {
            if !(1..=COUNT_MAX).contains(&value) {
                return Err(section.error(name, format!("must be 1 to {COUNT_MAX}")));
            }
        }
        let second = std::time::Duration::from_secs(1);
        for (name, value) in [
            ("timeout", self.timeout),
            ("watch_timeout", self.watch_timeout),
            ("discovery_interval", self.discovery_interval),
        ] {
            if value.0 < second {
                return Err(section.error_with_hint(name, "is below a second", "30s"));
            }
        }
        if self.max_object.0 < 4096 {
            return Err(section.error_with_hint("max_object", "is too little for an object", "16MiB"));
        }
        let printable = self.field_manager.chars().all(|c| !c.is_control());
        if self.field_manager.is_empty() || self.field_manager.len() > MANAGER_MAX - 6 || !printable {
            let reason = format!("must be 1 to {} printable characters", MANAGER_MAX - 6);
            return Err(section.error_with_hint("field_manager", reason, "meshbus"));
        }
        Ok(())
    }

    fn check_cursor(&self, section: &Section) -> Result<(), ConfigError> {
        let cursor = &self.cursor;
        let named = cursor.namespace.is_some() || cursor.name.is_some();
        match cursor.store {
            Store::Lease if self.lease().is_none() => Err(section.error_with_hint(
                "cursor",
                "store: lease needs a Lease",
                "namespace and name, or those of leader_election",
            )),
            Store::Lease | Store::None if cursor.path.is_some() => {
                Err(section.error("cursor.path", "is only for store: file"))
            }
            Store::File | Store::None if named => {
                Err(section.error_with_hint("cursor", "namespace and name are a Lease's", "store: lease"))
            }
            _ => Ok(()),
        }
    }

    /// Namespace and name of the Lease that keeps the cursors.
    pub fn lease(&self) -> Option<(&str, &str)> {
        let election = self.leader_election.as_ref();
        let namespace = self.cursor.namespace.as_deref();
        let name = self.cursor.name.as_deref();
        Some((
            namespace.or(election.map(|election| election.namespace.as_str()))?,
            name.or(election.map(|election| election.name.as_str()))?,
        ))
    }
}

impl WatchConfig {
    fn check(&mut self, section: &Section, path: &str, allow_secrets: bool) -> Result<(), ConfigError> {
        self.type_url = check_type(section, &format!("{path}.type"), &self.type_url, allow_secrets)?;
        if !self.is_event() {
            if self.start != Start::All {
                return Err(section.error(&format!("{path}.start"), "is only for Events"));
            }
            if self.expired {
                return Err(section.error(&format!("{path}.expired"), "is only for Events"));
            }
        }
        for (at, namespace) in self.namespaces.iter().enumerate() {
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if namespace.is_empty() || namespace.len() > 63 || !namespace.chars().all(good) {
                return Err(section.error_with_hint(
                    &format!("{path}.namespaces[{at}]"),
                    format!("{namespace:?} is no namespace"),
                    "lower-case letters, digits and -; no namespaces at all for every one",
                ));
            }
        }
        for (name, selector) in
            [("label_selector", &self.label_selector), ("field_selector", &self.field_selector)]
        {
            if selector.as_ref().is_some_and(|selector| selector.trim().is_empty()) {
                return Err(section.error(&format!("{path}.{name}"), "is empty: leave it away"));
            }
        }
        Ok(())
    }

    /// Whether it is of Events, in either API group.
    pub fn is_event(&self) -> bool {
        matches!(&*self.type_url, "core/v1/Event" | "events.k8s.io/v1/Event")
    }

    /// The type of its keys: Events of both API groups are the same ones.
    pub fn key_type(&self) -> &str {
        if self.is_event() { "core/v1/Event" } else { &self.type_url }
    }
}

impl ElectionConfig {
    fn check(&self, section: &Section) -> Result<(), ConfigError> {
        for (name, text) in [("namespace", &self.namespace), ("name", &self.name)] {
            if text.is_empty() {
                return Err(section.error(&format!("leader_election.{name}"), "is empty"));
            }
        }
        if self.lease_duration.0 < std::time::Duration::from_secs(1) {
            return Err(section.error_with_hint(
                "leader_election.lease_duration",
                "is below a second, the unit of a Lease",
                "15s",
            ));
        }
        let ordered = self.retry_period.0 * 2 <= self.renew_deadline.0
            && self.renew_deadline.0 < self.lease_duration.0
            && !self.retry_period.0.is_zero();
        if !ordered {
            return Err(section.error_with_hint(
                "leader_election",
                "retry_period must fit twice into renew_deadline, and that into lease_duration",
                "lease_duration: 15s, renew_deadline: 10s, retry_period: 2s",
            ));
        }
        Ok(())
    }
}

impl EnrichConfig {
    fn check(&mut self, section: &Section, allow_secrets: bool) -> Result<(), ConfigError> {
        if self.labels.is_empty() && self.annotations.is_empty() {
            let hint = "labels: [app.kubernetes.io/name]";
            return Err(section.error_with_hint("enrich", "adds nothing", hint));
        }
        if self.types.is_empty() {
            self.types.push("core/v1/Pod".to_owned());
        }
        for (at, word) in self.types.iter_mut().enumerate() {
            *word = check_type(section, &format!("enrich.types[{at}]"), word, allow_secrets)?;
        }
        Ok(())
    }
}

/// The type that a word of the configuration means.
fn check_type(section: &Section, path: &str, word: &str, secrets: bool) -> Result<String, ConfigError> {
    let hint = "group/version/Kind: apps/v1/Deployment, v1/Pod, example.com/v1/Widget";
    let wrong = |reason: String| section.error_with_hint(path, reason, hint);
    let type_url = type_url(word).map_err(|_| wrong(format!("{word:?} is no type of a cluster")))?;
    let kind = group_version_kind(&type_url).filter(|_| proto_name(&type_url).is_none());
    let Some(kind) = kind.filter(|kind| !kind.is_own()) else {
        return Err(wrong(format!("{word:?} is no type of a cluster")));
    };
    if !kind.kind.starts_with(|c: char| c.is_ascii_uppercase()) {
        return Err(wrong(format!("{word:?} ends in no kind: kinds begin with a capital letter")));
    }
    if &*type_url == "core/v1/Secret" && !secrets {
        return Err(section.error_with_hint(
            path,
            "Secrets are not read unless that is allowed",
            "allow_secrets: true at the connector",
        ));
    }
    Ok(type_url.into_owned())
}
