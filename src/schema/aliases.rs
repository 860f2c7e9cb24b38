//! Other names of a key, by which readers that have such names (XDS) ask for it: an attribute of what was written. Pure.

use bytestring::ByteString;

use crate::core::envelope::Extensions;

/// The attribute: names with a space between.
const ALIASES: &str = "mbaliases";
/// Most bytes of all of them.
const LENGTH_MAX: usize = 4096;

/// Sets the other names of what is written.
///
/// # Errors
/// For a name that is empty or holds white space, and for too many.
pub fn set<S: AsRef<str>>(extensions: &mut Extensions, aliases: &[S]) -> Result<(), String> {
    if aliases.is_empty() {
        return Ok(());
    }
    let bad = |alias: &&S| {
        let alias = alias.as_ref();
        alias.is_empty() || alias.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    if let Some(alias) = aliases.iter().find(bad) {
        return Err(format!("{:?} is no alias: it must hold no white space", alias.as_ref()));
    }
    let text = aliases.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ");
    if text.len() > LENGTH_MAX {
        return Err(format!("the aliases have {} bytes, the most is {LENGTH_MAX}", text.len()));
    }
    extensions.set(ByteString::from_static(ALIASES), text);
    Ok(())
}

/// The other names of what was written.
pub fn of(extensions: &Extensions) -> Vec<ByteString> {
    let Some(text) = extensions.get(ALIASES) else { return Vec::new() };
    text.to_text().split_whitespace().map(ByteString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read_and_no_alias_holds_a_space() {
        let mut extensions = Extensions::default();
        set(&mut extensions, &["a", "b/c"]).unwrap();
        assert_eq!(of(&extensions), ["a", "b/c"]);
        for wrong in ["", "a b", "a\n"] {
            assert!(set(&mut extensions, &[wrong]).is_err(), "{wrong:?}");
        }
        assert!(set(&mut extensions, &["x".repeat(5000)]).unwrap_err().contains("4096"));
        assert!(of(&Extensions::default()).is_empty());
    }
}
