//! YAML text as a tree whose every key and value knows its place in the file.
//!
//! Built from the events of `saphyr-parser`. Its sibling `saphyr` resolves scalars while it loads, which loses
//! whether one was quoted, and a variable can only be resolved after expansion; `serde-saphyr` locates values
//! through wrapper types in each struct, and knows no place of a key. The events have both, and let the
//! bounds hold before anything is built. Scalars follow YAML 1.2's core schema, by `saphyr`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use saphyr::{Scalar, ScalarStyle, Tag};
use saphyr_parser::{Event, Marker, Parser, ScanError, Span};

use super::env::{self, Lookup};
use super::error::ConfigError;
use super::path::{self, Step};

/// Most bytes of one file.
pub const FILE_MAX: usize = 4 * 1024 * 1024;
/// Most maps and lists within each other.
pub const DEPTH_MAX: usize = 64;
/// Most values of one file, each alias counted with everything it stands for.
pub const NODES_MAX: usize = 250_000;

/// Most mistakes told at a time.
pub(crate) const ERRORS_MAX: usize = 100;

/// A file's name and text.
#[derive(PartialEq, Eq)]
pub(crate) struct Source {
    name: String,
    text: String,
}

/// A place in a file: line and column from 1, in characters.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    source: Arc<Source>,
    line: usize,
    column: usize,
}

/// A value and where it starts.
#[derive(Debug)]
pub(crate) struct Node {
    /// Where the value starts.
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    /// How many values this is, itself included, aliases expanded.
    nodes: usize,
    /// How many maps and lists are within each other here.
    depth: usize,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Arc<Node>>),
    Map(Vec<Entry>),
}

/// A key of a map, in the file's order.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Where the key stands.
    pub(crate) place: Place,
    pub(crate) value: Arc<Node>,
}

/// Reads one document, with variables replaced.
///
/// # Errors
/// All that is wrong with variables and repeated keys, and the first that is no YAML or out of bounds.
pub(crate) fn parse(name: &str, text: &str, env: Lookup<'_>) -> Result<Arc<Node>, Vec<ConfigError>> {
    if text.len() > FILE_MAX {
        let reason = format!("is too large: {} bytes, at most {FILE_MAX}", text.len());
        return Err(vec![ConfigError::in_file(name, reason)]);
    }
    let source = Arc::new(Source { name: name.to_owned(), text: text.to_owned() });
    let mut builder = Builder {
        env,
        stack: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        errors: Vec::new(),
        documents: 0,
        root: None,
        source: Arc::clone(&source),
    };
    let fatal = Parser::new_from_str(text).find_map(|event| match event {
        // Beyond what anyone reads, it is not worth going on.
        Ok(_) if builder.errors.len() > ERRORS_MAX => Some(ConfigError::in_file(name, "has more mistakes")),
        Ok((event, span)) => builder.take(event, span).err(),
        Err(error) => Some(builder.not_yaml(&error)),
    });
    builder.errors.extend(fatal);
    if !builder.errors.is_empty() {
        return Err(builder.errors);
    }
    let start = Place { source, line: 1, column: 1 };
    Ok(builder.root.unwrap_or_else(|| Arc::new(Node::new(start, Kind::Null))))
}

impl Source {
    /// The line of this number, from 1.
    pub(crate) fn line(&self, number: usize) -> Option<&str> {
        self.text.lines().nth(number.checked_sub(1)?)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Place {
    /// An error here.
    pub(crate) fn error(
        &self,
        path: impl Into<String>,
        reason: impl Into<String>,
        hint: Option<String>,
    ) -> ConfigError {
        ConfigError {
            file: self.source.name.clone(),
            line: self.line,
            column: self.column,
            path: path.into(),
            reason: reason.into(),
            hint,
            source: Some(Arc::clone(&self.source)),
        }
    }

    /// `FILE:LINE:COLUMN`
    pub(crate) fn text(&self) -> String {
        format!("{}:{}:{}", self.source.name, self.line, self.column)
    }

    /// The file's name.
    pub(crate) fn file(&self) -> &str {
        &self.source.name
    }
}

impl Node {
    pub(crate) fn new(place: Place, kind: Kind) -> Self {
        let (nodes, depth) = match &kind {
            Kind::List(items) => measure(items.iter()),
            Kind::Map(entries) => measure(entries.iter().map(|entry| &entry.value)),
            _ => (1, 0),
        };
        Self { place, kind, nodes, depth }
    }

    /// The value of `key`, of a map.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The place of a character of its text, counted from 1; `None` where the file does not have the text as
    /// it is, because of escapes, variables or line breaks.
    pub(crate) fn column(&self, number: usize) -> Option<Place> {
        let Kind::Text(text) = &self.kind else { return None };
        let line = self.place.source.line(self.place.line)?;
        let mut rest = line.chars().skip(self.place.column - 1).collect::<String>();
        let quoted = rest.starts_with(['"', '\'']);
        if quoted {
            rest.remove(0);
        }
        let inside = number >= 1 && number <= text.chars().count() + 1;
        (inside && rest.starts_with(text.as_str())).then(|| Place {
            column: self.place.column + usize::from(quoted) + number - 1,
            ..self.place.clone()
        })
    }

    /// Whether it is a map or a list.
    pub(crate) fn is_collection(&self) -> bool {
        matches!(self.kind, Kind::List(_) | Kind::Map(_))
    }

    /// The same value without places.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::from(*value),
            Kind::Integer(value) => Value::from(*value),
            Kind::Float(value) => Value::from(*value),
            Kind::Text(text) => Value::from(text.as_str()),
            Kind::List(items) => items.iter().map(|item| item.to_json()).collect(),
            Kind::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect()
            }
        }
    }
}

