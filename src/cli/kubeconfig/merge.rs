//! Merging into the text of a kubeconfig: what is ours is put in, every other byte stays where it is.
//!
//! A file as kubectl writes it is changed line by line. The result is read again, and where it does not say what it
//! should (a file in another style) the whole document is written anew: then its values stay, its comments do not.

use std::ops::Range;

use serde_json::{Map, Value, json};

use crate::config::yaml::to_yaml;

/// The lists of a kubeconfig, each with what its entries hold.
const LISTS: [(&str, &str); 3] = [("clusters", "cluster"), ("contexts", "context"), ("users", "user")];
const CURRENT: &str = "current-context";

/// What is to be in a kubeconfig.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) clusters: Vec<Value>,
    pub(super) contexts: Vec<Value>,
    pub(super) users: Vec<Value>,
    /// The context to use where none is chosen.
    pub(super) current: String,
}

impl Entries {
    /// A kubeconfig of these alone.
    pub(super) fn document(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": self.clusters,
            "contexts": self.contexts,
            "users": self.users,
            CURRENT: self.current,
        })
    }

    fn of(&self, list: &str) -> &[Value] {
        match list {
            "clusters" => &self.clusters,
            "contexts" => &self.contexts,
            _ => &self.users,
        }
    }
}

/// The text with the entries in it.
///
/// # Errors
/// Text that is no kubeconfig, in words.
pub(super) fn merge(text: &str, entries: &Entries) -> Result<String, String> {
    let before = match read(text)? {
        Value::Null => return Ok(to_yaml(entries.document())),
        Value::Object(before) => before,
        _ => return Err("is no kubeconfig: it is no map".to_owned()),
    };
    let after = Value::Object(wanted(&before, entries)?);
    if after.as_object() == Some(&before) {
        return Ok(text.to_owned());
    }
    match edited(text, &before, &after) {
        Some(edited) if read(&edited).is_ok_and(|have| have == after) => Ok(edited),
        _ if text.trim_start().starts_with('{') => {
            serde_json::to_string_pretty(&after).map(|text| format!("{text}\n")).map_err(|e| e.to_string())
        }
        _ => Ok(to_yaml(after)),
    }
}

fn read(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_saphyr::from_str(text).map_err(|error| format!("is no YAML: {error}"))
}

/// The document as it should be. Of an entry that is there, what we do not set stays: a context's namespace.
fn wanted(before: &Map<String, Value>, entries: &Entries) -> Result<Map<String, Value>, String> {
    let mut after = before.clone();
    for (list, inner) in LISTS {
        let have = after.entry(list).or_insert(Value::Null);
        if have.is_null() {
            *have = json!([]);
        }
        let have = have.as_array_mut().ok_or_else(|| format!("is no kubeconfig: {list} is no list"))?;
        for entry in entries.of(list) {
            match have.iter_mut().find(|have| have.get("name") == entry.get("name")) {
                None => have.push(entry.clone()),
                Some(have) => {
                    let ours = entry.get(inner).and_then(Value::as_object);
                    let held = have.as_object_mut().map(|have| have.entry(inner).or_insert(Value::Null));
                    let (Some(ours), Some(held)) = (ours, held) else { continue };
                    if !held.is_object() {
                        *held = json!({});
                    }
                    if let Some(held) = held.as_object_mut() {
                        held.extend(ours.clone());
                    }
                }
            }
        }
    }
    let chosen = after.get(CURRENT).and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    if !chosen {
        after.insert(CURRENT.to_owned(), json!(entries.current));
    }
    Ok(after)
}

/// The text changed only where the documents differ; `None` where its style is another than kubectl's.
fn edited(text: &str, before: &Map<String, Value>, after: &Value) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (list, _) in LISTS {
        let (held, wanted) = (before.get(list), after.get(list)?.as_array()?);
        let held = held.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let Some(at) = key(&lines, list) else {
            lines.push(format!("{list}:"));
            lines.extend(wanted.iter().flat_map(|entry| item(entry, "")));
            continue;
        };
        let rest = value(lines.get(at)?, list);
        if matches!(rest, "[]" | "null" | "~") {
            *lines.get_mut(at)? = format!("{list}:");
        } else if !rest.is_empty() {
            return None;
        }
        let items = items(&lines, at);
        if items.len() != held.len() {
            return None;
        }
        let indent = items.first().and_then(|range| lines.get(range.start)).map_or("", |line| indent(line));
        let indent = indent.to_owned();
        let mut fresh = wanted.iter().skip(held.len()).flat_map(|entry| item(entry, &indent)).peekable();
        let end = items.last().map_or(at + 1, |range| range.end);
        if fresh.peek().is_some() {
            let fresh: Vec<String> = fresh.collect();
            lines.splice(end..end, fresh);
        }
        // From the end, so that the places of those before stay.
        for ((range, held), wanted) in items.into_iter().zip(held).zip(wanted).rev() {
            if held != wanted {
                lines.splice(range, item(wanted, &indent));
            }
        }
    }
    if before.get(CURRENT) != after.get(CURRENT) {
        let line = to_yaml(json!({CURRENT: after.get(CURRENT)})).trim_end().to_owned();
        match key(&lines, CURRENT) {
            Some(at) => *lines.get_mut(at)? = line,
            None => lines.push(line),
        }
    }
    Some(lines.join("\n") + "\n")
}

/// The line of a key of the document.
fn key(lines: &[String], name: &str) -> Option<usize> {
    lines.iter().position(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))
}

/// What stands after the key, without a comment.
fn value<'a>(line: &'a str, name: &str) -> &'a str {
    let rest = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(':')).unwrap_or_default();
    let rest = rest.trim();
    if rest.starts_with('#') { "" } else { rest }
}

