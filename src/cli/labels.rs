//! Label selectors, as [Kubernetes](https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/)
//! has them: `app=web,tier!=cache,env in (a, b),!legacy`. Looked up in `metadata.labels` of JSON data.

use std::fmt;

use serde_json::Value;

/// All of these must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LabelSelector {
    /// As it was written.
    text: String,
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Exists(String),
    Absent(String),
    In(String, Vec<String>),
    /// A label that is absent is in no set.
    NotIn(String, Vec<String>),
}

/// As it was written, for a server that looks itself.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for LabelSelector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let requirements = split(text).into_iter().map(|part| requirement(part.trim()));
        Ok(Self { text: text.to_owned(), requirements: requirements.collect::<Result<_, _>>()? })
    }
}

impl LabelSelector {
    /// Whether data (JSON) has such labels; what is no JSON has none.
    pub(super) fn matches(&self, data: &[u8]) -> bool {
        let object: Value = serde_json::from_slice(data).unwrap_or_default();
        let label = |name: &str| object.get("metadata")?.get("labels")?.get(name)?.as_str();
        self.requirements.iter().all(|requirement| match requirement {
            Requirement::Exists(name) => label(name).is_some(),
            Requirement::Absent(name) => label(name).is_none(),
            Requirement::In(name, values) => {
                label(name).is_some_and(|it| values.iter().any(|value| value == it))
            }
            Requirement::NotIn(name, values) => {
                !label(name).is_some_and(|it| values.iter().any(|value| value == it))
            }
        })
    }
}

/// At commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let wrong = || format!("{text:?} is no label selector: app=web, app!=web, app, !app, env in (a, b)");
    let name = |text: &str| {
        let text = text.trim();
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        if !text.is_empty() && text.chars().all(good) { Ok(text.to_owned()) } else { Err(wrong()) }
    };
    if let Some((left, right)) = text.split_once("!=") {
        return Ok(Requirement::NotIn(name(left)?, vec![right.trim().to_owned()]));
    }
    if let Some((left, right)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Requirement::In(name(left)?, vec![right.trim().to_owned()]));
    }
    if let Some(left) = text.strip_prefix('!') {
        return Ok(Requirement::Absent(name(left)?));
    }
    let Some((left, values)) = text.split_once('(') else { return Ok(Requirement::Exists(name(text)?)) };
    let values = values.strip_suffix(')').ok_or_else(wrong)?;
    let values = values.split(',').map(|value| value.trim().to_owned()).collect();
    let left = left.trim_end();
    if let Some(left) = left.strip_suffix(" notin") {
        return Ok(Requirement::NotIn(name(left)?, values));
    }
    let left = left.strip_suffix(" in").ok_or_else(wrong)?;
    Ok(Requirement::In(name(left)?, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: &[u8] = br#"{"metadata":{"labels":{"app":"web","a.b/c":"x"}}}"#;

    #[test]
    fn every_form_selects() {
        for (selector, expected) in [
            ("app=web", true),
            ("app==web, a.b/c", true),
            ("app!=web", false),
            ("tier!=cache,!tier", true),
            ("app in (db, web)", true),
            ("app notin (db,web)", false),
            ("tier notin (x)", true),
            ("tier", false),
        ] {
            let parsed: LabelSelector = selector.parse().unwrap();
            assert_eq!(parsed.matches(OBJECT), expected, "{selector}");
        }
        assert!(!"app".parse::<LabelSelector>().unwrap().matches(b"no json"));
    }

    #[test]
    fn what_is_no_selector_says_so() {
        for wrong in ["", "=x", "app in web", "a b", "app in (x", "!"] {
            assert!(wrong.parse::<LabelSelector>().unwrap_err().contains("app=web"), "{wrong}");
        }
    }
}
