//! `meshbus graph`: the routes of a configuration as a picture, in Mermaid or DOT.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};

use super::{Failure, Files, output};
use crate::config::{Config, Destination, RouteConfig, Sink, Source};

/// Draw the routes: Mermaid (Markdown renders it), or DOT for Graphviz
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus graph -c edge.yaml
  meshbus graph -c edge.yaml --format dot | dot -Tsvg > edge.svg")]
pub(super) struct Graph {
    #[command(flatten)]
    files: Files,
    /// Language of the picture
    #[arg(long, value_enum, default_value_t = Format::Mermaid)]
    format: Format,
}

/// The language of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Mermaid,
    Dot,
}

impl Graph {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.files.load()?;
        let picture = Picture::of(&config);
        output::write(match self.format {
            Format::Mermaid => picture.mermaid(),
            Format::Dot => picture.dot(),
        })
    }
}

/// What a node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Bus,
    Connector,
    Route,
}

/// A node, with the lines of its label.
#[derive(Debug)]
struct Node {
    id: String,
    shape: Shape,
    label: Vec<String>,
}

/// An arrow; a dead letter is dotted.
#[derive(Debug)]
struct Arrow {
    from: String,
    to: String,
    label: String,
    dead: bool,
}

/// Nodes and arrows in the configuration's order.
#[derive(Debug, Default)]
struct Picture {
    nodes: Vec<Node>,
    arrows: Vec<Arrow>,
}

impl Picture {
    fn of(config: &Config) -> Self {
        let mut picture = Self::default();
        for (at, connector) in config.connectors.iter().enumerate() {
            let role = format!("{} {}", connector.transport, connector.role.as_str());
            let label = vec![connector.name.clone(), role];
            picture.nodes.push(Node { id: format!("c{at}"), shape: Shape::Connector, label });
        }
        picture.nodes.push(Node {
            id: "bus".to_owned(),
            shape: Shape::Bus,
            label: vec![config.name.clone()],
        });
        for (at, route) in config.routes.iter().enumerate() {
            picture.route(config, &format!("r{at}"), route);
        }
        // The bus is a place of its own only where something comes from it or goes to it.
        if !picture.arrows.iter().any(|arrow| arrow.from == "bus" || arrow.to == "bus")
            && !config.routes.is_empty()
        {
            picture.nodes.retain(|node| node.shape != Shape::Bus);
        }
        picture
    }

    fn route(&mut self, config: &Config, id: &str, route: &RouteConfig) {
        use crate::core::selector::Predicate;
        let mut label = vec![route.name.clone()];
        label.extend(route.dialects.iter().map(Predicate::text));
        label.extend(route.filters.iter().map(|filter| filter.spec.factory.name().to_string()));
        self.nodes.push(Node { id: id.to_owned(), shape: Shape::Route, label });
        let node = |name: &str| {
            let at = config.connectors.iter().position(|connector| connector.name == name);
            at.map_or_else(|| "bus".to_owned(), |at| format!("c{at}"))
        };
        let everything = [Source { connector: None, topic: None }];
        let sources = if route.from.is_empty() { &everything[..] } else { &route.from };
        for source in sources {
            let from = source.connector.as_deref().map_or_else(|| "bus".to_owned(), node);
            let label = match (&source.topic, &source.connector) {
                (Some(topic), _) => topic.to_string(),
                (None, Some(_)) => String::new(),
                (None, None) => "everything".to_owned(),
            };
            self.arrows.push(Arrow { from, to: id.to_owned(), label, dead: false });
        }
        let mut arrow = |sink: &Sink, dead: bool| {
            let (to, label) = match &sink.place {
                Destination::Bus(topic) | Destination::State(topic) => {
                    ("bus".to_owned(), topic.text().into_owned())
                }
                Destination::Connector { name, target } => (
                    node(name),
                    target.address.as_ref().map(|it| it.text().into_owned()).unwrap_or_default(),
                ),
            };
            let label = match &sink.output {
                Some(output) => format!("{output}: {label}"),
                None => label,
            };
            self.arrows.push(Arrow { from: id.to_owned(), to, label, dead });
        };
        route.to.iter().for_each(|sink| arrow(sink, false));
        // The one that is always there says nothing.
        if route.section.get("dead_letter").is_some() {
            arrow(&route.dead_letter, true);
        }
    }

    fn mermaid(&self) -> String {
        let mut text = "flowchart LR\n".to_owned();
        for Node { id, shape, label } in &self.nodes {
            let label: Vec<String> = label.iter().map(|line| mermaid(line)).collect();
            let label = label.join("<br/>");
            // Writing to a string does not fail.
            let _infallible = match shape {
                Shape::Bus => writeln!(text, "  {id}((\"{label}\"))"),
                Shape::Connector => writeln!(text, "  {id}[\"{label}\"]"),
                Shape::Route => writeln!(text, "  {id}{{{{\"{label}\"}}}}"),
            };
        }
        for Arrow { from, to, label, dead } in &self.arrows {
            let line = if *dead { "-.->" } else { "-->" };
            let label = if label.is_empty() { String::new() } else { format!("|\"{}\"|", mermaid(label)) };
            let _infallible = writeln!(text, "  {from} {line}{label} {to}");
        }
        text
    }

    fn dot(&self) -> String {
        let mut text = "digraph meshbus {\n  rankdir=LR;\n".to_owned();
        for Node { id, shape, label } in &self.nodes {
            let shape = match shape {
                Shape::Bus => "circle",
                Shape::Connector => "box",
                Shape::Route => "hexagon",
            };
            let label: Vec<String> = label.iter().map(|line| dot(line)).collect();
            let _infallible = writeln!(text, "  {id} [shape={shape}, label=\"{}\"];", label.join("\\n"));
        }
        for Arrow { from, to, label, dead } in &self.arrows {
            let style = if *dead { ", style=dashed" } else { "" };
            let _infallible = writeln!(text, "  {from} -> {to} [label=\"{}\"{style}];", dot(label));
        }
        text.push_str("}\n");
        text
    }
}

/// A label of Mermaid: what its grammar or HTML would read goes as an entity.
fn mermaid(text: &str) -> String {
    let mut label = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => label.push_str("#quot;"),
            '#' | '<' | '>' | '&' | ';' | '`' | '\\' | '|' | '*' | '_' => {
                // Writing to a string does not fail.
                let _infallible = write!(label, "#{};", u32::from(c));
            }
            c if c.is_control() => label.push(' '),
            c => label.push(c),
        }
    }
    label
}

fn dot(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_text_whatever_they_hold() {
        assert_eq!(mermaid("a/# \"<b>\""), "a/#35; #quot;#60;b#62;#quot;");
        assert_eq!(dot("a\"b\\\n"), "a\\\"b\\\\ ");
    }
}
