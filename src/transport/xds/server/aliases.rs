//! The other names of a type's resources, both ways, so that a change costs as much as the names of its resource.

use bytestring::ByteString;
use hashbrown::HashMap;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Aliases {
    /// Names by an alias; of several that have it, the last counts.
    names: HashMap<ByteString, Vec<ByteString>>,
    /// The aliases of a name.
    aliases: HashMap<ByteString, Vec<ByteString>>,
}

impl Aliases {
    /// Notes the aliases that a resource has now; none of what is gone.
    pub(super) fn note(&mut self, name: &ByteString, aliases: &[ByteString]) {
        for had in self.aliases.remove(name).unwrap_or_default() {
            if let Some(names) = self.names.get_mut(&had) {
                names.retain(|other| other != name);
                if names.is_empty() {
                    self.names.remove(&had);
                }
            }
        }
        for alias in aliases {
            self.names.entry(alias.clone()).or_default().push(name.clone());
        }
        if !aliases.is_empty() {
            self.aliases.insert(name.clone(), aliases.to_vec());
        }
    }

    /// The name of the resource that has an alias.
    pub(super) fn name(&self, alias: &str) -> Option<&ByteString> {
        self.names.get(alias)?.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_of_who_took_it_last_and_still_has_it() {
        let mut aliases = Aliases::default();
        let (a, b): (ByteString, ByteString) = ("a".into(), "b".into());
        aliases.note(&a, &["x".into(), "y".into()]);
        aliases.note(&b, &["y".into()]);
        assert_eq!((aliases.name("x"), aliases.name("y"), aliases.name("z")), (Some(&a), Some(&b), None));
        aliases.note(&b, &["z".into()]);
        assert_eq!((aliases.name("y"), aliases.name("z")), (Some(&a), Some(&b)));
        aliases.note(&a, &[]);
        aliases.note(&b, &[]);
        assert!(aliases.names.is_empty() && aliases.aliases.is_empty());
    }
}
