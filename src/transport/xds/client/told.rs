//! What a client's servers have told of single resources: the versions they gave, and what became of those in the table,
//! for writes that wait until what they made is there.

use std::collections::VecDeque;

use bytestring::ByteString;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::core::{Key, Version};

/// Most that is kept of what was told of a resource while a write waits for it.
const NEWS_MAX: usize = 64;

/// See the [module](self). Shared by the stream and the writes beside it.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The versions that a server gave, where the table has another: of the same bytes, so that they are no change.
    given: HashMap<ByteString, HashMap<ByteString, Version>>,
    /// What is asked for because something refers to it.
    followed: HashSet<Place>,
    /// What writes wait for.
    awaited: HashMap<Place, watch::Sender<News>>,
}

/// Type and name.
pub(super) type Place = (ByteString, ByteString);

/// What was told of a resource lately, the newest last, and how much was told before.
#[derive(Debug, Default)]
struct News {
    before: usize,
    told: VecDeque<Tale>,
}

/// One thing that was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tale {
    /// It is there in this version.
    Put {
        /// As the server gave it; `None` where it gave none.
        given: Option<Version>,
        /// As the table has it.
        held: Version,
    },
    /// It is gone.
    Gone,
}

/// Hears what is told of one resource, from when it was made on.
#[derive(Debug)]
pub(super) struct Listener<'a> {
    told: &'a Told,
    place: Place,
    news: watch::Receiver<News>,
    /// How much of it was heard.
    heard: usize,
}

impl Told {
    /// Notes the version that a server gave, and that which the table has.
    pub(super) fn note(&self, key: &Key, given: Option<&Version>, held: &Version) {
        let mut inner = self.0.lock();
        match given.filter(|given| *given != held) {
            Some(given) => {
                let of_type = inner.given.entry(key.type_url.clone()).or_default();
                of_type.insert(key.name.clone(), given.clone());
            }
            None => inner.forget(&key.type_url, &key.name),
        }
        let tale = || Tale::Put { given: given.cloned(), held: held.clone() };
        inner.tell(&key.type_url, &key.name, tale);
    }

    /// Notes that a resource is gone.
    pub(super) fn gone(&self, type_url: &ByteString, name: &ByteString) {
        let mut inner = self.0.lock();
        inner.forget(type_url, name);
        inner.tell(type_url, name, || Tale::Gone);
    }

    /// Forgets the version of what could not be stored.
    pub(super) fn forget(&self, type_url: &str, name: &str) {
        self.0.lock().forget(type_url, name);
    }

    /// The version that a server gave, where the table has another.
    pub(super) fn given(&self, type_url: &str, name: &str) -> Option<Version> {
        self.0.lock().given.get(type_url)?.get(name).cloned()
    }

    /// Nothing is followed any more: another stream begins.
    pub(super) fn follow_nothing(&self) {
        self.0.lock().followed.clear();
    }

    /// Notes whether a resource is asked for because something refers to it.
    pub(super) fn follow(&self, type_url: &ByteString, name: &ByteString, follows: bool) {
        let place = (type_url.clone(), name.clone());
        let mut inner = self.0.lock();
        if follows {
            inner.followed.insert(place);
        } else {
            inner.followed.remove(&place);
        }
    }

    /// Whether a resource is asked for because something refers to it.
    pub(super) fn follows(&self, place: &Place) -> bool {
        self.0.lock().followed.contains(place)
    }

    /// Hears what is told of a resource from now on.
    pub(super) fn listen(&self, place: Place) -> Listener<'_> {
        let mut inner = self.0.lock();
        let news = inner.awaited.entry(place.clone()).or_default().subscribe();
        let heard = news.borrow().end();
        Listener { told: self, place, news, heard }
    }
}

impl Inner {
    fn forget(&mut self, type_url: &str, name: &str) {
        if let Some(of_type) = self.given.get_mut(type_url) {
            of_type.remove(name);
        }
    }

