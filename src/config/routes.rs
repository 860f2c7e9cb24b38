//! `routes:`: where events come from, which of them, and where they go.

use crate::core::Key;
use crate::core::cesql::{Expression, SyntaxError};
use crate::core::delivery::Target;
use crate::core::selector::{Dialect, TopicFilter};
use crate::core::template::{Spelling, Template};
use crate::core::topic::RESERVED;

use super::connectors::{self, ConnectorConfig};
use super::error::ConfigError;
use super::filters::{self, FilterConfig};
use super::load::Reader;
use super::section::Section;
use super::settings::{Retry, WhenFull};
use super::suggest;

/// Most deliveries of a route under way.
pub const IN_FLIGHT_MAX: usize = 65_536;
const IN_FLIGHT: usize = 1024;
/// Where what is rejected for good goes, unless the route says otherwise.
pub(super) const DEAD_LETTER: &str = "dead/{route}";
/// Everything a route may hold.
pub(super) const KEYS: [&str; 9] =
    ["from", "where", "dialects", "filters", "to", "retry", "dead_letter", "when_full", "in_flight"];

/// A route as configured: plain data.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// Its name.
    pub name: String,
    /// What it takes, any of these; empty for everything but the bus's own publications and dead letters.
    pub from: Vec<Source>,
    /// What must hold for an event it takes, all of these: `dialects:`, then `where:`.
    pub dialects: Vec<Dialect>,
    /// What is done with that before it goes anywhere, in order.
    pub filters: Vec<FilterConfig>,
    /// Where that goes, all of these.
    pub to: Vec<Sink>,
    /// How a rejected delivery is tried again.
    pub retry: Retry,
    /// Where what is rejected for good goes.
    pub dead_letter: Sink,
    /// What gives way when the log is full.
    pub when_full: WhenFull,
    /// Most deliveries under way, 1 to [`IN_FLIGHT_MAX`].
    pub in_flight: usize,
    /// All of it as it stands in the file.
    pub section: Section,
}

/// One entry of `from:`. What is not set takes everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Only what came in by this connector.
    pub connector: Option<String>,
    /// Only what is on these topics.
    pub topic: Option<TopicFilter>,
}

/// One entry of `to:`, or the dead letter.
#[derive(Clone, Debug)]
pub struct Sink {
    /// Only what a filter emits under this name.
    pub output: Option<String>,
    /// Where it goes.
    pub place: Destination,
}

/// Where a route sends.
#[derive(Clone, Debug)]
pub enum Destination {
    /// To a connector, under the settings its transport read.
    Connector {
        /// The connector's name.
        name: String,
        /// Address and settings.
        target: Target,
    },
    /// Back onto the bus, on this topic.
    Bus(Template),
    /// Into the state of the bus's own, at this topic.
    State(Template),
}

/// All routes; one with errors is left out.
pub(super) fn read(
    reader: &mut Reader<'_>,
    root: &Section,
    connectors: &[ConnectorConfig],
) -> Vec<RouteConfig> {
    let Some(section) = root.get("routes").filter(|section| !section.is_null()) else { return Vec::new() };
    if !section.is_map() {
        let hint = "routes: {NAME: {from: [CONNECTOR], to: [{connector: OTHER, …}]}}";
        reader.errors.push(section.error_with_hint("", "expected a map of names to routes", hint));
        return Vec::new();
    }
    section
        .entries()
        .iter()
        .filter_map(|(name, section)| route(reader, name, section, connectors))
        .collect()
}

fn route(
    reader: &mut Reader<'_>,
    name: &str,
    section: &Section,
    connectors: &[ConnectorConfig],
) -> Option<RouteConfig> {
    reader.name("route", name, section);
    if !reader.keys(section, &KEYS) {
        return None;
    }
    let from = sources(reader, section, connectors);
    let filters = filters::read(reader, section);
    let to = sinks(reader, section, connectors);
    check_outputs(reader, section, &filters);
    let dead_letter = match section.get("dead_letter") {
        Some(section) => sink(reader, &section, connectors),
        None => default_dead_letter(reader, section),
    };
    if let Some(from) = &from {
        check_ways_back(reader, section, from, &to);
    }
    Some(RouteConfig {
        name: name.to_owned(),
        dialects: dialects(reader, section),
        retry: retry(reader, section),
        when_full: reader.part(section, "when_full"),
        in_flight: in_flight(reader, section),
        from: from?,
        filters,
        to,
        dead_letter: dead_letter?,
        section: section.clone(),
    })
}

