//! The secrets that a transport socket of Envoy's TLS takes by their names from the stream that brought it (SDS).

use bytestring::ByteString;
use meshbus_proto::google::Any;
use prost::Message;

const TLS: &str = "envoy.extensions.transport_sockets.tls.v3.";
const UPSTREAM: &str = "UpstreamTlsContext";
const DOWNSTREAM: &str = "DownstreamTlsContext";
const QUIC: &str = "envoy.extensions.transport_sockets.quic.v3.";

/// `envoy.config.core.v3.TransportSocket`
#[derive(Clone, PartialEq, Message)]
pub struct Socket {
    #[prost(message, optional, tag = "3")]
    typed_config: Option<Any>,
}

/// Names of the secrets. What cannot be decoded names none.
pub fn secrets(socket: &Socket) -> Vec<ByteString> {
    let Some(config) = &socket.typed_config else { return Vec::new() };
    let name = config.type_url.rsplit('/').next().unwrap_or_default();
    let of_quic = || Quic::decode(&*config.value).unwrap_or_default().context;
    let (tls, context) = match (name.strip_prefix(TLS), name.strip_prefix(QUIC)) {
        (Some(tls), _) => (tls, config.value.to_vec()),
        (_, Some("QuicUpstreamTransport")) => (UPSTREAM, of_quic()),
        (_, Some("QuicDownstreamTransport")) => (DOWNSTREAM, of_quic()),
        _ => return Vec::new(),
    };
    let (common, tickets) = match tls {
        UPSTREAM => (Upstream::decode(&*context).unwrap_or_default().common, None),
        DOWNSTREAM => {
            let Downstream { common, tickets } = Downstream::decode(&*context).unwrap_or_default();
            (common, tickets)
        }
        _ => return Vec::new(),
    };
    let TlsContext { certificates, validation, combined } = common.unwrap_or_default();
    let combined = combined.and_then(|combined| combined.validation);
    let all = certificates.into_iter().chain(validation).chain(combined).chain(tickets);
    all.filter(Secret::is_of_stream).map(|secret| secret.name.into()).collect()
}

/// Of either end: the bytes of its context.
#[derive(Clone, PartialEq, Message)]
struct Quic {
    #[prost(bytes = "vec", tag = "1")]
    context: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Upstream {
    #[prost(message, optional, tag = "1")]
    common: Option<TlsContext>,
}

#[derive(Clone, PartialEq, Message)]
struct Downstream {
    #[prost(message, optional, tag = "1")]
    common: Option<TlsContext>,
    #[prost(message, optional, tag = "5")]
    tickets: Option<Secret>,
}

#[derive(Clone, PartialEq, Message)]
struct TlsContext {
    #[prost(message, repeated, tag = "6")]
    certificates: Vec<Secret>,
    #[prost(message, optional, tag = "7")]
    validation: Option<Secret>,
    #[prost(message, optional, tag = "8")]
    combined: Option<Combined>,
}

#[derive(Clone, PartialEq, Message)]
struct Combined {
    #[prost(message, optional, tag = "2")]
    validation: Option<Secret>,
}

#[derive(Clone, PartialEq, Message)]
struct Secret {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    source: Option<Source>,
}

/// `envoy.config.core.v3.ConfigSource`, as far as it is the stream itself.
#[derive(Clone, PartialEq, Message)]
struct Source {
    #[prost(message, optional, tag = "3")]
    aggregated: Option<Empty>,
    #[prost(message, optional, tag = "5")]
    same: Option<Empty>,
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}

impl Secret {
    /// Those without a source are of the client's bootstrap.
    fn is_of_stream(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.aggregated.is_some() || source.same.is_some())
    }
}
