//! Reads the tree, and tells code from comments and literals.

use std::fs;
use std::path::Path;

/// Longest text that is looked at: what is larger is data.
const TEXT_MAX: u64 = 1 << 20;

/// What programs wrote.
const GENERATED: [&str; 4] = [
    "proto/src/gen",
    "plugins/sdk/src/bindings.rs",
    "plugins/c/sdk/filter_plugin.c",
    "plugins/c/sdk/filter_plugin.h",
];

/// A text file.
#[derive(Debug)]
pub(super) struct Source {
    /// From the root of the repository, with `/`.
    pub(super) path: String,
    /// As it is.
    pub(super) text: String,
    /// Of Rust: comments and the content of literals blanked, lines kept. Empty otherwise.
    pub(super) code: String,
    /// `code` without the unit tests in the file.
    pub(super) shipped: String,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { blank(text) } else { String::new() };
        let shipped = if is_test(path) { String::new() } else { without_tests(&code) };
        Self { path: path.to_owned(), text: text.to_owned(), code, shipped }
    }
}

/// Whether a file is there for tests only.
fn is_test(path: &str) -> bool {
    !path.starts_with("src/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// All text files, without what is built, fetched or generated.
pub(super) fn read_tree(root: &Path) -> Vec<Source> {
    let mut files = Vec::new();
    read_into(root, "", &mut files);
    let tests: Vec<String> = files.iter().flat_map(test_modules).collect();
    for file in &mut files {
        if tests
            .iter()
            .any(|stem| file.path == format!("{stem}.rs") || file.path.starts_with(&format!("{stem}/")))
        {
            file.shipped.clear();
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn read_into(directory: &Path, prefix: &str, files: &mut Vec<Source>) {
    // Every build directory carries this tag, whatever its name.
    if directory.join("CACHEDIR.TAG").exists() {
        return;
    }
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().unwrap();
        // In a worktree `.git` is a file.
        if name == ".git" || GENERATED.contains(&path.as_str()) {
            continue;
        }
        if kind.is_dir() {
            read_into(&entry.path(), &format!("{path}/"), files);
        } else if kind.is_file() && name != "Cargo.lock" && entry.metadata().unwrap().len() <= TEXT_MAX {
            // What is no text is data.
            if let Ok(text) = fs::read_to_string(entry.path()) {
                files.push(Source::new(&path, &text));
            }
        }
    }
}

/// The modules in files of their own that a file has for its tests only, as paths without `.rs`.
fn test_modules(file: &Source) -> Vec<String> {
    let stem = file.path.trim_end_matches(".rs");
    let folder = ["/mod", "/lib", "/main"].iter().find_map(|name| stem.strip_suffix(name)).unwrap_or(stem);
    let modules = file.code.split("#[cfg(test)]").skip(1).filter_map(|rest| {
        let rest = rest.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
        rest.strip_prefix("mod ")?.split_once(';').filter(|(name, _)| !name.contains(['{', ' ']))
    });
    modules.map(|(name, _)| format!("{folder}/{name}")).collect()
}

/// Where `word` stands on its own, as 1-based lines.
pub(super) fn lines_with(text: &str, word: &str) -> Vec<usize> {
    places(text, word).into_iter().map(|at| line_of(text, at)).collect()
}

/// Where `word` stands on its own, as byte offsets: no letter, digit or `_` beside an end that is one itself.
pub(super) fn places(text: &str, word: &str) -> Vec<usize> {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    let apart = |inside: Option<char>, outside: Option<char>| {
        !(inside.is_some_and(joins) && outside.is_some_and(joins))
    };
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(|&at| {
            apart(word.chars().next(), text[..at].chars().next_back())
                && apart(word.chars().next_back(), text[at + word.len()..].chars().next())
        })
        .collect()
}

pub(super) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Blanks comments and the content of literals, byte for byte, so that offsets and lines stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        if end > at {
            for byte in &mut out[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
            at = end;
        } else {
            at += 1;
        }
    }
    // Blanking is of whole literals, and outside of them code is ASCII or an identifier.
    String::from_utf8(out).unwrap()
}

/// The end of the comment or literal that begins at `at`; `at` itself where none does.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let before = at.checked_sub(1).map(|i| bytes[i]);
    let in_word = before.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + comment_len(rest),
        [b'"', ..] => at + string_len(rest),
        [b'r', b'"' | b'#', ..] if !in_word || before == Some(b'b') || before == Some(b'c') => {
            raw_string_len(&rest[1..]).map_or(at, |len| at + 1 + len)
        }
        [b'\'', b'\\', ..] => at + 3 + rest[3..].iter().position(|&b| b == b'\'').map_or(0, |i| i + 1),
        // A character, not a lifetime: the quote closes after one character of up to four bytes.
        [b'\'', first, ..] if *first != b'\'' => {
            let width =
                std::str::from_utf8(&rest[1..rest.len().min(5)]).map_or_else(|e| e.valid_up_to(), str::len);
            let len =
                std::str::from_utf8(&rest[1..=width]).unwrap().chars().next().map_or(1, char::len_utf8);
            if rest.get(1 + len) == Some(&b'\'') { at + len + 2 } else { at }
        }
        _ => at,
    }
}

fn comment_len(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at + 1 < rest.len() {
        match &rest[at..at + 2] {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn string_len(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Of `#"…"#` after the `r`; `None` where it is a raw identifier.
fn raw_string_len(rest: &[u8]) -> Option<usize> {
    let hashes = rest.iter().take_while(|&&b| b == b'#').count();
    if rest.get(hashes) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = &rest[hashes + 1..];
    let end = body.windows(close.len()).position(|window| window == close);
    Some(end.map_or(rest.len(), |end| hashes + 1 + end + close.len()))
}

/// Unit tests stand at the end of a file, so what follows their head is theirs.
fn without_tests(code: &str) -> String {
    code.find("#[cfg(test)]\nmod tests {").map_or_else(|| code.to_owned(), |at| code[..at].to_owned())
}

#[test]
fn comments_and_literals_are_blanked_and_lines_stay() {
    let text = r##"let a = "kube // \" x"; // kube
let b = r#"kube " "#; /* kube /* kube */
kube */ let c: &'static str = 'x'; let d = '\''; let e = b"kube"; kube::run('é', r#type);"##;
    let code = blank(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(lines_with(&code, "kube"), [3]);
    assert!(code.contains("&'static str") && code.contains("r#type"), "{code}");
}

#[test]
fn modules_for_tests_are_known_by_their_declaration() {
    let file = Source::new(
        "src/a/mod.rs",
        "#[cfg(test)]\nmod b;\nmod c;\n#[cfg(test)]\npub(crate) mod d;\n#[cfg(test)]\nmod tests {}",
    );
    assert_eq!(test_modules(&file), ["src/a/b", "src/a/d"]);
    assert_eq!(test_modules(&Source::new("src/a.rs", "#[cfg(test)]\nmod b;")), ["src/a/b"]);
}

#[test]
fn a_word_stands_on_its_own() {
    assert_eq!(lines_with("kubeconfig\nkube::x\nmy_kube", "kube"), [2]);
    assert_eq!(lines_with("tokio::spawn(x)\ntokio::spawned()", "tokio::spawn"), [1]);
}
