//! UUIDs ([RFC 9562](https://www.rfc-editor.org/rfc/rfc9562)), as text.

use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use uuid::Builder;

/// A random one (version 4).
pub fn random() -> String {
    text(Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()))
}

/// One of now (version 7): the time in milliseconds, and 74 random bits.
pub fn timed() -> String {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    text(Builder::from_unix_timestamp_millis(millis, &random))
}

/// One that is the same for the same parts, and for no others (version 8, of SHA-256).
pub fn of(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash.finalize()).for_each(|(byte, hashed)| *byte = hashed);
    text(Builder::from_custom_bytes(bytes))
}

fn text(builder: Builder) -> String {
    builder.into_uuid().hyphenated().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_the_shape_and_version_of_its_kind() {
        for (uuid, version) in [(random(), b'4'), (timed(), b'7'), (of(&["a", "b"]), b'8')] {
            assert_eq!(uuid.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
            assert_eq!(uuid.as_bytes()[14], version, "{uuid}");
            assert!(b"89ab".contains(&uuid.as_bytes()[19]), "{uuid}");
        }
        assert!(random() != random() && timed() != timed());
    }

    #[test]
    fn one_of_parts_is_of_all_and_of_where_they_end() {
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert!(of(&["a", "b"]) != of(&["a", "c"]) && of(&["ab", ""]) != of(&["a", "b"]));
    }
}