fn sources(
    reader: &mut Reader<'_>,
    section: &Section,
    connectors: &[ConnectorConfig],
) -> Option<Vec<Source>> {
    let Some(from) = section.get("from").filter(|from| !from.is_null()) else { return Some(Vec::new()) };
    let hint = "from: [CONNECTOR], [{connector: CONNECTOR, topic: \"a/#\"}] or [{topic: \"a/#\"}]";
    if !from.is_list() {
        reader.errors.push(from.error_with_hint("", "expected a list", hint));
        return None;
    }
    let items = from.items();
    if items.is_empty() {
        let hint = "leave `from:` out to take everything";
        reader.errors.push(from.error_with_hint("", "takes nothing: the list is empty", hint));
        return None;
    }
    let before = reader.errors.len();
    let sources = items.iter().filter_map(|item| source(reader, item, connectors, hint)).collect();
    (reader.errors.len() == before).then_some(sources)
}

fn source(
    reader: &mut Reader<'_>,
    item: &Section,
    connectors: &[ConnectorConfig],
    hint: &str,
) -> Option<Source> {
    if let Some(name) = item.text() {
        if name == "capture" {
            reader.errors.push(item.error("", "capture is not part of this build"));
            return None;
        }
        known_source(reader, item, name, connectors)?;
        return Some(Source { connector: Some(name.to_owned()), topic: None });
    }
    if !item.is_map() {
        reader.errors.push(item.error_with_hint("", "is no source", hint));
        return None;
    }
    reader.keys(item, &["connector", "topic"]);
    let connector: Option<String> = reader.part(item, "connector");
    let topic: Option<String> = reader.part(item, "topic");
    if connector.is_none() && topic.is_none() {
        reader.errors.push(item.error_with_hint("", "names neither a connector nor a topic", hint));
    }
    if let Some(name) = &connector {
        known_source(reader, &item.get("connector")?, name, connectors)?;
    }
    let topic = match topic {
        Some(text) => {
            let filter = TopicFilter::parse(&text).map_err(|error| item.error("topic", error.to_string()));
            Some(reader.keep(filter)?)
        }
        None => None,
    };
    Some(Source { connector, topic })
}

/// Whether something that brings state or events is called `name`: a connector, or a derivation.
fn known_source(
    reader: &mut Reader<'_>,
    section: &Section,
    name: &str,
    connectors: &[ConnectorConfig],
) -> Option<()> {
    if reader.derived.iter().any(|derived| derived == name) {
        return Some(());
    }
    known(reader, section, name, connectors).map(drop)
}

/// The connector that `name` at `section` names.
fn known<'c>(
    reader: &mut Reader<'_>,
    section: &Section,
    name: &str,
    connectors: &'c [ConnectorConfig],
) -> Option<&'c ConnectorConfig> {
    let found = connectors.iter().find(|connector| connector.name == name);
    if found.is_none() {
        let names: Vec<&str> = connectors.iter().map(|connector| connector.name.as_str()).collect();
        let hint = match names.as_slice() {
            [] => "define it under `connectors:`".to_owned(),
            names => suggest::hint(name, names),
        };
        reader.errors.push(section.error_with_hint("", format!("there is no connector {name:?}"), hint));
    }
    found
}

fn sinks(reader: &mut Reader<'_>, section: &Section, connectors: &[ConnectorConfig]) -> Vec<Sink> {
    let hint = "to: [{connector: CONNECTOR, …}] or [{bus: \"topic/{attribute}\"}]";
    let Some(to) = section.get("to") else {
        reader.errors.push(section.error_at_key("", "goes nowhere: `to:` is missing").hint(hint));
        return Vec::new();
    };
    let items = to.items();
    if items.is_empty() {
        let reason = if to.is_list() { "goes nowhere: the list is empty" } else { "expected a list" };
        reader.errors.push(to.error_with_hint("", reason, hint));
    }
    items.iter().filter_map(|item| sink(reader, item, connectors)).collect()
}

