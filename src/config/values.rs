//! Scalar types of the configuration: durations, sizes, secrets.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration as StdDuration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::de::HINT;

/// The reason given for a secret in the file. Nothing of the line is shown with it.
pub(super) const SECRET_IN_FILE: &str = "a secret does not stand in the file";
/// Most bytes of a secret's file; a certificate chain fits, a wrong path to something huge does not.
const SECRET_MAX: u64 = 1024 * 1024;
/// Units of a duration, longest first, in nanoseconds.
const TIMES: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];
/// Units of a size, in bytes; the binary ones first, as they are what a size is written in.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// A duration: `100ms`, `30s`, `5m`, `1h30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub StdDuration);

impl Duration {
    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(StdDuration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(StdDuration::from_millis(millis))
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no duration{HINT}a number and a unit: 100ms, 30s, 5m, 1h30m");
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("{text:?} is a duration without a unit{HINT}{text}s, {text}ms or {text}m"));
        }
        let mut nanos: u128 = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let (number, after) = rest.split_at(digits);
            let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, after) = after.split_at(unit);
            let (_, scale) = TIMES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
            let number: u64 = number.parse().map_err(|_| wrong())?;
            nanos += u128::from(number) * scale;
            rest = after;
        }
        if text.is_empty() {
            return Err(wrong());
        }
        let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| wrong())?;
        Ok(Self(StdDuration::new(seconds, (nanos % 1_000_000_000) as u32)))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in TIMES {
            if nanos >= scale {
                write!(f, "{}{unit}", nanos / scale)?;
                nanos %= scale;
            }
        }
        Ok(())
    }
}

impl From<StdDuration> for Duration {
    fn from(duration: StdDuration) -> Self {
        Self(duration)
    }
}

impl From<Duration> for StdDuration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;
        impl Visitor<'_> for Reads {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 30s")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Duration, E> {
                number.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Reads)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A duration: a number and a unit (d, h, m, s, ms, us, ns), several in a row add up.",
            "pattern": "^([0-9]+(d|h|m|s|ms|us|ns))+$",
        })
    }
}

/// A size in bytes: `512`, `64KiB`, `1MiB`, `1GiB`, `10MB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

impl Size {
    /// The same as a count of bytes in memory.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let scale = match unit {
            "" => Some(1),
            _ => SIZES.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale),
        };
        if let Some(scale) = scale
            && let Ok(number) = number.parse::<u64>()
            && let Some(bytes) = number.checked_mul(scale)
        {
            return Ok(Self(bytes));
        }
        Err(format!("{text:?} is no size{HINT}{}", size_hint(number, unit)))
    }
}

/// People write `64k`, `64mb` and `64 MiB`.
fn size_hint(number: &str, unit: &str) -> String {
    let folded = unit.trim().to_ascii_lowercase();
    let near = ["KiB", "MiB", "GiB", "TiB"].into_iter().find(|binary| {
        let binary = binary.to_ascii_lowercase();
        !folded.is_empty() && (binary == folded || binary.replace("ib", "b").starts_with(&folded))
    });
    match near {
        Some(near) if !number.is_empty() => format!("did you mean `{number}{near}`?"),
        _ => "a whole number of bytes, or with a unit: 64KiB, 1MiB, 1GiB, 10MB".to_owned(),
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |&&(_, scale): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(scale);
        match SIZES.iter().filter(|(unit, _)| unit.ends_with("iB")).find(exact) {
            Some((unit, scale)) => write!(f, "{}{unit}", self.0 / scale),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;
        impl Visitor<'_> for Reads {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 64KiB")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }
        }
        deserializer.deserialize_any(Reads)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A size: bytes, or a number and a unit (KiB, MiB, GiB, TiB; kB, MB, GB, TB).",
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?$"},
            ],
        })
    }
}

/// A secret: `{file: PATH}` or `{env: NAME}`; read when it is used, never printed (`Debug` is redacted).
#[derive(Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Secret {
    /// From a file, without its last line break.
    File(PathBuf),
    /// From an environment variable.
    Env(String),
}

impl Secret {
    /// Reads it now, so that a rotated file is seen. At most 1 MiB.
    ///
    /// # Errors
    /// Names the file or the variable, never the content.
    pub fn read(&self) -> Result<String, String> {
        match self {
            Self::Env(name) => std::env::var(name).map_err(|error| match error {
                std::env::VarError::NotPresent => format!("variable {name} is not set"),
                std::env::VarError::NotUnicode(_) => format!("variable {name} is no UTF-8"),
            }),
            Self::File(path) => {
                let name = path.display();
                let size = std::fs::metadata(path).map_err(|error| format!("{name}: {error}"))?.len();
                if size > SECRET_MAX {
                    return Err(format!(
                        "{name}: {size} bytes are too many for a secret, at most {SECRET_MAX}"
                    ));
                }
                let mut text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
                if text.ends_with('\n') {
                    text.pop();
                    if text.ends_with('\r') {
                        text.pop();
                    }
                }
                Ok(text)
            }
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;
        impl<'de> Visitor<'de> for Reads {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret: {file: PATH} or {env: NAME}")
            }

            // What stands here may be the secret itself: it is not repeated in the message.
            fn visit_str<E: de::Error>(self, _: &str) -> Result<Secret, E> {
                Err(E::custom(format!(
                    "a secret does not stand in the file{HINT}{{file: PATH}} or {{env: NAME}}"
                )))
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
                self.visit_str("")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Secret, A::Error> {
                let from = From::deserialize(de::value::MapAccessDeserializer::new(map))?;
                match (from.file, from.env) {
                    (Some(file), None) => Ok(Secret::File(file)),
                    (None, Some(env)) => Ok(Secret::Env(env)),
                    _ => Err(de::Error::invalid_value(Unexpected::Map, &"exactly one of: file, env")),
                }
            }
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct From {
            file: Option<PathBuf>,
            env: Option<String>,
        }
        deserializer.deserialize_any(Reads)
    }
}
