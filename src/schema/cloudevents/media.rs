//! Media types: which ones say JSON, text or a CloudEvents format (RFC 2045 section 5, RFC 6838).
//!
//! All comparisons ignore case, parameters (`; charset=utf-8`) and space around the type.

/// One event in the JSON format.
pub const JSON: &str = "application/cloudevents+json";
/// A batch of events in the JSON format.
pub const JSON_BATCH: &str = "application/cloudevents-batch+json";
/// One event in the protobuf format.
pub const PROTOBUF: &str = "application/cloudevents+protobuf";
/// A batch of events in the protobuf format.
pub const PROTOBUF_BATCH: &str = "application/cloudevents-batch+protobuf";

/// The type without parameters and space around it.
pub fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim_ascii()
}

/// Whether the type declares JSON: `*/json` or `*/*+json`.
pub fn is_json(media_type: &str) -> bool {
    let essence = essence(media_type);
    essence.contains('/') && (ends_with(essence, "/json") || ends_with(essence, "+json"))
}

/// Whether the type declares text that reads as UTF-8: `text/*`, XML, YAML and their like, unless a
/// `charset` other than UTF-8 or US-ASCII is given. JSON is not text here: see [`is_json`].
pub fn is_text(media_type: &str) -> bool {
    const KNOWN: [&str; 10] = [
        "application/xml",
        "application/yaml",
        "application/x-yaml",
        "application/toml",
        "application/javascript",
        "application/ecmascript",
        "application/graphql",
        "application/sql",
        "application/x-ndjson",
        "application/x-www-form-urlencoded",
    ];
    let essence = essence(media_type);
    let text = starts_with(essence, "text/")
        || ends_with(essence, "+xml")
        || ends_with(essence, "+yaml")
        || KNOWN.iter().any(|known| essence.eq_ignore_ascii_case(known));
    text && !is_json(media_type) && charset(media_type).is_none_or(is_utf8_charset)
}

/// Whether the type is any CloudEvents format, known to us or not: a structured message.
pub fn is_cloudevents(media_type: &str) -> bool {
    starts_with(essence(media_type), "application/cloudevents")
}

/// Whether the type is [`JSON`].
pub fn is_cloudevents_json(media_type: &str) -> bool {
    essence(media_type).eq_ignore_ascii_case(JSON)
}

/// Whether the type is [`JSON_BATCH`].
pub fn is_cloudevents_batch_json(media_type: &str) -> bool {
    essence(media_type).eq_ignore_ascii_case(JSON_BATCH)
}

/// Whether the type is [`PROTOBUF`].
pub fn is_cloudevents_protobuf(media_type: &str) -> bool {
    essence(media_type).eq_ignore_ascii_case(PROTOBUF)
}

/// Whether the type is [`PROTOBUF_BATCH`].
pub fn is_cloudevents_batch_protobuf(media_type: &str) -> bool {
    essence(media_type).eq_ignore_ascii_case(PROTOBUF_BATCH)
}

fn charset(media_type: &str) -> Option<&str> {
    media_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim_ascii().eq_ignore_ascii_case("charset").then(|| value.trim_ascii().trim_matches('"'))
    })
}

fn is_utf8_charset(charset: &str) -> bool {
    ["utf-8", "utf8", "us-ascii", "ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known))
}

fn starts_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn ends_with(text: &str, suffix: &str) -> bool {
    let start = text.len().checked_sub(suffix.len());
    start.and_then(|at| text.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_by_the_subtype_in_any_case_with_parameters() {
        for yes in [
            "application/json",
            "Application/JSON",
            "text/json",
            "application/json; charset=utf-8",
            " application/vnd.api+JSON ;v=1",
            "application/cloudevents+json",
        ] {
            assert!(is_json(yes), "{yes}");
        }
        for no in ["", "json", "+json", "application/jsonp", "text/plain; x=/json", "application/json-seq"]
        {
            assert!(!is_json(no), "{no}");
        }
    }

    #[test]
    fn text_is_told_by_the_type_unless_another_charset_is_declared() {
        for yes in [
            "text/plain",
            "TEXT/html;charset=UTF-8",
            "text/csv; charset=\"us-ascii\"",
            "application/xml",
            "image/svg+xml",
        ] {
            assert!(is_text(yes), "{yes}");
        }
        for no in ["text/json", "text/plain; charset=iso-8859-1", "application/octet-stream", "", "texts/a"]
        {
            assert!(!is_text(no), "{no}");
        }
    }

    #[test]
    fn each_cloudevents_format_is_told_from_the_others() {
        assert!(is_cloudevents_json("Application/CloudEvents+JSON; charset=UTF-8"));
        assert!(!is_cloudevents_json("application/cloudevents-batch+json"));
        assert!(is_cloudevents_batch_json("application/cloudevents-batch+json;a=b"));
        assert!(is_cloudevents_protobuf("application/cloudevents+PROTOBUF"));
        assert!(is_cloudevents_batch_protobuf("application/cloudevents-batch+protobuf"));
        assert!(is_cloudevents("application/cloudevents+avro"));
        assert!(!is_cloudevents("application/json"));
    }

    #[test]
    fn text_that_is_no_ascii_is_no_media_type_and_no_panic() {
        assert!(!is_json("é"));
        assert!(!is_text("€€€€€"));
        assert!(!is_cloudevents("application/cloudevent€"));
    }
}