fn sink(reader: &mut Reader<'_>, item: &Section, connectors: &[ConnectorConfig]) -> Option<Sink> {
    let hint = "{connector: CONNECTOR, …}, {bus: \"topic/{attribute}\"} or {state: \"topic/{attribute}\"}";
    if !item.is_map() {
        reader.errors.push(item.error_with_hint("", "expected a map", hint));
        return None;
    }
    let output = reader.part(item, "output");
    if let (Some(at), None, None) = (item.get("state"), item.get("connector"), item.get("bus")) {
        reader.keys(item, &["state", "output"]);
        let text: String = reader.keep(at.parse())?;
        let template = reader.keep(state_topic(&at, &text))?;
        return Some(Sink { output, place: Destination::State(template) });
    }
    match (item.get("connector"), item.get("bus")) {
        (Some(at), None) => {
            let name: String = reader.keep(at.parse())?;
            let connector = known(reader, &at, &name, connectors)?;
            if connector.is_server() {
                let reason = format!("{name} is a server: its clients take what is on the bus");
                reader.errors.push(at.error_with_hint("", reason, "{bus: \"topic/{attribute}\"}"));
                return None;
            }
            // What is wrong with the connector's own settings is told once, there.
            let transport =
                connectors::find(reader.transports, connector.transport).filter(|_| connector.valid)?;
            let target = transport.target(&connector.section, &item.without(&["connector", "output"]));
            let target = reader.keep(target)?;
            Some(Sink { output, place: Destination::Connector { name, target } })
        }
        (None, Some(at)) => {
            reader.keys(item, &["bus", "output"]);
            let text: String = reader.keep(at.parse())?;
            let template = reader.keep(bus_topic(&at, &text))?;
            Some(Sink { output, place: Destination::Bus(template) })
        }
        (Some(_), Some(_)) => {
            let error = item.error_at_key("bus", "has both a connector and a topic on the bus");
            reader.errors.push(error.hint("make it two entries"));
            None
        }
        (None, None) => {
            // `{conector: x}` is a slip of the key, not a missing one.
            let near = item.entries().into_iter().find_map(|(key, below)| {
                suggest::nearest(&key, &["connector", "bus", "state"]).map(|near| (near.to_owned(), below))
            });
            reader.errors.push(match near {
                Some((near, below)) => {
                    let error = below.error_at_key("", "is no field known here");
                    error.hint(format!("did you mean `{near}`?"))
                }
                None => item.error_with_hint("", "names neither a connector nor a topic on the bus", hint),
            });
            None
        }
    }
}

/// A template of a topic that a plain publication may have.
fn bus_topic(at: &Section, text: &str) -> Result<Template, ConfigError> {
    let template = Template::parse(text, Spelling::Topic).map_err(|reason| at.error("", reason))?;
    let first = text.split('/').next().unwrap_or_default();
    if RESERVED.contains(&first) {
        let reason = format!("{first}/ is reserved for the bus's own publications and for state");
        return Err(at.error_with_hint(
            "",
            reason,
            format!("another first level, such as events/{first}/…"),
        ));
    }
    Ok(template)
}

/// A template of a topic where state of the bus's own lives.
fn state_topic(at: &Section, text: &str) -> Result<Template, ConfigError> {
    let template = Template::parse(text, Spelling::Topic).map_err(|reason| at.error("", reason))?;
    let mut levels = text.split('/');
    let (first, second) = (levels.next().unwrap_or_default(), levels.next().unwrap_or_default());
    match first {
        "k8s" | "xds" if second != Key::LOCAL => {
            let reason = format!("a route writes the bus's own state only, not that of a scope {second:?}");
            let hint = format!("{first}/{}/…, or {{connector: {second}, …}}", Key::LOCAL);
            Err(at.error_with_hint("", reason, hint))
        }
        "bus" | "flows" => {
            let reason = format!("{first}/ is state that the bus alone writes");
            Err(at.error_with_hint("", reason, "limits/{subject}, or xds/local/TYPE/{subject}"))
        }
        _ => Ok(template),
    }
}

fn default_dead_letter(reader: &mut Reader<'_>, section: &Section) -> Option<Sink> {
    let template = Template::parse(DEAD_LETTER, Spelling::Topic);
    let template = reader.keep(template.map_err(|reason| section.error("", reason)))?;
    Some(Sink { output: None, place: Destination::Bus(template) })
}

