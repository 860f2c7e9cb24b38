//! `connectors:`: a name, one transport, one role, and the settings the transport checks itself.

use std::collections::HashMap;

use bytestring::ByteString;

use crate::core::envelope::Key;
use crate::transport::{Connector, Transport};

use super::error::ConfigError;
use super::load::Reader;
use super::section::Section;
use super::suggest;

/// Names that mean something else where a connector could stand.
const RESERVED: [(&str, &str); 2] = [
    (Key::LOCAL, "the scope of state that the bus itself owns"),
    ("capture", "the word in a route's `from:` for captured flows"),
];

/// Which end of the protocol we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We connect to a peer.
    Client,
    /// We serve an address.
    Server,
}

impl Role {
    /// Its word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// A connector as configured.
#[derive(Clone, Debug)]
pub struct ConnectorConfig {
    /// Its name, which is also the scope of the state it brings.
    pub name: String,
    /// The name of its transport.
    pub transport: &'static str,
    /// Its role.
    pub role: Role,
    /// The settings below the role.
    pub section: Section,
    /// Whether its transport found them right.
    pub(super) valid: bool,
}

impl ConnectorConfig {
    /// Whether it serves an address.
    pub fn is_server(&self) -> bool {
        self.role == Role::Server
    }

    /// The key space of the state it brings: the setting `scope`, else its name.
    pub fn scope(&self) -> ByteString {
        let scope = self.section.get("scope").and_then(|scope| scope.text().map(ByteString::from));
        scope.unwrap_or_else(|| self.name.clone().into())
    }

    /// A connector to run, built by its transport, which is looked up in `transports`.
    ///
    /// # Errors
    /// As [`Transport::client`] and [`Transport::server`].
    pub fn build(&self, transports: &[&dyn Transport]) -> Result<Box<dyn Connector>, ConfigError> {
        let Some(transport) = find(transports, self.transport) else {
            return Err(self.section.error("", format!("no transport {} in this build", self.transport)));
        };
        match self.role {
            Role::Client => transport.client(&self.name, &self.section),
            Role::Server => transport.server(&self.name, &self.section),
        }
    }
}

/// The transport of this name.
pub(super) fn find<'t>(transports: &[&'t dyn Transport], name: &str) -> Option<&'t dyn Transport> {
    transports.iter().find(|transport| transport.name() == name).copied()
}

/// All connectors that can be told apart; one whose settings are wrong is there, but not valid.
pub(super) fn read(reader: &mut Reader<'_>, root: &Section) -> Vec<ConnectorConfig> {
    let Some(section) = root.get("connectors").filter(|section| !section.is_null()) else {
        return Vec::new();
    };
    if !section.is_map() {
        let hint = "connectors: {NAME: {TRANSPORT: {client: {…}}}}";
        reader.errors.push(section.error_with_hint("", "expected a map of names to connectors", hint));
        return Vec::new();
    }
    let insecure = root.get("insecure").is_some_and(|insecure| insecure.to_json() == true);
    let connectors: Vec<ConnectorConfig> = section
        .entries()
        .iter()
        .filter_map(|(name, section)| connector(reader, name, section, insecure))
        .collect();
    check_scopes(reader, &connectors);
    connectors
}

/// A scope is a key space with one owner, so that two sources never write one key.
fn check_scopes(reader: &mut Reader<'_>, connectors: &[ConnectorConfig]) {
    let mut owners: HashMap<String, &str> =
        connectors.iter().map(|connector| (connector.name.clone(), connector.name.as_str())).collect();
    owners.insert(Key::LOCAL.to_owned(), "the bus itself");
    for connector in connectors {
        let Some(section) = connector.section.get("scope") else { continue };
        let Some(scope) = section.text() else { continue };
        if !reader.name("scope", scope, &section) || scope == connector.name {
            continue;
        }
        if let Some(owner) = owners.insert(scope.to_owned(), &connector.name) {
            let reason = format!("the scope {scope:?} belongs to {owner} already");
            reader.errors.push(section.error_with_hint(
                "",
                reason,
                "each scope has one owner: choose another",
            ));
        }
    }
}

/// `insecure` is the configuration's own, which is the default of every server's.
fn connector(
    reader: &mut Reader<'_>,
    name: &str,
    section: &Section,
    insecure: bool,
) -> Option<ConnectorConfig> {
    if let Some((_, meaning)) = RESERVED.iter().find(|(word, _)| *word == name) {
        let reason = format!("{name:?} is no name for a connector: it is {meaning}");
        reader.errors.push(section.error_at_key("", reason));
    } else {
        reader.name("connector", name, section);
    }
    let words: Vec<&str> = reader.transports.iter().map(|transport| transport.name()).collect();
    let hint = format!("{name}: {{{}: {{client: {{…}}}}}}", words.first().unwrap_or(&"TRANSPORT"));
    let (word, section) = only_entry(reader, section, "transport", &hint)?;
    let Some(transport) = find(reader.transports, &word) else {
        let reason = format!("there is no transport {word:?} in this build");
        reader.errors.push(section.error_at_key("", reason).hint(suggest::hint(&word, &words)));
        return None;
    };
    let schema = transport.schema();
    let roles: Vec<&str> = [("client", schema.client.is_some()), ("server", schema.server.is_some())]
        .into_iter()
        .filter_map(|(role, has)| has.then_some(role))
        .collect();
    let hint = format!("{word}: {{{}: {{…}}}}", roles.join(": {…}} or {"));
    if let Some((key, wrong)) = section.entries().iter().find(|(key, _)| !roles.contains(&key.as_str())) {
        let near = suggest::nearest(key, &roles).map(|near| format!("did you mean `{near}`?"));
        let reason = format!("is no role of {word}, which has: {}", roles.join(", "));
        reader.errors.push(wrong.error_at_key("", reason).hint(near.unwrap_or(hint)));
        return None;
    }
    let (role, mut section) = only_entry(reader, &section, "role", &hint)?;
    let role = if role == "client" { Role::Client } else { Role::Server };
    let knows = |schema: &schemars::Schema| schema.as_value().pointer("/properties/insecure").is_some();
    if insecure && role == Role::Server && schema.server.as_ref().is_some_and(knows) {
        section = section.with_true("insecure");
    }
    let mut connector =
        ConnectorConfig { name: name.to_owned(), transport: transport.name(), role, section, valid: true };
    let built = connector.build(reader.transports).map(drop);
    connector.valid = reader.keep(built).is_some();
    Some(connector)
}

/// The one entry of a map that must have one.
fn only_entry(
    reader: &mut Reader<'_>,
    section: &Section,
    what: &str,
    hint: &str,
) -> Option<(String, Section)> {
    let mut entries = section.entries();
    if let Some((second, below)) = entries.get(1) {
        let first = entries.first().map(|(key, _)| key.as_str()).unwrap_or_default();
        let reason = format!("a connector has one {what}, here are {first} and {second}");
        let hint = "make two connectors";
        reader.errors.push(below.error_at_key("", reason).hint(hint));
        return None;
    }
    let only = entries.pop();
    if only.is_none() {
        reader.errors.push(section.error_at_key("", format!("names no {what}")).hint(hint));
    }
    only
}
