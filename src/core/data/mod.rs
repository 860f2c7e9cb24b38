//! Reading values out of JSON data ([RFC 8259](https://www.rfc-editor.org/rfc/rfc8259)) by path, for
//! expressions and templates: checked once, indexed once, and read in place.
//!
//! The whole text is checked when it is first looked at, so whether data is JSON does not depend on who asks
//! for what. The members of objects are indexed on the way, so that the next path costs a look-up. Of a name
//! given twice in one object the first counts.

mod index;
mod path;
mod scan;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;

use index::Index;
use scan::Scanner;

pub use path::{Path, STEPS_MAX, Step};

/// Most bytes of data that are read.
pub const DATA_MAX: usize = 1 << 20;
/// Deepest nesting of lists and objects.
pub const DEPTH_MAX: usize = 64;

/// What is at a path. Numbers are text as written: how they are read is the reader's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// Nothing is there.
    Missing,
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A number, as it is written.
    Number(&'a str),
    /// A string; borrowed unless it holds escapes.
    Text(Cow<'a, str>),
    /// A list.
    List,
    /// An object.
    Object,
}

/// A checked JSON text and the index of its objects' members. It shares the bytes it was made of.
///
/// Beside the text it takes at most a kilobyte, however many members there are.
#[derive(Clone, Debug)]
pub struct Json {
    text: ByteString,
    index: Index,
}

impl Json {
    /// Checks data and indexes it; shares the bytes.
    ///
    /// # Errors
    /// Says in a few words why it cannot be read: it is no JSON, or over [`DATA_MAX`] or [`DEPTH_MAX`].
    pub fn read(data: &Bytes) -> Result<Self, &'static str> {
        if data.len() > DATA_MAX {
            return Err("the data is larger than the 1 MiB that are read");
        }
        let text = ByteString::try_from(data.clone()).map_err(|_| "the data is no JSON")?;
        let index = Scanner::new(&text).document()?;
        Ok(Self { text, index })
    }

    /// What is at a path; an empty path is the whole text.
    pub fn at(&self, path: &Path) -> Found<'_> {
        let Some(place) = self.index.place(&self.text, path.steps()) else { return Found::Missing };
        Scanner::at(&self.text, place).found()
    }

    /// The text at a path, where there is one that stands there without escapes.
    pub fn text_at(&self, path: &Path) -> Option<&str> {
        let place = self.index.place(&self.text, path.steps())?;
        Scanner::at(&self.text, place).plain_text()
    }
}

/// Whether data of this media type is JSON: `…/json` or `…+json`, or none given; parameters do not matter.
pub fn is_json(datacontenttype: Option<&str>) -> bool {
    let Some(kind) = datacontenttype else { return true };
    let essence = kind.split(';').next().unwrap_or_default().trim_ascii();
    // The usual ones need no look at their case.
    let ends = |suffix: &str| {
        let start = essence.len().checked_sub(suffix.len());
        start.and_then(|start| essence.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    };
    ends("/json") || ends("+json")
}