/// A `to:` with an output that no filter emits to would never get anything; a dead letter takes all there are.
fn check_outputs(reader: &mut Reader<'_>, section: &Section, filters: &[FilterConfig]) {
    let to = section.get("to").map(|to| to.items()).unwrap_or_default();
    let named = to.iter().filter(|item| item.get("output").is_some());
    for item in named.filter(|_| !filters::have_outputs(filters)) {
        let error = item.error_at_key("output", "no filter of this route has a named output");
        reader.errors.push(error.hint("leave it out, or add the filter that emits to it"));
    }
    if let Some(dead) = section.get("dead_letter").filter(|dead| dead.get("output").is_some()) {
        let error =
            dead.error_at_key("output", "a dead letter takes what is rejected, whatever its output");
        reader.errors.push(error.hint("leave it out"));
    }
}

/// An event does not go back to the connector it came in by, so such a `to:` would never get anything.
fn check_ways_back(reader: &mut Reader<'_>, section: &Section, from: &[Source], to: &[Sink]) {
    let Some(Some(only)) = from.first().map(|source| source.connector.as_deref()) else { return };
    if from.iter().any(|source| source.connector.as_deref() != Some(only)) {
        return;
    }
    if to.iter().any(|sink| matches!(&sink.place, Destination::Connector { name, .. } if name == only)) {
        let items = section.get("to").map(|to| to.items()).unwrap_or_default();
        for item in items {
            let Some(at) = item.get("connector").filter(|at| at.text() == Some(only)) else { continue };
            let reason = format!("never sends: an event does not go back to {only}, which it came in by");
            reader.errors.push(at.error_with_hint("", reason, "use two connectors to the same peer"));
        }
    }
}

fn dialects(reader: &mut Reader<'_>, section: &Section) -> Vec<Dialect> {
    let list = section.get("dialects").filter(|list| !list.is_null());
    if let Some(list) = list.as_ref().filter(|list| !list.is_list()) {
        let hint = "dialects: [{exact: {type: com.example.created}}]";
        reader.errors.push(list.error_with_hint("", "expected a list", hint));
    }
    let items = list.map(|list| list.items()).unwrap_or_default();
    let mut dialects: Vec<Dialect> = items.iter().filter_map(|item| dialect(reader, item)).collect();
    dialects.extend(expression(reader, section).map(Dialect::Sql));
    for dialect in &mut dialects {
        dialect.share(&mut reader.expressions);
    }
    dialects
}

fn dialect(reader: &mut Reader<'_>, item: &Section) -> Option<Dialect> {
    let dialect: Dialect = reader.keep(item.parse())?;
    reader.keep(dialect.validate().map_err(|reason| item.error("", reason)))?;
    Some(dialect)
}

/// `where:`; what is wrong is shown at its place in the file, and told by its column in the expression.
fn expression(reader: &mut Reader<'_>, section: &Section) -> Option<Expression> {
    let at = section.get("where").filter(|at| !at.is_null())?;
    let Some(text) = at.text() else {
        let hint = "where: \"type = 'com.example.created'\"; a list goes under `dialects:`";
        reader.errors.push(at.error_with_hint("", "expected an expression of CloudEvents SQL", hint));
        return None;
    };
    let wrong = |error: SyntaxError| {
        let SyntaxError { column, reason } = &error;
        let place = error.place(text);
        // Over several lines, the file has the expression otherwise than it is read.
        let shift = if text.contains('\n') { String::new() } else { format!("column {column}: ") };
        at.error("", format!("{shift}{reason} ({place} of the expression)"))
    };
    reader.keep(Expression::filter(text).map_err(wrong))
}

fn retry(reader: &mut Reader<'_>, section: &Section) -> Retry {
    let retry: Retry = reader.part(section, "retry");
    reader.above_zero(section, "retry.max_attempts", retry.max_attempts.into());
    reader.above_zero(section, "retry.backoff.initial", retry.backoff.initial.0.as_nanos() as u64);
    if retry.backoff.max < retry.backoff.initial {
        let reason = format!("{} is below the first pause, {}", retry.backoff.max, retry.backoff.initial);
        reader.errors.push(section.error("retry.backoff.max", reason));
    }
    retry
}

fn in_flight(reader: &mut Reader<'_>, section: &Section) -> usize {
    let in_flight = reader.part::<Option<usize>>(section, "in_flight").unwrap_or(IN_FLIGHT);
    if !(1..=IN_FLIGHT_MAX).contains(&in_flight) {
        let reason = format!("{in_flight} is out of bounds");
        reader.errors.push(section.error_with_hint("in_flight", reason, format!("1 to {IN_FLIGHT_MAX}")));
    }
    in_flight
}
