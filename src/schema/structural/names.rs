//! Rules of names, in the API server's words: DNS labels and subdomains, qualified names, label values.
//!
//! Each function lists what is wrong with the text; an empty list means that it is a name.

const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
    must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' \
    or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035_RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with \
    an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
    validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
    an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' \
    or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
    used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY_RULE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
    'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

/// Longest DNS label, label value and name part of a qualified name, in bytes.
pub const LABEL_MAX: usize = 63;
/// Longest DNS subdomain, in bytes.
pub const SUBDOMAIN_MAX: usize = 253;

/// A DNS label (RFC 1123).
pub fn dns_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_MAX {
        wrong.push(at_most(LABEL_MAX));
    }
    if !is_label(text) {
        wrong.push(LABEL_RULE.to_owned());
    }
    wrong
}

/// A DNS subdomain (RFC 1123).
pub fn dns_subdomain(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > SUBDOMAIN_MAX {
        wrong.push(at_most(SUBDOMAIN_MAX));
    }
    if !is_subdomain(text) {
        wrong.push(SUBDOMAIN_RULE.to_owned());
    }
    wrong
}

/// A DNS label that begins with a letter (RFC 1035).
pub fn dns_1035_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_MAX {
        wrong.push(at_most(LABEL_MAX));
    }
    if !is_label(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        wrong.push(LABEL_1035_RULE.to_owned());
    }
    wrong
}

/// A qualified name, such as the key of an annotation: `name` or `prefix/name`.
pub fn qualified_name(text: &str) -> Vec<String> {
    qualified("a qualified name", text)
}

/// The key of a label: a qualified name that messages call by what it is.
pub fn label_key(text: &str) -> Vec<String> {
    qualified("a valid label key", text)
}

fn qualified(what: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, name)) if name.contains('/') => {
            let with_prefix = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("{what} {QUALIFIED_RULE} {with_prefix}")];
        }
        Some((prefix, name)) => {
            match prefix {
                "" => wrong.push("prefix part must be non-empty".to_owned()),
                prefix => wrong
                    .extend(dns_subdomain(prefix).into_iter().map(|rule| format!("prefix part {rule}"))),
            }
            name
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        wrong.push(format!("name part {}", at_most(LABEL_MAX)));
    }
    if !is_qualified_part(name) {
        wrong.push(format!("name part {QUALIFIED_RULE}"));
    }
    wrong
}

/// The value of a label.
pub fn label_value(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_MAX {
        wrong.push(at_most(LABEL_MAX));
    }
    if !text.is_empty() && !is_qualified_part(text) {
        wrong.push(LABEL_VALUE_RULE.to_owned());
    }
    wrong
}

/// A key of the data of a `ConfigMap`.
pub fn config_key(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > SUBDOMAIN_MAX {
        wrong.push(at_most(SUBDOMAIN_MAX));
    }
    if text.is_empty()
        || !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        wrong.push(CONFIG_KEY_RULE.to_owned());
    }
    match text {
        "." => wrong.push("must not be '.'".to_owned()),
        ".." => wrong.push("must not be '..'".to_owned()),
        text if text.starts_with("..") => wrong.push("must not start with '..'".to_owned()),
        _ => {}
    }
    wrong
}

/// A name that can be one segment of a path; what custom names need at the very least.
pub fn path_segment_name(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"]
        .into_iter()
        .filter(|forbidden| text.contains(forbidden))
        .map(|forbidden| format!("may not contain '{forbidden}'"))
        .collect()
}

fn at_most(bytes: usize) -> String {
    format!("must be no more than {bytes} bytes")
}

fn is_label(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.bytes().all(|b| word(b) || b == b'-')
        && text.bytes().next().is_some_and(word)
        && text.bytes().next_back().is_some_and(word)
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_qualified_part(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().next_back().is_some_and(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_rules() {
        assert!(dns_subdomain("a-b.c.example.com").is_empty() && dns_label("a-1").is_empty());
        assert!(dns_label("a.b").len() == 1 && dns_subdomain("").len() == 1);
        assert_eq!(dns_subdomain("Bad_Name"), [SUBDOMAIN_RULE]);
        assert_eq!(dns_label(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert!(dns_1035_label("a1").is_empty() && !dns_1035_label("1a").is_empty());
        assert!(qualified_name("example.com/My.Name").is_empty() && qualified_name("app").is_empty());
        assert_eq!(qualified_name("/a"), ["prefix part must be non-empty"]);
        assert_eq!(qualified_name("a/b/c").len(), 1);
        assert_eq!(qualified_name("a/").len(), 2);
        assert!(
            label_value("").is_empty() && label_value("a_b").is_empty() && !label_value("-a").is_empty()
        );
        assert!(
            config_key("a.b_C-1").is_empty() && config_key("..").len() == 1 && config_key("a b").len() == 1
        );
        assert_eq!(path_segment_name("a/b%c").len(), 2);
        assert_eq!(path_segment_name(".."), ["may not be '..'"]);
    }
}
