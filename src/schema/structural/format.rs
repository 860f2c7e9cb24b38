//! Formats of strings that schemas of custom resources may ask for; unknown ones are ignored, as the API server does.

use core::net::{Ipv4Addr, Ipv6Addr};

/// A format that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Uri,
    Email,
    Hostname,
    Ipv4,
    Ipv6,
    Cidr,
    Mac,
    /// Any version, or one.
    Uuid(Option<u8>),
    ObjectId,
    Isbn10,
    Isbn13,
    Isbn,
    CreditCard,
    Ssn,
    HexColor,
    RgbColor,
    Byte,
    Password,
    Date,
    Duration,
    DateTime,
    ShortName,
    LongName,
}

impl Format {
    /// The format of that name; hyphens do not count.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name.replace('-', "").as_str() {
            "uri" => Self::Uri,
            "email" => Self::Email,
            "hostname" => Self::Hostname,
            "ipv4" => Self::Ipv4,
            "ipv6" => Self::Ipv6,
            "cidr" => Self::Cidr,
            "mac" => Self::Mac,
            "uuid" => Self::Uuid(None),
            "uuid3" => Self::Uuid(Some(3)),
            "uuid4" => Self::Uuid(Some(4)),
            "uuid5" => Self::Uuid(Some(5)),
            "bsonobjectid" => Self::ObjectId,
            "isbn" => Self::Isbn,
            "isbn10" => Self::Isbn10,
            "isbn13" => Self::Isbn13,
            "creditcard" => Self::CreditCard,
            "ssn" => Self::Ssn,
            "hexcolor" => Self::HexColor,
            "rgbcolor" => Self::RgbColor,
            "byte" => Self::Byte,
            "password" => Self::Password,
            "date" => Self::Date,
            "duration" => Self::Duration,
            "datetime" => Self::DateTime,
            "k8sshortname" => Self::ShortName,
            "k8slongname" => Self::LongName,
            _ => return None,
        })
    }

    /// Whether the text is of this format.
    pub(super) fn accepts(self, text: &str) -> bool {
        match self {
            Self::Password => true,
            Self::Uri => is_uri(text),
            Self::Email => is_email(text),
            Self::Hostname => is_hostname(text),
            Self::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Self::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Self::Cidr => is_cidr(text),
            Self::Mac => is_mac(text),
            Self::Uuid(version) => is_uuid(text, version),
            Self::ObjectId => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
            Self::Isbn10 => is_isbn10(text),
            Self::Isbn13 => is_isbn13(text),
            Self::Isbn => is_isbn10(text) || is_isbn13(text),
            Self::CreditCard => is_credit_card(text),
            Self::Ssn => is_ssn(text),
            Self::HexColor => {
                let digits = text.strip_prefix('#').unwrap_or(text);
                matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
            }
            Self::RgbColor => is_rgb(text),
            Self::Byte => is_base64(text),
            Self::Date => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
            Self::Duration => is_duration(text),
            Self::DateTime => is_date_time(text),
            Self::ShortName => crate::schema::structural::names::dns_label(text).is_empty(),
            Self::LongName => crate::schema::structural::names::dns_subdomain(text).is_empty(),
        }
    }
}

fn is_uri(text: &str) -> bool {
    // What a request line may carry: an absolute URI or an absolute path.
    if text.is_empty() || text.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return false;
    }
    let scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    };
    text.starts_with('/') || text.split_once(':').is_some_and(|(name, _)| scheme(name))
}

fn is_email(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(local, domain)| {
        let atom = |part: &str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c))
        };
        local.split('.').all(atom) && !domain.is_empty() && domain.split('.').all(atom)
    })
}

fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    !text.is_empty() && text.len() <= 255 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let Ok(bits) = bits.parse::<u8>() else { return false };
    (address.parse::<Ipv4Addr>().is_ok() && bits <= 32)
        || (address.parse::<Ipv6Addr>().is_ok() && bits <= 128)
}

fn is_mac(text: &str) -> bool {
    let octets = |separator: char, digits: usize, counts: &[usize]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len())
            && parts.iter().all(|part| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    octets(':', 2, &[6, 8, 20]) || octets('-', 2, &[6, 8, 20]) || octets('.', 4, &[3, 4, 10])
}

fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
    let hyphens_fit = text.len() == digits.len()
        || text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        || !text.split('-').any(str::is_empty) && version.is_none();
    digits.len() == 32
        && digits.iter().all(u8::is_ascii_hexdigit)
        && hyphens_fit
        && version.is_none_or(|version| digits.get(12) == Some(&(b'0' + version)))
}