fn measure<'a>(values: impl Iterator<Item = &'a Arc<Node>>) -> (usize, usize) {
    values.fold((1, 1), |(nodes, depth), value| {
        (nodes.saturating_add(value.nodes), depth.max(value.depth.saturating_add(1)))
    })
}

/// A map or list that is not closed yet.
struct Frame {
    place: Place,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Arc<Node>>),
    /// The places of the keys so far are kept aside, so that a repeated one is found at once.
    Map {
        entries: Vec<Entry>,
        keys: HashMap<String, Place>,
        next: Option<(String, Place)>,
    },
}

struct Builder<'a> {
    source: Arc<Source>,
    env: Lookup<'a>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Arc<Node>>,
    nodes: usize,
    errors: Vec<ConfigError>,
    documents: usize,
    root: Option<Arc<Node>>,
}

impl Builder<'_> {
    /// Takes one event; an error ends the reading.
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), ConfigError> {
        let place = self.place(&span.start);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let hint = "put it into a file of its own and give both: `-c a.yaml -c b.yaml`";
                    return Err(place.error("", "a second document", Some(hint.to_owned())));
                }
                Ok(())
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(place, anchor, tag.as_deref(), "seq", Content::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                let map = Content::Map { entries: Vec::new(), keys: HashMap::new(), next: None };
                self.open(place, anchor, tag.as_deref(), "map", map)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(frame) = self.stack.pop() else { return Ok(()) };
                let kind = match frame.content {
                    Content::List(items) => Kind::List(items),
                    Content::Map { entries, .. } => Kind::Map(entries),
                };
                self.put(Node::new(frame.place, kind), frame.anchor)
            }
            Event::Scalar(text, style, anchor, tag) => self.scalar(place, text, style, anchor, tag),
            Event::Alias(anchor) => self.alias(place, anchor),
        }
    }

    fn open(
        &mut self,
        place: Place,
        anchor: usize,
        tag: Option<&Tag>,
        own_tag: &str,
        content: Content,
    ) -> Result<(), ConfigError> {
        if tag.is_some_and(|tag| !(tag.is_yaml_core_schema() && tag.suffix == own_tag)) {
            return Err(self.tagged(&place, tag));
        }
        if self.wants_key() {
            return Err(place.error(self.path(), "a key of a map is a single word or text", None));
        }
        if self.stack.len() >= DEPTH_MAX {
            let reason =
                format!("is nested too deep: at most {DEPTH_MAX} maps and lists within each other");
            return Err(place.error(self.path(), reason, None));
        }
        self.stack.push(Frame { place, anchor, content });
        Ok(())
    }

    fn scalar(
        &mut self,
        place: Place,
        text: Cow<'_, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
    ) -> Result<(), ConfigError> {
        if self.wants_key() {
            self.key(text.into_owned(), place);
            return Ok(());
        }
        let text = match env::expand(&text, self.env) {
            Ok(text) => text,
            Err((reason, hint)) => {
                self.errors.push(place.error(self.path(), reason, hint));
                Cow::Borrowed("")
            }
        };
        let kind = match tag.as_deref() {
            Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Kind::Text(text.into_owned()),
            Some(tag) if !tag.is_yaml_core_schema() => return Err(self.tagged(&place, Some(tag))),
            _ => match Scalar::parse_from_cow_and_metadata(text, style, tag.as_ref()) {
                Some(Scalar::Null) => Kind::Null,
                Some(Scalar::Boolean(value)) => Kind::Bool(value),
                Some(Scalar::Integer(value)) => Kind::Integer(value),
                Some(Scalar::FloatingPoint(value)) => Kind::Float(value.into_inner()),
                Some(Scalar::String(text)) => Kind::Text(text.into_owned()),
                None => return Err(self.tagged(&place, tag.as_deref())),
            },
        };
        self.put(Node::new(place, kind), anchor)
    }

    fn alias(&mut self, place: Place, anchor: usize) -> Result<(), ConfigError> {
        let Some(node) = self.anchors.get(&anchor).map(Arc::clone) else {
            return Err(place.error(self.path(), "an alias within what it stands for", None));
        };
        if self.wants_key() {
            return Err(place.error(self.path(), "a key of a map is no alias", None));
        }
        if self.stack.len() + node.depth > DEPTH_MAX {
            let reason =
                format!("is nested too deep: at most {DEPTH_MAX} maps and lists within each other");
            return Err(place.error(self.path(), reason, None));
        }
        self.count(node.nodes, &place)?;
        self.attach(node);
        Ok(())
    }

    fn put(&mut self, node: Node, anchor: usize) -> Result<(), ConfigError> {
        self.count(1, &node.place)?;
        let node = Arc::new(node);
        if anchor > 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        self.attach(node);
        Ok(())
    }

    fn count(&mut self, more: usize, place: &Place) -> Result<(), ConfigError> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > NODES_MAX {
            let reason = format!("too many values, aliases expanded: at most {NODES_MAX} in a file");
            return Err(place.error(self.path(), reason, None));
        }
        Ok(())
    }

    fn attach(&mut self, node: Arc<Node>) {
        match self.stack.last_mut().map(|frame| &mut frame.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, next, .. }) => {
                if let Some((key, place)) = next.take() {
                    entries.push(Entry { key, place, value: node });
                }
            }
        }
    }

    fn key(&mut self, key: String, place: Place) {
        let path = self.path();
        let Some(Content::Map { keys, next, .. }) = self.stack.last_mut().map(|frame| &mut frame.content)
        else {
            return;
        };
        if let Some(first) = keys.insert(key.clone(), place.clone()) {
            let mut at = path;
            path::push(&mut at, &Step::Key(key.clone()));
            let hint = format!("the first is at {}; keep one", first.text());
            self.errors.push(place.error(at, "is set twice in this map", Some(hint)));
        }
        *next = Some((key, place));
    }

    fn wants_key(&self) -> bool {
        matches!(self.stack.last().map(|frame| &frame.content), Some(Content::Map { next: None, .. }))
    }

    /// Where the reading is.
    fn path(&self) -> String {
        let mut text = String::new();
        for frame in &self.stack {
            match &frame.content {
                Content::List(items) => path::push(&mut text, &Step::Index(items.len())),
                Content::Map { next: Some((key, _)), .. } => path::push(&mut text, &Step::Key(key.clone())),
                Content::Map { next: None, .. } => {}
            }
        }
        text
    }

    fn place(&self, marker: &Marker) -> Place {
        Place { source: Arc::clone(&self.source), line: marker.line().max(1), column: marker.col() + 1 }
    }

    fn tagged(&self, place: &Place, tag: Option<&Tag>) -> ConfigError {
        let tag = tag.map(ToString::to_string).unwrap_or_default();
        place.error(
            self.path(),
            format!("the tag {tag} does not fit here"),
            Some("leave it out".to_owned()),
        )
    }

    /// Whether the reading is within brackets, which is where a forgotten one shows.
    fn unclosed(&self) -> Option<String> {
        let place = &self.stack.last()?.place;
        let bracket = self.source.line(place.line)?.chars().nth(place.column - 1)?;
        matches!(bracket, '[' | '{').then(|| format!("is the `{bracket}` at {} closed?", place.text()))
    }

    fn not_yaml(&self, error: &ScanError) -> ConfigError {
        let mut place = self.place(error.marker());
        let line = self.source.line(place.line).unwrap_or_default();
        let unspaced = line.trim_start_matches(' ');
        let hint = if unspaced.starts_with('\t') {
            // The scanner points behind the tab.
            place.column = line.len() - unspaced.len() + 1;
            Some("indent with spaces, not tabs".to_owned())
        } else if line.contains("${") {
            Some("within { } or [ ], put text with a variable in quotes: \"${VAR}\"".to_owned())
        } else if [": *", ": @", ": `", ": %"].iter().any(|sign| line.contains(sign)) {
            Some("put text that starts with * @ ` or % in quotes".to_owned())
        } else {
            self.unclosed()
        };
        place.error(self.path(), format!("is no YAML: {}", error.info()), hint)
    }
}
