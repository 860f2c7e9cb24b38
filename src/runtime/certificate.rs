//! Whom a client certificate names: its common name is the user, each organization a group, as API servers have it.
//!
//! The handshake has proved the certificate by then; here it is only read.

use bytestring::ByteString;
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::asn1::{PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Any, Decode};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");

/// Whom a certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The common name.
    pub name: ByteString,
    /// The organizations.
    pub groups: Vec<String>,
}

impl Subject {
    /// Reads the first of a chain; `None` where it names nobody.
    pub fn of(chain: Option<&[CertificateDer<'_>]>) -> Option<Self> {
        let certificate = Certificate::from_der(chain?.first()?).ok()?;
        let (mut name, mut groups) = (None, Vec::new());
        let parts = certificate.tbs_certificate.subject.0.iter().flat_map(|part| part.0.iter());
        for attribute in parts {
            match attribute.oid {
                COMMON_NAME => name = text(&attribute.value),
                ORGANIZATION => groups.extend(text(&attribute.value)),
                _ => {}
            }
        }
        let name = name.filter(|name| !name.is_empty())?;
        Some(Self { name: name.into(), groups })
    }
}

/// Text in any of the forms that names have in use.
fn text(value: &Any) -> Option<String> {
    let utf8 = value.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_str().to_owned());
    utf8.or_else(|_| value.decode_as::<PrintableStringRef<'_>>().map(|text| text.as_str().to_owned()))
        .or_else(|_| value.decode_as::<TeletexStringRef<'_>>().map(|text| text.as_str().to_owned()))
        .ok()
}
