//! Reads templates, and says by column what is wrong with one.

use super::{Field, Piece, Source, Spelling};
use crate::core::data::Path;
use crate::core::envelope::{ATTRIBUTE_NAME_MAX, check_name};

/// What stands in a column, for the check of literal text.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    Literal(char),
    Value,
    WholeTopic,
}

/// A mark and its column.
type Marks = Vec<(Mark, usize)>;

/// Splits a template into its pieces; literal text next to literal text becomes one piece.
pub(super) fn pieces(text: &str, spelling: Spelling) -> Result<Vec<Piece>, String> {
    if text.is_empty() {
        return Err("column 1: the template is empty".to_owned());
    }
    if text.len() > spelling.max() {
        return Err(format!("column 1: the template is too long: at most {} bytes", spelling.max()));
    }
    let mut pieces = Vec::new();
    let mut marks = Marks::new();
    let mut literal = String::new();
    let mut rest = text;
    let mut column = 1;
    while let Some(c) = rest.chars().next() {
        let after = rest.strip_prefix(c).unwrap_or_default();
        let doubled = if matches!(c, '{' | '}') { after.strip_prefix(c) } else { None };
        if c == '{' && doubled.is_none() {
            let Some((inside, after)) = after.split_once('}') else {
                return Err(format!("column {column}: {{ is not closed; write {{{{ for a brace"));
            };
            let field = field(inside).map_err(|reason| format!("column {column}: {reason}"))?;
            let mark = if field.source == Source::Topic { Mark::WholeTopic } else { Mark::Value };
            marks.push((mark, column));
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal).into()));
            }
            pieces.push(Piece::Field(field));
            column += inside.chars().count() + 2;
            rest = after;
        } else if c == '}' && doubled.is_none() {
            return Err(format!("column {column}: }} closes nothing; write }}}} for a brace"));
        } else {
            literal.push(c);
            marks.push((Mark::Literal(c), column));
            column += if doubled.is_some() { 2 } else { 1 };
            rest = doubled.unwrap_or(after);
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal.into()));
    }
    check(marks, column, spelling)?;
    Ok(pieces)
}

/// Reads what stands between braces.
fn field(text: &str) -> Result<Field, String> {
    let (name, default) = match text.split_once('|') {
        Some((name, default)) => (name, Some(default.into())),
        None => (text, None),
    };
    if name.contains('{') {
        return Err(format!("{{{text}}} holds a brace: {{ is not closed before it"));
    }
    Ok(Field { name: name.into(), source: source(name)?, default })
}

pub(super) fn source(name: &str) -> Result<Source, String> {
    match name {
        "topic" => return Ok(Source::Topic),
        "route" => return Ok(Source::Route),
        "data" => return Err("{data} is no single value: write a path such as {data.name}".to_owned()),
        "" => return Err("{} names no field: write {{ and }} for braces".to_owned()),
        "id" | "source" | "type" | "subject" | "time" | "datacontenttype" | "dataschema"
        | "specversion" => {
            return Ok(Source::Attribute);
        }
        _ => {}
    }
    if let Some(path) =
        name.strip_prefix("data.").or_else(|| name.strip_prefix("data").filter(|p| p.starts_with('[')))
    {
        return Path::parse(path).map(Source::Data).map_err(|reason| format!("{{{name}}} {reason}"));
    }
    if let Some(number) = name.strip_prefix("topic.") {
        let number = number.parse().map(Source::Token);
        return number.map_err(|_| format!("{{{name}}} names no token: write {{topic.0}} for the first"));
    }
    match check_name(name) {
        Ok(()) => Ok(Source::Attribute),
        Err(_) => Err(format!(
            "{{{name}}} names no field: write an attribute (1 to {ATTRIBUTE_NAME_MAX} of a-z and 0-9), \
             {{data.path}}, {{topic}}, {{topic.0}} or {{route}}"
        )),
    }
}

/// Checks literal text, by character and by token; the template ends before column `end`.
fn check(mut marks: Marks, end: usize, spelling: Spelling) -> Result<(), String> {
    for (mark, column) in &marks {
        let Mark::Literal(c) = *mark else { continue };
        let wrong = match spelling {
            _ if c.is_ascii_control() => "a control character",
            Spelling::Topic if matches!(c, '+' | '#') => "a wildcard (+ or #)",
            Spelling::Subject if c == ' ' => "a space, which ends a NATS subject",
            Spelling::Url if c == ' ' => "a space: write %20",
            _ => continue,
        };
        let what = if spelling == Spelling::Text { "text" } else { "address" };
        return Err(format!("column {column}: the {what} holds {wrong}"));
    }
    let separator = match spelling {
        Spelling::Topic => '/',
        Spelling::Subject => '.',
        // Percent-encoding needs no tokens.
        Spelling::Url | Spelling::Text => return Ok(()),
    };
    // With a separator at the end, each token is what ends in one.
    marks.push((Mark::Literal(separator), end));
    let mut start = 1;
    for token in marks.split_inclusive(|(mark, _)| *mark == Mark::Literal(separator)) {
        match token {
            [_] if spelling == Spelling::Subject => {
                return Err(format!("column {start}: the subject has an empty token"));
            }
            [(Mark::Literal(c @ ('*' | '>')), column), _] => {
                return Err(format!("column {column}: the address holds a wildcard ({c})"));
            }
            [_, _, _, ..] => {
                if let Some((_, column)) = token.iter().find(|(mark, _)| *mark == Mark::WholeTopic) {
                    return Err(format!(
                        "column {column}: {{topic}} is several tokens and stands alone between {separator:?}"
                    ));
                }
            }
            _ => {}
        }
        start = token.last().map_or(start, |(_, separator)| separator + 1);
    }
    Ok(())
}
