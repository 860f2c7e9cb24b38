//! What a client has asked for of one type on a stream and was not answered yet, and whether that was all.
//!
//! Nothing in a response says which request it answers, and of what is wanted by a pattern nobody says how much there
//! is, but for the mark of a server that knows it.

use std::collections::BTreeMap;

use bytestring::ByteString;

use super::demand::Interest;
use super::received::{Mark, Received};
use super::response::Variant;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Waiting {
    names: BTreeMap<ByteString, Asked>,
    /// Whether something was asked for.
    begun: bool,
    /// Whether a response came.
    heard: bool,
    /// Whether more of what a pattern wants may come, of which nothing tells.
    open: bool,
    /// Whether the server has said that more comes, and will say when that was all.
    promised: bool,
}

/// What a name has seen since it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// The first request of the stream, which each response answers.
    First,
    /// A later one: what comes next may have been on its way before.
    Later,
    /// A response that would have held it, if it was made after the request.
    Crossed,
}

/// How far a type is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Something is not.
    Partly,
    /// All, unless more comes soon.
    Perhaps,
    /// All.
    Whole,
}

impl Waiting {
    /// Notes what a request asks for.
    pub fn ask<'a>(&mut self, names: impl IntoIterator<Item = &'a ByteString>) {
        let asked = if self.begun { Asked::Later } else { Asked::First };
        self.names.extend(names.into_iter().map(|name| (name.clone(), asked)));
        self.begun = true;
    }

    /// A name needs no answer.
    pub fn forget(&mut self, name: &str) {
        self.names.remove(name);
    }

    /// Notes what a response answers; `whole`: by the type, it is all there is.
    pub fn heard(&mut self, variant: Variant, whole: bool, received: &Received) {
        self.heard = true;
        for name in received.mentioned() {
            self.names.remove(name);
        }
        match received.mark {
            Some(Mark::More) => self.promised = true,
            Some(Mark::All) => {
                self.promised = false;
                self.open = false;
                self.names.retain(|_, asked| *asked != Asked::First);
            }
            None if variant == Variant::Sotw && whole => {
                self.names.retain(|_, asked| *asked != Asked::First);
                self.names.values_mut().for_each(|asked| *asked = Asked::Crossed);
            }
            None => {
                let patterns = self.names.extract_if(.., |name, _| is_pattern(name)).count();
                self.open |= patterns > 0;
            }
        }
    }

    /// Nothing more came in time: what has not come is not there.
    pub fn rest(&mut self) {
        self.open = false;
        self.names.retain(|_, asked| *asked != Asked::Crossed);
    }

    /// How far it is answered.
    pub fn answered(&self) -> Answered {
        if self.promised || self.names.values().any(|asked| *asked != Asked::Crossed) {
            Answered::Partly
        } else if self.open || !self.names.is_empty() {
            Answered::Perhaps
        } else {
            Answered::Whole
        }
    }

    /// Whether a response came.
    pub fn has_heard(&self) -> bool {
        self.heard
    }

    /// Whether the server has said that more comes.
    pub fn is_promised(&self) -> bool {
        self.promised
    }

    /// Whether something is not answered that every server answers: all of something, not names that may not exist.
    pub fn is_for_all(&self) -> bool {
        self.names.keys().any(is_pattern)
    }
}

fn is_pattern(name: &ByteString) -> bool {
    Interest::is_pattern(name)
}

#[cfg(test)]
mod tests {
    use super::super::received::Found;
    use super::super::status::{Code, Status};
    use super::Answered::{Partly, Perhaps, Whole};
    use super::*;

    fn asked(names: &[&'static str]) -> Waiting {
        let mut waiting = Waiting::default();
        ask(&mut waiting, names);
        waiting
    }

    fn ask(waiting: &mut Waiting, names: &[&'static str]) {
        let names: Vec<_> = names.iter().map(|name| ByteString::from_static(name)).collect();
        waiting.ask(&names);
    }

    fn response(names: &[&str]) -> Received {
        let found = |name: &&str| Found { name: (*name).to_owned().into(), version: None, data: "".into() };
        Received { found: names.iter().map(found).collect(), ..Received::default() }
    }

    fn mark(mark: Mark) -> Received {
        Received { mark: Some(mark), ..Received::default() }
    }

    #[test]
    fn a_name_is_answered_by_whatever_is_said_of_it() {
        let mut waiting = asked(&["a", "b", "c", "d"]);
        waiting.heard(Variant::Delta, true, &response(&["a"]));
        waiting.forget("d");
        assert_eq!(waiting.answered(), Partly);
        let errors = vec![("c".into(), Status::new(Code::NotFound, ""))];
        let removed = vec!["b".into()];
        waiting.heard(Variant::Delta, true, &Received { removed, errors, ..Received::default() });
        assert_eq!(waiting.answered(), Whole);
    }

    #[test]
    fn what_is_absent_where_a_response_is_whole_does_not_exist() {
        let mut waiting = asked(&["a", "b"]);
        waiting.heard(Variant::Sotw, true, &response(&["a"]));
        assert_eq!(waiting.answered(), Whole);
        let mut waiting = asked(&["a", "b"]);
        waiting.heard(Variant::Sotw, false, &response(&["a"]));
        assert_eq!(waiting.answered(), Partly, "endpoints come in parts");
    }

    #[test]
    fn a_response_may_have_been_on_its_way_before_a_request() {
        let mut waiting = asked(&["a"]);
        ask(&mut waiting, &["b"]);
        waiting.heard(Variant::Sotw, true, &response(&["a"]));
        assert_eq!(waiting.answered(), Perhaps);
        ask(&mut waiting, &["c"]);
        assert_eq!(waiting.answered(), Partly);
        waiting.heard(Variant::Sotw, true, &response(&["a", "c"]));
        assert_eq!(waiting.answered(), Perhaps);
        waiting.heard(Variant::Sotw, true, &response(&["a", "b", "c"]));
        assert_eq!(waiting.answered(), Whole);
        // The mark of what was asked for first says nothing of what was asked for later.
        let mut waiting = asked(&["*"]);
        ask(&mut waiting, &["b"]);
        waiting.heard(Variant::Delta, true, &mark(Mark::All));
        assert_eq!(waiting.answered(), Partly);
    }

    #[test]
    fn of_a_pattern_there_may_be_more_until_it_is_marked_or_quiet() {
        let mut waiting = asked(&["*"]);
        assert!(waiting.is_for_all() && waiting.answered() == Partly);
        waiting.heard(Variant::Delta, true, &response(&["a"]));
        assert!(!waiting.is_for_all() && waiting.answered() == Perhaps);
        waiting.rest();
        assert_eq!(waiting.answered(), Whole);
        let mut waiting = asked(&["a/*"]);
        waiting.heard(Variant::Delta, true, &response(&["a/1"]));
        waiting.heard(Variant::Delta, true, &mark(Mark::More));
        waiting.rest();
        assert_eq!(waiting.answered(), Partly, "the server will say when that was all");
        waiting.heard(Variant::Delta, true, &mark(Mark::All));
        assert_eq!(waiting.answered(), Whole);
    }
}
