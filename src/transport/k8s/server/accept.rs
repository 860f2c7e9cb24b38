//! In which form a client wants objects: the media types of `Accept` with the parameters `as`, `g` and `v` of
//! [the API concepts](https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables).

use http::HeaderMap;
use http::header::ACCEPT;

use crate::transport::k8s::codec::status::{Reason, Status};

/// Most entries of an `Accept` that are read.
const ENTRIES_MAX: usize = 64;

/// What is made of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    /// Itself.
    Object,
    /// A `PartialObjectMetadata`.
    Metadata,
    /// A row of a Table of `meta.k8s.io/v1`, or `v1beta1`.
    Table {
        /// `v1beta1`, which old clients ask for.
        beta: bool,
    },
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Media {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
}

/// What a client accepts best of what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) shape: Shape,
    pub(super) media: Media,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// One object.
    One,
    /// A list.
    List,
    /// The changes.
    Watch,
}

/// Reads which form is wanted.
///
/// # Errors
/// 406 when it is none that there is.
pub(super) fn form(headers: &HeaderMap, wanted: Wanted) -> Result<Form, Status> {
    let given: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let mut entries: Vec<Entry<'_>> = given
        .iter()
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .take(ENTRIES_MAX)
        .map(Entry::of)
        .collect();
    let json = Form { shape: Shape::Object, media: Media::Json };
    if entries.is_empty() {
        return Ok(json);
    }
    // Stable: of entries of one quality the first is tried first.
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.quality));
    entries.iter().filter(|entry| entry.quality > 0).find_map(|entry| entry.form(wanted)).ok_or_else(|| {
        let types = match wanted {
            Wanted::Watch => {
                "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
            }
            _ => "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        };
        Status::new(Reason::NotAcceptable, format!("only the following media types are accepted: {types}"))
    })
}

/// One media range with its parameters.
#[derive(Debug, Default)]
struct Entry<'a> {
    range: &'a str,
    /// Of thousand: 1000 is the most.
    quality: u16,
    as_kind: Option<&'a str>,
    group: &'a str,
    version: &'a str,
}

impl<'a> Entry<'a> {
    fn of(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let mut entry = Self { range: parts.next().unwrap_or_default(), quality: 1000, ..Self::default() };
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name.trim() {
                "as" => entry.as_kind = Some(value.trim()),
                "g" => entry.group = value.trim(),
                "v" => entry.version = value.trim(),
                "q" => entry.quality = quality(value.trim()),
                _ => {}
            }
        }
        entry
    }

    fn form(&self, wanted: Wanted) -> Option<Form> {
        let media = match self.range.to_ascii_lowercase().as_str() {
            "*/*" | "application/*" | "application/json" => Media::Json,
            "application/yaml" if wanted != Wanted::Watch => Media::Yaml,
            _ => return None,
        };
        let beta = self.version == "v1beta1";
        let meta = self.group == "meta.k8s.io" && (beta || self.version == "v1");
        let shape = match (self.as_kind, wanted) {
            (None, _) => Shape::Object,
            (Some("Table"), _) if meta => Shape::Table { beta },
            (Some("PartialObjectMetadata"), Wanted::One | Wanted::Watch)
            | (Some("PartialObjectMetadataList"), Wanted::List)
                if meta =>
            {
                Shape::Metadata
            }
            _ => return None,
        };
        Some(Form { shape, media })
    }
}

/// Of thousand; what is no number counts as none. At most three digits are after the point.
fn quality(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.chars().chain("000".chars()).take(3).collect::<String>();
    match (whole, digits.parse::<u16>()) {
        ("1", _) => 1000,
        ("0" | "", Ok(thousandths)) => thousandths,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accept: &str, wanted: Wanted) -> Option<(Shape, Media)> {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(ACCEPT, accept.parse().unwrap());
        }
        form(&headers, wanted).ok().map(|form| (form.shape, form.media))
    }

    #[test]
    fn the_best_form_there_is_is_taken() {
        let (list, one, watch) = (Wanted::List, Wanted::One, Wanted::Watch);
        let json = Some((Shape::Object, Media::Json));
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        for (accept, wanted, expected) in [
            ("", list, json),
            ("*/*", list, json),
            ("application/json, */*", one, json),
            ("application/vnd.kubernetes.protobuf,application/json", list, json),
            ("application/json;stream=watch", watch, json),
            ("application/yaml", list, Some((Shape::Object, Media::Yaml))),
            ("application/yaml", watch, None),
            (table, list, Some((Shape::Table { beta: false }, Media::Json))),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
                one,
                Some((Shape::Table { beta: true }, Media::Json)),
            ),
            (
                "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
                list,
                Some((Shape::Metadata, Media::Json)),
            ),
            (
                "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
                watch,
                Some((Shape::Metadata, Media::Json)),
            ),
            ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", list, None),
            ("application/json;as=Nope;v=v1;g=meta.k8s.io,application/json", list, json),
            ("application/json;q=0.1,application/yaml;q=0.9", list, Some((Shape::Object, Media::Yaml))),
            ("text/csv", list, None),
            ("application/json;q=0", list, None),
        ] {
            assert_eq!(of(accept, wanted), expected, "{accept} {wanted:?}");
        }
    }

    #[test]
    fn what_cannot_be_given_is_refused_in_the_servers_words() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, "application/vnd.kubernetes.protobuf".parse().unwrap());
        let refused = form(&headers, Wanted::List).unwrap_err();
        assert_eq!(
            (refused.code.as_u16(), refused.message.as_str()),
            (
                406,
                "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
            )
        );
    }
}