fn digits_of(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

fn is_isbn10(text: &str) -> bool {
    let bare: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    let values: Option<Vec<u32>> = bare
        .chars()
        .enumerate()
        .map(|(at, c)| c.to_digit(10).or((at == 9 && matches!(c, 'X' | 'x')).then_some(10)))
        .collect();
    values.is_some_and(|values| {
        values.len() == 10
            && values.iter().zip(1u32..).map(|(v, at)| v * at).sum::<u32>().is_multiple_of(11)
    })
}

fn is_isbn13(text: &str) -> bool {
    let bare: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    let values = digits_of(&bare);
    bare.len() == 13
        && values.len() == 13
        && values.iter().zip([1, 3].into_iter().cycle()).map(|(v, weight)| v * weight).sum::<u32>() % 10
            == 0
}

fn is_credit_card(text: &str) -> bool {
    let values = digits_of(text);
    let doubled = |v: u32| if v > 4 { v * 2 - 9 } else { v * 2 };
    let sum: u32 =
        values.iter().rev().enumerate().map(|(at, v)| if at % 2 == 1 { doubled(*v) } else { *v }).sum();
    (13..=16).contains(&values.len()) && sum.is_multiple_of(10)
}

fn is_ssn(text: &str) -> bool {
    let bare: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    bare.len() == 9
        && bare.bytes().all(|b| b.is_ascii_digit())
        && (text.len() == 9 || text.split(['-', ' ']).map(str::len).eq([3, 2, 4]))
}

fn is_rgb(text: &str) -> bool {
    text.strip_prefix("rgb(").and_then(|rest| rest.strip_suffix(')')).is_some_and(|inner| {
        let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
        parts.len() == 3 && parts.iter().all(|part| part.parse::<u8>().is_ok())
    })
}

fn is_base64(text: &str) -> bool {
    let bare = text.trim_end_matches('=');
    let padding = text.len() - bare.len();
    text.len().is_multiple_of(4)
        && padding <= 2
        && bare.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

/// `1h30m`, `-1.5s`, or a number, a space and a unit of calendar time.
fn is_duration(text: &str) -> bool {
    const UNITS: [&str; 8] = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
    const WORDS: [&str; 9] =
        ["nanosecond", "microsecond", "millisecond", "second", "minute", "hour", "day", "week", "min"];
    let mut rest = text.trim_start_matches(['+', '-']);
    if rest == "0" {
        return true;
    }
    if let Some((count, word)) = rest.split_once(' ') {
        let word = word.trim().strip_suffix('s').unwrap_or(word.trim());
        let known = WORDS.contains(&word) || UNITS.iter().any(|unit| unit.trim_end_matches('s') == word);
        return count.parse::<u64>().is_ok() && known;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = rest.strip_suffix(after).unwrap_or_default();
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let Some((unit, next)) = after.split_at_checked(unit_end) else { return false };
        let day = matches!(unit, "d" | "w");
        if number.parse::<f64>().is_err() || !(UNITS.contains(&unit) || day) {
            return false;
        }
        rest = next;
    }
    true
}

fn is_date_time(text: &str) -> bool {
    // A time without a zone or without a `T` is none here, however lenient the parser is.
    let zoned = text.ends_with(['Z', 'z']) || text.get(10..).is_some_and(|time| time.contains(['+', '-']));
    let separated = text.as_bytes().get(10).is_some_and(|b| matches!(b, b'T' | b't'));
    zoned && separated && text.parse::<jiff::Timestamp>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_takes_its_own_and_nothing_else() {
        for (name, good, bad) in [
            ("date-time", "2026-11-22T06:00:00Z", "2026-11-22"),
            ("datetime", "2026-11-22T06:00:00.123+02:00", "2026-11-22 06:00:00"),
            ("date", "2026-11-22", "2026-13-22"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "fe80::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "00:11:22:aa:bb:cc", "00:11:22:aa:bb"),
            ("uuid", "2e901743-d23d-418f-8728-fae473714bce", "2e901743"),
            ("uuid4", "2e901743-d23d-418f-8728-fae473714bce", "2e901743-d23d-118f-8728-fae473714bce"),
            ("uri", "https://example.com/a?b", "example com"),
            ("email", "a.b@example.com", "example.com"),
            ("hostname", "a.example.com", "-a.example.com"),
            ("byte", "aGk=", "aGk"),
            ("duration", "1h30m", "1x"),
            ("duration", "22 ns", "ns"),
            ("hexcolor", "#ff00AA", "#ff"),
            ("rgbcolor", "rgb(1, 2,255)", "rgb(1,2,256)"),
            ("isbn10", "0-321-75104-3", "0-321-75104-4"),
            ("isbn13", "978-0321751041", "978-0321751042"),
            ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
            ("ssn", "111-22-3333", "111-22-333"),
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"),
            ("k8s-short-name", "a-b", "a.b"),
            ("k8s-long-name", "a.b", "A.b"),
        ] {
            let format = Format::from_name(name).unwrap();
            assert!(format.accepts(good), "{name} {good}");
            assert!(!format.accepts(bad), "{name} {bad}");
        }
        assert_eq!(Format::from_name("int32"), None);
    }
}