/// The lines of each item of the list below a key; blank lines and comments after an item are not its own.
fn items(lines: &[String], key: usize) -> Vec<Range<usize>> {
    let mut items: Vec<Range<usize>> = Vec::new();
    let mut dash = None;
    for (at, line) in lines.iter().enumerate().skip(key + 1) {
        let plain = line.trim();
        if plain.is_empty() || plain.starts_with('#') {
            continue;
        }
        let depth = indent(line).len();
        let is_dash = plain == "-" || plain.starts_with("- ");
        if is_dash && dash.is_none_or(|dash| dash == depth) {
            dash = Some(depth);
            items.push(at..at + 1);
        } else if dash.is_some_and(|dash| depth > dash)
            && let Some(last) = items.last_mut()
        {
            last.end = at + 1;
        } else {
            break;
        }
    }
    items
}

fn indent(line: &str) -> &str {
    let depth = line.len() - line.trim_start_matches(' ').len();
    line.get(..depth).unwrap_or_default()
}

/// An entry as an item of a list.
fn item(entry: &Value, indent: &str) -> Vec<String> {
    let text = to_yaml(json!([entry]));
    text.lines().filter(|line| !line.is_empty()).map(|line| format!("{indent}{line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kubectl writes it, with what people put in.
    const FILE: &str = "\
# mine
apiVersion: v1
clusters:
- cluster:
    server: https://one.example.com   # the first
  name: one
# before the next key
contexts:
- context:
    cluster: one
    user: me
  name: one
current-context: one
kind: Config
preferences: {}
users:
- name: me
  user:
    exec:
      command: get-token
      args: [\"${HOME}\"]
";

    fn entries() -> Entries {
        let context = |cluster: &str| json!({"cluster": cluster, "user": "bus"});
        Entries {
            clusters: vec![json!({"name": "bus-local", "cluster": {"server": "http://127.0.0.1:18001"}})],
            contexts: vec![json!({"name": "bus-local", "context": context("bus-local")})],
            users: vec![json!({"name": "bus", "user": {}})],
            current: "bus-local".to_owned(),
        }
    }

    #[test]
    fn every_other_byte_stays_and_a_second_time_changes_nothing() {
        let merged = merge(FILE, &entries()).unwrap();
        let mut rest = merged.as_str();
        // All lines there were, in their order.
        for line in FILE.lines() {
            let found = rest.split_once(&format!("{line}\n"));
            rest = found.unwrap_or_else(|| panic!("{line} is gone:\n{merged}")).1;
        }
        let expected =
            "  name: one\n- name: bus-local\n  cluster:\n    server: \"http://127.0.0.1:18001\"\n# before";
        assert!(merged.contains(expected), "{merged}");
        assert_eq!(merged.lines().count(), FILE.lines().count() + 3 + 4 + 2);
        assert!(merged.contains("current-context: one\n"));
        assert_eq!(merge(&merged, &entries()).unwrap(), merged);
    }

    #[test]
    fn what_was_ours_is_made_right_and_keeps_what_others_added() {
        let merged = merge(FILE, &entries()).unwrap();
        let chosen = merged.replace("    user: bus\n", "    user: bus\n    namespace: web\n");
        assert_ne!(chosen, merged);
        let moved = chosen.replace(":18001", ":1");
        assert_eq!(merge(&moved, &entries()).unwrap(), chosen);
    }

    #[test]
    fn a_context_is_chosen_only_where_none_is() {
        for none in ["", "current-context: \"\"\n", "current-context:\n"] {
            let file = FILE.replace("current-context: one\n", none);
            let merged = merge(&file, &entries()).unwrap();
            assert!(merged.contains("current-context: bus-local\n"), "{merged}");
            assert!(merged.contains("# the first"), "{merged}");
        }
    }

    #[test]
    fn empty_files_and_lists_are_filled() {
        let whole = entries().document();
        for empty in ["", "\n\n"] {
            assert_eq!(read(&merge(empty, &entries()).unwrap()).unwrap(), whole);
        }
        let file = "apiVersion: v1\nkind: Config\nclusters: []\ncontexts: null\nusers:\n# none\ncurrent-context: \"\"\n";
        let merged = merge(file, &entries()).unwrap();
        assert_eq!(read(&merged).unwrap(), whole);
        assert!(merged.contains("# none"), "{merged}");
    }

    #[test]
    fn a_file_in_another_style_keeps_its_values() {
        let json = r#"{"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "one", "cluster": {}}], "extensions": []}"#;
        let flow = "apiVersion: v1\nclusters: [{name: one, cluster: {}}]\nextensions: []\n";
        for file in [json, flow] {
            let merged = merge(file, &entries()).unwrap();
            let after = read(&merged).unwrap();
            assert_eq!(
                (after["clusters"].as_array().unwrap().len(), &after["extensions"]),
                (2, &json!([]))
            );
            assert_eq!(after["contexts"][0]["name"], "bus-local");
            assert_eq!(merged.starts_with('{'), file.starts_with('{'));
        }
        // Lists that stand deeper than their key are as good as those that do not.
        let indented = FILE.replace("\n  ", "\n    ").replace("\n- ", "\n  - ");
        let merged = merge(&indented, &entries()).unwrap();
        assert_eq!(read(&merged).unwrap()["users"].as_array().unwrap().len(), 2);
        assert!(merged.contains("# the first") && merged.contains("\n  - name: bus-local"), "{merged}");
    }

    #[test]
    fn what_is_no_kubeconfig_is_left_alone() {
        for other in ["[]", "text", "clusters: {}", "a: [", "clusters: 1"] {
            merge(other, &entries()).unwrap_err();
        }
    }
}
