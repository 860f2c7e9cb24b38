//! The laws that a check of the text can hold: each finding names file, line and law.
//!
//! [`source`] reads files, [`rules`] are the laws over one file, [`layout`] those over the whole tree, and
//! [`samples`] shows for each that it fires.

#![allow(
    clippy::string_slice,
    clippy::indexing_slicing,
    reason = "offsets come from searches in the same text"
)]
#![allow(clippy::unwrap_used, reason = "a tree that cannot be read fails the test")]
#![allow(clippy::case_sensitive_file_extension_comparisons, reason = "the compiler compares them so too")]

use std::fmt;
use std::path::Path;

mod layout;
mod rules;
mod samples;
mod source;

use source::Source;

/// A broken law.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// 1-based.
    line: usize,
    law: &'static str,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.law, self.what)
    }
}

/// All findings in these files.
fn findings(files: &[Source]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for rule in rules::RULES {
        for file in files.iter().filter(|file| (rule.applies)(&file.path)) {
            let at = |(line, what)| Finding { path: file.path.clone(), line, law: rule.law, what };
            findings.extend((rule.check)(file).into_iter().map(at));
        }
    }
    findings.extend(layout::check(files));
    findings.sort();
    findings
}

#[test]
fn the_tree_keeps_every_law_that_its_text_can_show() {
    // Cargo says where the tree is now; without it, where it was.
    let root =
        std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let files = source::read_tree(Path::new(&root));
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the tree was not read");
    let findings: Vec<String> = findings(&files).iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}
