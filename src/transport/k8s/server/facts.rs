//! What selectors ask of data, read once for all that look at the same data at about the same time.
//!
//! A change reaches all watches of its kind in one go, on a few threads. Each thread keeps what it read of the last
//! few pieces of data, so that a thousand watches with selectors read a change once and not a thousand times.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use serde_json::Value;

use crate::transport::k8s::codec::object;

/// Pieces of data kept a thread: a change has two, and publications come in batches.
const KEPT: usize = 16;
/// Longest data kept.
const KEPT_BYTES: usize = 64 * 1024;

thread_local! {
    static RECENT: RefCell<VecDeque<Rc<Facts>>> = const { RefCell::new(VecDeque::new()) };
}

/// What is known of one piece of data.
#[derive(Debug)]
pub(super) struct Facts {
    /// Held, so that no other data can be where it is.
    data: Bytes,
    labels: OnceCell<Vec<(String, String)>>,
    value: OnceCell<Value>,
}

impl Facts {
    /// Of this data.
    pub(super) fn of(data: &Bytes) -> Rc<Self> {
        let is_it = |facts: &&Rc<Self>| {
            std::ptr::eq(facts.data.as_ptr(), data.as_ptr()) && facts.data.len() == data.len()
        };
        RECENT.with_borrow_mut(|recent| {
            if let Some(found) = recent.iter().rev().find(is_it) {
                return Rc::clone(found);
            }
            let facts =
                Rc::new(Self { data: data.clone(), labels: OnceCell::new(), value: OnceCell::new() });
            if data.len() <= KEPT_BYTES {
                if recent.len() >= KEPT {
                    recent.pop_front();
                }
                recent.push_back(Rc::clone(&facts));
            }
            facts
        })
    }

    /// A label of the object; `None` where it has none of that name.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        let owned = |(name, value): (Cow<'_, str>, Cow<'_, str>)| (name.into_owned(), value.into_owned());
        let labels =
            self.labels.get_or_init(|| object::labels(&self.data).into_iter().map(owned).collect());
        labels.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The data as a tree; null where it is no JSON.
    pub(super) fn value(&self) -> &Value {
        self.value.get_or_init(|| serde_json::from_slice(&self.data).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_data_is_read_once() {
        let data = Bytes::from(r#"{"metadata":{"labels":{"a":"1"}}}"#);
        let first = Facts::of(&data);
        assert_eq!((first.label("a"), first.label("b")), (Some("1"), None));
        assert!(Rc::ptr_eq(&first, &Facts::of(&data.clone())));
        let equal = Bytes::from(data.to_vec());
        assert!(!Rc::ptr_eq(&first, &Facts::of(&equal)), "by identity: comparing would cost what it saves");
        for n in 0..KEPT {
            Facts::of(&Bytes::from(format!("{n}")));
        }
        assert!(!Rc::ptr_eq(&first, &Facts::of(&data)), "forgotten");
        assert_eq!(Facts::of(&Bytes::from("x")).value(), &Value::Null);
    }

    #[test]
    fn empty_data_has_no_facts() {
        assert_eq!(Facts::of(&Bytes::new()).label("a"), None);
    }
}
