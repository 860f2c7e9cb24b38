//! The index of a JSON text: where the members of its objects are.
//!
//! It is small and its size does not follow from what a peer sends: when it is full, paths it does not know
//! are looked for in the text.

use super::path::{Member, Step};
use super::scan::Scanner;

/// Members that are indexed; more are looked for in the text.
const MEMBERS_MAX: usize = 112;
/// Lists of members, by hash.
const LISTS: usize = 64;
/// The hash of names with escapes, which must be read to be compared.
const ESCAPED: u16 = u16::MAX;

/// Where members are: a hash table of names, each with the object it is in.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// Where the text's one value begins.
    root: u32,
    /// Not all members are in it.
    partial: bool,
    /// There are names with escapes.
    escaped: bool,
    /// One more than the last member of each list; 0 for none.
    heads: [u8; LISTS],
    members: Vec<Entry>,
}

/// One member of an object.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where its name begins, after the quote.
    name: u32,
    hash: u16,
    /// The member whose value it is in; 0 for the top, otherwise one more than its place.
    parent: u8,
    /// One more than the member before it in its list.
    next: u8,
}

impl Index {
    /// An empty one, with room for the members that a text of so many bytes may have.
    pub(super) fn for_text(length: usize) -> Self {
        let members = Vec::with_capacity((length / 16).min(MEMBERS_MAX));
        Self { root: 0, partial: false, escaped: false, heads: [0; LISTS], members }
    }

    /// Says where the text's one value begins.
    pub(super) fn set_root(&mut self, root: usize) {
        self.root = root as u32;
    }

    /// Adds a member of the object in `parent`'s value, 0 for the top: where its name begins, and what it is known
    /// by. Gives the parent of the members inside its value; `None` when the index is full.
    #[inline]
    pub(super) fn add(&mut self, parent: u8, name: usize, hash: u16) -> Option<u8> {
        if self.members.len() >= MEMBERS_MAX {
            self.partial = true;
            return None;
        }
        let head = self.heads.get_mut(usize::from(hash) % LISTS)?;
        self.members.push(Entry { name: name as u32, hash, parent, next: *head });
        *head = self.members.len() as u8;
        self.escaped |= hash == ESCAPED;
        Some(*head)
    }

    /// Where the value at a path begins.
    pub(super) fn place(&self, text: &str, steps: &[Step]) -> Option<usize> {
        let (mut place, mut parent, mut left) = (self.root as usize, 0, steps);
        while let [Step::Member(member), after @ ..] = left {
            let Some((found, value)) = self.find(text, parent, member) else {
                return if self.partial { walk(text, self.root as usize, steps) } else { None };
            };
            (place, parent, left) = (value, found, after);
            // Inside lists nothing is indexed.
            if matches!(left, [Step::Item(_), ..]) {
                break;
            }
        }
        walk(text, place, left)
    }

    /// The first member of that name in the object: its number, and where its value begins.
    fn find(&self, text: &str, parent: u8, wanted: &Member) -> Option<(u8, usize)> {
        let listed = |hash: u16| {
            let mut at = self.heads.get(usize::from(hash) % LISTS).copied().unwrap_or(0);
            std::iter::from_fn(move || {
                let entry = self.members.get(usize::from(at).checked_sub(1)?)?;
                let number = std::mem::replace(&mut at, entry.next);
                Some((number, entry))
            })
            .filter(move |(_, entry)| entry.hash == hash && entry.parent == parent)
        };
        // Lists begin with what was added last, so the last that fits is the first in the text.
        let plain = listed(wanted.hash)
            .filter(|(_, entry)| wanted.is_at(text, entry.name as usize))
            .last()
            .map(|(number, entry)| {
                let end = entry.name as usize + wanted.name.len() + 1;
                (number, Scanner::at(text, end).to_value())
            });
        if !self.escaped {
            return plain;
        }
        let escaped = listed(ESCAPED)
            .filter(|(_, entry)| Scanner::at(text, entry.name as usize).name_is(&wanted.name))
            .last()
            .map(|(number, entry)| (number, Scanner::at(text, entry.name as usize).after_name()));
        match (plain, escaped) {
            (Some(plain), Some(escaped)) => Some(plain.min(escaped)),
            (plain, escaped) => plain.or(escaped),
        }
    }
}

impl Member {
    /// Whether the name as it stands in the text is this one; one with escapes is not looked at.
    fn is_at(&self, text: &str, at: usize) -> bool {
        let name = self.name.as_bytes();
        let end = at + name.len();
        text.as_bytes().get(at..end) == Some(name) && text.as_bytes().get(end) == Some(&b'"')
    }
}

/// Where the value at `steps` below the value at `place` begins, found in the text.
fn walk(text: &str, place: usize, steps: &[Step]) -> Option<usize> {
    let mut place = place;
    for step in steps {
        let mut scanner = Scanner::at(text, place);
        place = match step {
            Step::Member(member) => scanner.find_member(&member.name)?,
            Step::Item(number) => scanner.find_item(*number)?,
        };
    }
    Some(place)
}

/// What a name is known by: of its length and its first and last eight bytes. `rest` is the text from its first
/// byte on, of which so many are the name.
#[inline]
pub(super) fn hash(rest: &[u8], length: usize, escaped: bool) -> u16 {
    if escaped {
        return ESCAPED;
    }
    let first = rest.first_chunk::<8>().copied().unwrap_or_else(|| {
        let mut eight = [0; 8];
        eight.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        eight
    });
    let first = u64::from_le_bytes(first);
    let name = if length < 8 {
        first & ((1 << (8 * length)) - 1)
    } else {
        let last = rest.get(length - 8..).and_then(|rest| rest.first_chunk::<8>());
        first ^ last.map_or(0, |eight| u64::from_le_bytes(*eight).rotate_left(29))
    };
    let mixed = (name ^ (length as u64) << 56).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed >> 48) as u16).min(ESCAPED - 1)
}
