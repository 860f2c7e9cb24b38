//! References that are followed: which names the resources that are there refer to, and what changes of that when one of
//! them does.

use bytestring::ByteString;
use hashbrown::{HashMap, HashSet};

use super::kinds::is_secret;
use super::refer::{Reference, references, referred_by};

/// The references of all resources that are there, counted.
#[derive(Debug, Default)]
pub struct Follow {
    types: HashSet<ByteString>,
    by: HashMap<ByteString, HashMap<ByteString, Vec<Reference>>>,
    counts: HashMap<Reference, usize>,
    /// What changed since it was taken, with whether it was there before.
    changed: HashMap<Reference, bool>,
}

impl Follow {
    /// Follows references out of these types, and out of what they lead to; to secrets only where that is allowed.
    pub fn new(types: impl IntoIterator<Item = ByteString>, secrets: bool) -> Self {
        let mut follow = Self::default();
        let mut open: Vec<ByteString> = types.into_iter().collect();
        while let Some(type_url) = open.pop() {
            if follow.types.insert(type_url.clone()) {
                let led_to = referred_by(&type_url).iter().filter(|of| secrets || !is_secret(of));
                open.extend(led_to.map(|of| ByteString::from_static(of)));
            }
        }
        follow
    }

    /// The types that it leads from and to.
    pub fn types(&self) -> impl Iterator<Item = &ByteString> {
        self.types.iter()
    }

    /// Notes a resource that is there, new or changed.
    pub fn put(&mut self, type_url: &ByteString, name: &ByteString, data: &[u8]) {
        if referred_by(type_url).is_empty() || !self.types.contains(type_url) {
            return;
        }
        let mut references = references(type_url, data);
        references.retain(|(of, _)| self.types.contains(*of));
        for reference in &references {
            let count = self.counts.entry(reference.clone()).or_default();
            *count += 1;
            if *count == 1 {
                self.changed.entry(reference.clone()).or_insert(false);
            }
        }
        let of_type = self.by.entry(type_url.clone()).or_default();
        let before = of_type.insert(name.clone(), references).unwrap_or_default();
        self.release(before);
    }

    /// Notes that a resource is gone.
    pub fn remove(&mut self, type_url: &str, name: &str) {
        let before = self.by.get_mut(type_url).and_then(|of_type| of_type.remove(name));
        self.release(before.unwrap_or_default());
    }

    /// What is referred to and was not when this was last called, and the other way round; in order.
    pub fn take(&mut self) -> (Vec<Reference>, Vec<Reference>) {
        let (mut added, mut dropped) = (Vec::new(), Vec::new());
        for (reference, before) in std::mem::take(&mut self.changed) {
            match (before, self.counts.contains_key(&reference)) {
                (false, true) => added.push(reference),
                (true, false) => dropped.push(reference),
                _ => {}
            }
        }
        added.sort_unstable();
        dropped.sort_unstable();
        (added, dropped)
    }

    fn release(&mut self, references: Vec<Reference>) {
        for reference in references {
            let Some(count) = self.counts.get_mut(&reference) else { continue };
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&reference);
                self.changed.entry(reference).or_insert(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cluster::of_endpoints;
    use super::super::kinds::{CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET};
    use super::*;

    fn clusters() -> ByteString {
        ByteString::from_static(CLUSTER)
    }

    fn names(references: &[Reference]) -> Vec<&str> {
        references.iter().map(|(_, name)| &**name).collect()
    }

    #[test]
    fn it_leads_to_all_that_can_be_reached() {
        let types = |of: &'static str, secrets: bool| {
            let follow = Follow::new([ByteString::from_static(of)], secrets);
            let mut types: Vec<_> = follow.types().map(ToString::to_string).collect();
            types.sort_unstable();
            types
        };
        assert_eq!(types(LISTENER, false), [CLUSTER, ENDPOINTS, LISTENER, ROUTES]);
        assert_eq!(types(CLUSTER, false), [CLUSTER, ENDPOINTS]);
        assert_eq!(types(CLUSTER, true), [CLUSTER, ENDPOINTS, SECRET]);
        assert_eq!(types(ENDPOINTS, true), [ENDPOINTS]);
    }

    #[test]
    fn a_name_is_wanted_while_anything_refers_to_it() {
        let mut follow = Follow::new([clusters()], false);
        follow.put(&clusters(), &"a".into(), &of_endpoints("a", "shared", 1));
        follow.put(&clusters(), &"b".into(), &of_endpoints("b", "shared", 1));
        let (added, dropped) = follow.take();
        assert_eq!((names(&added), names(&dropped)), (vec!["shared"], vec![]));
        follow.remove(CLUSTER, "a");
        assert_eq!(follow.take(), (vec![], vec![]));
        follow.put(&clusters(), &"b".into(), &of_endpoints("b", "other", 1));
        let (added, dropped) = follow.take();
        assert_eq!((names(&added), names(&dropped)), (vec!["other"], vec!["shared"]));
        follow.remove(CLUSTER, "b");
        follow.remove(CLUSTER, "b");
        follow.remove(CLUSTER, "never");
        assert_eq!(names(&follow.take().1), ["other"]);
    }

    #[test]
    fn what_comes_and_goes_in_between_is_no_change() {
        let mut follow = Follow::new([clusters()], false);
        follow.put(&clusters(), &"a".into(), &of_endpoints("a", "", 1));
        follow.remove(CLUSTER, "a");
        assert_eq!(follow.take(), (vec![], vec![]));
        follow.put(&clusters(), &"a".into(), &of_endpoints("a", "", 1));
        drop(follow.take());
        follow.remove(CLUSTER, "a");
        follow.put(&clusters(), &"a".into(), &of_endpoints("a", "", 2));
        assert_eq!(follow.take(), (vec![], vec![]));
    }

    #[test]
    fn types_that_are_not_followed_lead_nowhere() {
        let mut follow = Follow::new([ByteString::from_static(ENDPOINTS)], false);
        follow.put(&clusters(), &"a".into(), &of_endpoints("a", "", 1));
        assert_eq!(follow.take(), (vec![], vec![]));
    }
}
