//! From files to a checked [`Config`]: everything that is wrong is told at once.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::core::cesql::Expressions;
use crate::core::selector::TopicFilter;
use crate::schema::protobuf::Descriptors;
use crate::transport::Transport;

use super::connectors::{self, ConnectorConfig};
use super::derive::{self, DeriveConfig};
use super::descriptors;
use super::env::Lookup;
use super::error::ConfigError;
use super::exposure::{EXPOSURE_HINT, check_exposure};
use super::routes::{self, RouteConfig};
use super::section::Section;
use super::settings::{AccessRule, EventLog, Listener, Logging, Shutdown, State, TestCase, TestInput};
use super::suggest;
use super::tree::{ERRORS_MAX, FILE_MAX};

/// Everything a configuration may hold at its top.
pub(super) const KEYS: [&str; 16] = [
    "name",
    "connectors",
    "routes",
    "derive",
    "capture",
    "event_log",
    "state",
    "descriptors",
    "access",
    "insecure",
    "logging",
    "admin",
    "health",
    "shutdown",
    "tests",
    "filters",
];
/// Longest name of a bus, connector or route: what a DNS label has.
const NAME_MAX: usize = 63;

/// A whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The bus's stable identity, the origin by which loops are seen; default: the name of the host.
    pub name: String,
    /// Connectors in the file's order.
    pub connectors: Vec<ConnectorConfig>,
    /// Routes in the file's order.
    pub routes: Vec<RouteConfig>,
    /// What state is made of other state, in the file's order.
    pub derive: Vec<DeriveConfig>,
    /// Where records are kept.
    pub event_log: EventLog,
    /// Bounds of the state table.
    pub state: State,
    /// The protobuf types that are known; `None` where they are those of this build alone.
    pub descriptors: Option<Arc<Descriptors>>,
    /// Who may do what; without rules, everyone who reaches a listener may do everything.
    pub access: Vec<AccessRule>,
    /// What is logged.
    pub logging: Logging,
    /// The administration listener; none unless it is named.
    pub admin: Option<Listener>,
    /// The health listener; none unless it is named.
    pub health: Option<Listener>,
    /// How the bus ends.
    pub shutdown: Shutdown,
    /// Lets every listener reach beyond loopback without `access` and TLS.
    pub insecure: bool,
    /// The configuration's own tests.
    pub tests: Vec<TestCase>,
    /// All files as one, variables replaced.
    pub(super) root: Section,
}

impl Config {
    /// Reads and merges files, `-` for standard input, and checks all of it with the transports of this build.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the files; never an empty list.
    pub fn load(
        paths: &[PathBuf],
        env: Lookup<'_>,
        transports: &[&dyn Transport],
    ) -> Result<Self, Vec<ConfigError>> {
        let mut files = Vec::new();
        let mut errors = Vec::new();
        for path in paths {
            match read_file(path) {
                Ok(text) => files.push((path.display().to_string(), text)),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Self::read(&files, env, transports) } else { Err(at_most(errors)) }
    }

    /// As [`load`](Self::load) from the text of files, each with its name.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn read(
        files: &[(String, String)],
        env: Lookup<'_>,
        transports: &[&dyn Transport],
    ) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut root: Option<Section> = None;
        for (name, text) in files {
            match Section::read(name, text, env) {
                Ok(section) => {
                    root = Some(match root {
                        Some(earlier) => earlier.merged(&section, &mut errors),
                        None => section,
                    });
                }
                Err(more) => errors.extend(more),
            }
        }
        let Some(root) = root.filter(|_| errors.is_empty()) else {
            if errors.is_empty() {
                errors.push(ConfigError::in_file("-", "no configuration file was given"));
            }
            return Err(at_most(errors));
        };
        let mut reader =
            Reader { env, transports, errors, expressions: Expressions::new(), derived: Vec::new() };
        let config = reader.config(root);
        if reader.errors.is_empty() { Ok(config) } else { Err(at_most(reader.errors)) }
    }

    /// What runs when no file is given: every server role of this build at its own address on loopback.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn embedded(env: Lookup<'_>, transports: &[&dyn Transport]) -> Result<Self, Vec<ConfigError>> {
        let mut text =
            "admin: {listen: \"127.0.0.1:18002\"}\nhealth: {listen: \"127.0.0.1:18003\"}\n".to_owned();
        let servers = transports.iter().filter(|transport| transport.schema().server.is_some());
        for (at, transport) in servers.enumerate() {
            let name = transport.name();
            let head = if at == 0 { "connectors:\n" } else { "" };
            text.extend([head, "  ", name, ": {", name, ": {server: {}}}\n"]);
        }
        Self::read(&[("embedded default".to_owned(), text)], env, transports)
    }

    /// The connector of this name.
    pub fn connector(&self, name: &str) -> Option<&ConnectorConfig> {
        self.connectors.iter().find(|connector| connector.name == name)
    }

    /// The route of this name.
    pub fn route(&self, name: &str) -> Option<&RouteConfig> {
        self.routes.iter().find(|route| route.name == name)
    }
}