    fn tell(&mut self, type_url: &ByteString, name: &ByteString, tale: impl FnOnce() -> Tale) {
        // Nearly always nobody waits.
        if self.awaited.is_empty() {
            return;
        }
        if let Some(news) = self.awaited.get(&(type_url.clone(), name.clone())) {
            news.send_modify(|news| news.add(tale()));
        }
    }
}

impl News {
    fn end(&self) -> usize {
        self.before + self.told.len()
    }

    fn add(&mut self, tale: Tale) {
        if self.told.len() >= NEWS_MAX {
            self.told.pop_front();
            self.before += 1;
        }
        self.told.push_back(tale);
    }
}

impl Listener<'_> {
    /// The next that is told. Cancel safe.
    pub(super) async fn next(&mut self) -> Tale {
        loop {
            {
                let news = self.news.borrow_and_update();
                let at = self.heard.saturating_sub(news.before);
                if let Some(tale) = news.told.get(at).cloned() {
                    self.heard = news.before + at + 1;
                    return tale;
                }
            }
            if self.news.changed().await.is_err() {
                // The sender stays for as long as there is a listener.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        let mut inner = self.told.0.lock();
        // This one is still counted.
        if inner.awaited.get(&self.place).is_some_and(|news| news.receiver_count() <= 1) {
            inner.awaited.remove(&self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn key(name: &str) -> Key {
        Key::new("scope", "a/v1/B", name.to_owned())
    }

    fn place(name: &str) -> Place {
        ("a/v1/B".into(), name.to_owned().into())
    }

    fn put(given: &str, held: &str) -> Tale {
        Tale::Put { given: Some(given.to_owned().into()), held: held.to_owned().into() }
    }

    #[test]
    fn a_version_is_kept_where_the_table_has_another() {
        let told = Told::default();
        told.note(&key("x"), Some(&"2".into()), &"1".into());
        assert_eq!(told.given("a/v1/B", "x"), Some("2".into()));
        told.note(&key("x"), Some(&"3".into()), &"3".into());
        assert_eq!(told.given("a/v1/B", "x"), None);
        told.note(&key("x"), Some(&"4".into()), &"3".into());
        told.gone(&"a/v1/B".into(), &"x".into());
        assert_eq!(told.given("a/v1/B", "x"), None);
    }

    #[test]
    fn a_listener_hears_all_of_its_resource_from_when_it_began() {
        let told = Told::default();
        let first = told.listen(place("x"));
        told.note(&key("x"), Some(&"1".into()), &"1".into());
        let mut second = told.listen(place("x"));
        drop(first);
        told.note(&key("y"), Some(&"2".into()), &"2".into());
        told.note(&key("x"), Some(&"3".into()), &"2".into());
        told.gone(&"a/v1/B".into(), &"x".into());
        assert_eq!(second.next().now_or_never(), Some(put("3", "2")));
        assert_eq!(second.next().now_or_never(), Some(Tale::Gone));
        assert_eq!(second.next().now_or_never(), None);
        drop(second);
        assert!(told.0.lock().awaited.is_empty(), "nothing is kept for nobody");
    }

    #[test]
    fn what_is_told_while_a_write_waits_is_bounded() {
        let told = Told::default();
        let mut listener = told.listen(place("x"));
        for n in 0..1000 {
            let version = Version::from(n.to_string());
            told.note(&key("x"), Some(&version), &version);
        }
        assert_eq!(listener.news.borrow().told.len(), NEWS_MAX);
        assert_eq!(listener.next().now_or_never(), Some(put("936", "936")), "the newest are kept");
    }

    #[test]
    fn what_is_followed_ends_with_the_stream() {
        let told = Told::default();
        told.follow(&"a/v1/B".into(), &"x".into(), true);
        told.follow(&"a/v1/B".into(), &"y".into(), true);
        told.follow(&"a/v1/B".into(), &"y".into(), false);
        assert!(told.follows(&place("x")) && !told.follows(&place("y")));
        told.follow_nothing();
        assert!(!told.follows(&place("x")));
    }
}
