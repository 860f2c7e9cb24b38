//! Header values: the percent-encoding of the HTTP and NATS bindings (CloudEvents HTTP binding 3.1.3.2).
//!
//! Written strictly, read leniently. Several SDKs write and read values without any encoding; towards such
//! a peer a transport uses its `compat: raw` switch, which is [`encode_raw`] and `decode(…, raw = true)`.

use std::borrow::Cow;

use crate::core::DecodeError;

/// Encodes space, `"`, `%` and every byte of UTF-8 outside printable ASCII as `%XX`, upper case.
pub fn encode(text: &str) -> Cow<'_, str> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if !text.bytes().any(is_encoded) {
        return Cow::Borrowed(text);
    }
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).map_or('0', |&digit| char::from(digit));
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if is_encoded(byte) {
            out.extend(['%', digit(byte >> 4), digit(byte & 0xf)]);
        } else {
            out.push(char::from(byte));
        }
    }
    Cow::Owned(out)
}

/// Takes the text as it is, for peers that decode nothing.
///
/// # Errors
/// CR, LF or NUL: they would end or break the header.
pub fn encode_raw(text: &str) -> Result<&str, DecodeError> {
    match text.bytes().position(breaks_header) {
        None => Ok(text),
        Some(at) => Err(DecodeError::at(at, "a raw header value cannot hold CR, LF or NUL")),
    }
}

/// Decodes `%XX`, either case. Raw UTF-8 is taken as it is; a `%` without two hexadecimal digits stays.
/// With `raw` nothing is decoded.
///
/// An HTTP quoted-string is first to be taken apart by [`unquote`]. A control character that comes out is
/// refused by [`set_attribute`](super::set_attribute).
///
/// # Errors
/// What comes out is no UTF-8; with `raw` also CR, LF or NUL.
pub fn decode(bytes: &[u8], raw: bool) -> Result<Cow<'_, str>, DecodeError> {
    if raw && let Some(at) = bytes.iter().position(|&byte| breaks_header(byte)) {
        return Err(DecodeError::at(at, "a raw header value cannot hold CR, LF or NUL"));
    }
    if raw || !bytes.contains(&b'%') {
        return match str::from_utf8(bytes) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(error) => Err(DecodeError::at(error.valid_up_to(), "the header value is not UTF-8")),
        };
    }
    let decoded = percent_encoding::percent_decode(bytes).decode_utf8();
    decoded.map_err(|_| DecodeError::new("the percent-decoded header value is not UTF-8"))
}

/// Takes an HTTP quoted-string apart: outer double quotes off, `\x` to `x`. Anything else is left alone.
pub fn unquote(bytes: &[u8]) -> Cow<'_, [u8]> {
    let Some(inner) = bytes.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return Cow::Borrowed(bytes);
    };
    if !inner.contains(&b'\\') {
        return Cow::Borrowed(inner);
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.iter();
    while let Some(&byte) = rest.next() {
        let plain = if byte == b'\\' { rest.next().copied().unwrap_or(byte) } else { byte };
        out.push(plain);
    }
    Cow::Owned(out)
}

fn is_encoded(byte: u8) -> bool {
    !(0x21..=0x7e).contains(&byte) || matches!(byte, b'"' | b'%')
}

fn breaks_header(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bindings_own_example_and_the_awkward_characters_encode_as_the_rules_say() {
        for (plain, encoded) in [
            ("Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
            ("a b", "a%20b"),
            ("say \"hi\"", "say%20%22hi%22"),
            ("100%", "100%25"),
            ("%20", "%2520"),
            ("\u{7f}~!", "%7F~!"),
            ("tab\t", "tab%09"),
            ("/plain?a=b&c#d", "/plain?a=b&c#d"),
            ("", ""),
        ] {
            assert_eq!(encode(plain), encoded);
            assert_eq!(decode(encoded.as_bytes(), false).unwrap(), plain);
        }
    }

    #[test]
    fn lenient_decoding_takes_raw_utf8_lower_case_digits_and_stray_percents() {
        for (wire, text) in [
            ("Euro € 😀", "Euro € 😀"),
            ("%e2%82%ac", "€"),
            ("100%", "100%"),
            ("5%zz%2", "5%zz%2"),
            ("%41%c3%A9", "Aé"),
            ("a+b", "a+b"),
        ] {
            assert_eq!(decode(wire.as_bytes(), false).unwrap(), text);
        }
    }

    #[test]
    fn what_decodes_to_no_utf8_is_an_error_that_says_where_it_can() {
        assert_eq!(decode(b"ab\xff", false).unwrap_err().offset, Some(2));
        assert!(decode(b"%ff", false).is_err());
        // A surrogate, and an overlong form of a space: neither is UTF-8.
        assert!(decode(b"%ED%A0%80", false).is_err());
        assert!(decode(b"%C0%A0", false).is_err());
    }

    #[test]
    fn raw_changes_nothing_and_refuses_what_breaks_a_header() {
        assert_eq!(decode(b"a%20b", true).unwrap(), "a%20b");
        assert_eq!(encode_raw("Euro € %20").unwrap(), "Euro € %20");
        for bad in ["a\rb", "a\nb", "a\0b"] {
            assert_eq!(encode_raw(bad).unwrap_err().offset, Some(1));
            assert_eq!(decode(bad.as_bytes(), true).unwrap_err().offset, Some(1));
        }
        assert!(decode(b"\xff", true).is_err());
    }

    #[test]
    fn a_quoted_string_loses_its_quotes_and_escapes() {
        for (quoted, plain) in [
            (r#""a b""#, "a b"),
            (r#""say \"hi\"""#, "say \"hi\""),
            (r#""back\\slash""#, r"back\slash"),
            (r#""end\"#, r#""end\"#),
            ("\"", "\""),
            ("\"\"", ""),
            ("plain", "plain"),
        ] {
            assert_eq!(*unquote(quoted.as_bytes()), *plain.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(text in ".*") {
            let encoded = encode(&text);
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(&*decode(encoded.as_bytes(), false).unwrap(), &*text);
        }

        #[test]
        fn no_bytes_panic_the_decoder(bytes in any::<Vec<u8>>()) {
            let unquoted = unquote(&bytes);
            prop_assert!(unquoted.len() <= bytes.len());
            if let Ok(text) = decode(&unquoted, false) {
                prop_assert!(text.len() <= bytes.len());
            }
        }
    }
}