/// What the reading of one configuration shares.
pub(super) struct Reader<'a> {
    env: Lookup<'a>,
    pub(super) transports: &'a [&'a dyn Transport],
    pub(super) errors: Vec<ConfigError>,
    pub(super) expressions: Expressions,
    /// The names of derivations, whose state a route may take as a connector's.
    pub(super) derived: Vec<String>,
}

impl Reader<'_> {
    fn config(&mut self, root: Section) -> Config {
        self.keys(&root, &KEYS);
        for (key, reason, hint) in [
            ("capture", "capture is not part of this build", "leave it out"),
            ("filters", "filters belong to a route", "routes: {NAME: {filters: [...]}}"),
        ] {
            if root.get(key).is_some() {
                self.errors.push(root.error_at_key(key, reason).hint(hint));
            }
        }
        let name = self.bus_name(&root);
        let access = self.access(&root);
        let insecure = self.part(&root, "insecure");
        let connectors = connectors::read(self, &root);
        let derive = derive::read(self, &root, &connectors);
        self.derived = derive.iter().map(|derived| derived.name.clone()).collect();
        let routes = routes::read(self, &root, &connectors);
        let config = Config {
            name,
            event_log: self.event_log(&root),
            state: self.state(&root),
            descriptors: descriptors::read(self, &root),
            logging: self.logging(&root),
            admin: self.part(&root, "admin"),
            health: self.part(&root, "health"),
            shutdown: self.part(&root, "shutdown"),
            tests: self.tests(&root, &connectors, &routes),
            connectors,
            routes,
            derive,
            access,
            insecure,
            root,
        };
        self.listeners(&config);
        config
    }

    /// What was read, or the error kept.
    pub(super) fn keep<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        result.map_err(|error| self.errors.push(error)).ok()
    }

    /// Every key of `section` that is none of `allowed` is an error. Says whether the section is a map.
    pub(super) fn keys(&mut self, section: &Section, allowed: &[&str]) -> bool {
        if section.is_null() {
            return true;
        }
        if !section.is_map() {
            self.errors.push(section.error("", "expected a map of fields"));
            return false;
        }
        for (key, below) in section.entries() {
            if !allowed.contains(&key.as_str()) {
                let error = below.error_at_key("", "is no field known here");
                self.errors.push(error.hint(suggest::hint(&key, allowed)));
            }
        }
        true
    }

    /// The field `key` as its type; the default where it is not there or wrong.
    pub(super) fn part<T: DeserializeOwned + Default>(&mut self, section: &Section, key: &str) -> T {
        let Some(part) = section.get(key).filter(|part| !part.is_null()) else { return T::default() };
        self.keep(part.parse()).unwrap_or_default()
    }

    /// As [`part`](Self::part), of a number that must not be 0.
    pub(super) fn above_zero(&mut self, section: &Section, path: &str, value: u64) {
        if value == 0 {
            self.errors.push(section.error_with_hint(path, "must not be 0", "1 or more"));
        }
    }

    /// Names become tokens of topics, labels of metrics and file names: letters, digits, `.`, `_`, `-`.
    pub(super) fn name(&mut self, what: &str, name: &str, at: &Section) -> bool {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        let right = starts && name.len() <= NAME_MAX && name.chars().all(good);
        if !right {
            let reason = format!("{name:?} is no name for a {what}");
            let hint = "1 to 63 letters, digits, `.`, `_` or `-`, starting with a letter or digit";
            let is_value = at.text() == Some(name);
            let error = if is_value { at.error("", reason) } else { at.error_at_key("", reason) };
            self.errors.push(error.hint(hint));
        }
        right
    }

    fn bus_name(&mut self, root: &Section) -> String {
        if let Some(section) = root.get("name") {
            let name: String = self.keep(section.parse()).unwrap_or_default();
            if !name.is_empty() || section.text().is_some() {
                self.name("bus", &name, &section);
            }
            return name;
        }
        let host = (self.env)("HOSTNAME").or_else(|| {
            std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned())
        });
        host.filter(|name| !name.is_empty()).unwrap_or_else(|| "meshbus".to_owned())
    }

    fn event_log(&mut self, root: &Section) -> EventLog {
        let log: EventLog = self.part(root, "event_log");
        self.above_zero(root, "event_log.changes.max", log.changes.max as u64);
        self.above_zero(root, "event_log.events.max", log.events.max as u64);
        self.above_zero(root, "event_log.changes.max_bytes", log.changes.max_bytes.0);
        self.above_zero(root, "event_log.events.max_bytes", log.events.max_bytes.0);
        log
    }

    fn state(&mut self, root: &Section) -> State {
        let state: State = self.part(root, "state");
        self.above_zero(root, "state.max_keys", state.max_keys as u64);
        self.above_zero(root, "state.max_deletions", state.max_deletions as u64);
        self.above_zero(root, "state.max_bytes", state.max_bytes.0);
        state
    }

    fn logging(&mut self, root: &Section) -> Logging {
        let logging: Logging = self.part(root, "logging");
        if let Err(error) = logging.level.parse::<tracing_subscriber::filter::Targets>() {
            let hint = "error, warn, info, debug, trace, or per module: info,meshbus::transport=debug";
            self.errors.push(root.error_with_hint("logging.level", error.to_string(), hint));
        }
        logging
    }

    fn access(&mut self, root: &Section) -> Vec<AccessRule> {
        let Some(section) = root.get("access").filter(|section| !section.is_null()) else {
            return Vec::new();
        };
        if !section.is_list() {
            let hint =
                "access: [{principal: NAME, token: {file: PATH}, allow: [publish], topics: [\"a/#\"]}]";
            self.errors.push(section.error_with_hint("", "expected a list of rules", hint));
            return Vec::new();
        }
        let rules = section.items().into_iter().filter_map(|item| {
            let rule: AccessRule = self.keep(item.parse())?;
            if rule.principal.is_empty() {
                self.errors.push(item.error("principal", "is empty"));
            }
            if rule.allow.is_empty() {
                let hint = "leave the rule out, or name some of publish, subscribe, read, write, admin";
                self.errors.push(item.error_with_hint("allow", "allows nothing", hint));
            }
            for (at, text) in rule.topics.iter().enumerate() {
                if let Err(error) = TopicFilter::parse(text) {
                    self.errors.push(item.error(&format!("topics[{at}]"), error.to_string()));
                }
            }
            Some(rule)
        });
        rules.collect()
    }

    /// The law of exposure, and no address twice.
    fn listeners(&mut self, config: &Config) {
        let mut seen: Vec<(String, Section)> = Vec::new();
        for connector in config.connectors.iter().filter(|connector| connector.is_server()) {
            let Some(listen) = connector.section.get("listen") else { continue };
            let tls = connector.section.get("tls").is_some_and(|tls| !tls.is_null());
            self.listener(config, &listen, tls, &connector.section, &mut seen);
        }
        for key in ["admin", "health"] {
            let Some(section) = config.root.get(key) else { continue };
            let Some(listen) = section.get("listen") else { continue };
            self.listener(config, &listen, false, &section, &mut seen);
        }
    }

    fn listener(
        &mut self,
        config: &Config,
        listen: &Section,
        has_tls: bool,
        section: &Section,
        seen: &mut Vec<(String, Section)>,
    ) {
        let Some(text) = listen.text().map(str::to_owned) else { return };
        let insecure = config.insecure || section.get("insecure").is_some_and(|it| it.to_json() == true);
        if let Err(reason) = check_exposure(&text, !config.access.is_empty(), has_tls, insecure) {
            let error = listen.error_with_hint("", reason, EXPOSURE_HINT);
            // The transport may have said so itself.
            let told = |other: &ConfigError| {
                (&other.file, other.line, other.column) == (&error.file, error.line, error.column)
            };
            if !self.errors.iter().any(told) {
                self.errors.push(error);
            }
        }
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == text && !text.ends_with(":0")) {
            let reason = format!("{text} is listened on already");
            let hint = format!("{} has it; choose another port", first.path());
            self.errors.push(listen.error_with_hint("", reason, hint));
        }
        seen.push((text, listen.clone()));
    }

    fn tests(
        &mut self,
        root: &Section,
        connectors: &[ConnectorConfig],
        routes: &[RouteConfig],
    ) -> Vec<TestCase> {
        let Some(section) = root.get("tests").filter(|section| !section.is_null()) else {
            return Vec::new();
        };
        if !section.is_list() {
            let hint = "tests: [{name: n, route: r, input: {file: event.json}, expect: [{connector: c}]}]";
            self.errors.push(section.error_with_hint("", "expected a list of tests", hint));
            return Vec::new();
        }
        let route_names: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
        let connector_names: Vec<&str> =
            connectors.iter().map(|connector| connector.name.as_str()).collect();
        let tests = section.items().into_iter().filter_map(|item| {
            let mut test: TestCase = self.keep(item.parse())?;
            if !route_names.contains(&test.route.as_str()) {
                let reason = format!("there is no route {:?}", test.route);
                let hint = suggest::hint(&test.route, &route_names);
                self.errors.push(item.error_with_hint("route", reason, hint));
            }
            for (at, expected) in test.expect.iter().enumerate() {
                let path = format!("expect[{at}]");
                match (&expected.connector, &expected.bus) {
                    (Some(name), None) if connector_names.contains(&name.as_str()) => {}
                    (Some(name), None) => {
                        let reason = format!("there is no connector {name:?}");
                        let hint = suggest::hint(name, &connector_names);
                        self.errors.push(item.error_with_hint(&format!("{path}.connector"), reason, hint));
                    }
                    (None, Some(_)) => {}
                    _ => self.errors.push(item.error(&path, "expected exactly one of: connector, bus")),
                }
            }
            if let TestInput::File(file) = &mut test.input
                && let Some(directory) = Path::new(item.file()).parent()
            {
                *file = directory.join(&file);
            }
            Some(test)
        });
        tests.collect()
    }
}

/// The first [`ERRORS_MAX`], and that there are more.
fn at_most(mut errors: Vec<ConfigError>) -> Vec<ConfigError> {
    if errors.len() > ERRORS_MAX {
        errors.truncate(ERRORS_MAX);
        let file = errors.first().map(|error| error.file.clone()).unwrap_or_default();
        errors.push(ConfigError::in_file(file, "has more mistakes; these are the first"));
    }
    errors
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    let name = path.display().to_string();
    let failed = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path; `meshbus init` writes a starter file",
            std::io::ErrorKind::InvalidData => "save the file as UTF-8",
            _ => "check the path and its permissions",
        };
        ConfigError::in_file(name.clone(), format!("cannot be read: {error}")).hint(hint)
    };
    // One byte more than allowed, so that the tree's own check tells.
    let limit = FILE_MAX as u64 + 1;
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_string(&mut text).map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(limit).read_to_string(&mut text).map_err(failed)?;
    }
    Ok(text)
}
