//! Calls by channels that xDS leads.

use std::collections::HashMap;
use std::env::var;
use std::fs::read;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tokio::time::{Instant, timeout};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};
use tonic_xds::{BootstrapConfig, XdsChannelBuilder, XdsChannelConfig, XdsChannelGrpc, XdsUri};

/// Until standard input ends.
pub(crate) async fn run() {
    let bootstrap = bootstrap();
    let mut channels = HashMap::new();
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await.expect("standard input") {
        let (service, seconds) = line.split_once(' ').expect("SERVICE SECONDS");
        let limit = Duration::from_secs(seconds.parse().expect("seconds"));
        let channel = channels.entry(service.to_owned()).or_insert_with(|| channel(service, &bootstrap));
        println!("{}", call(channel, limit).await);
    }
}

/// What the environment names. This gRPC takes a server by URL only, the others by `HOST:PORT`.
fn bootstrap() -> BootstrapConfig {
    let path = var("GRPC_XDS_BOOTSTRAP").expect("GRPC_XDS_BOOTSTRAP names a file");
    let mut json: Value = serde_json::from_slice(&read(path).expect("a bootstrap")).expect("JSON");
    let server = &mut json["xds_servers"][0]["server_uri"];
    *server = format!("http://{}", server.as_str().expect("a server")).into();
    BootstrapConfig::from_json(&json.to_string()).expect("a bootstrap")
}

fn channel(service: &str, bootstrap: &BootstrapConfig) -> XdsChannelGrpc {
    let target = XdsUri::parse(&format!("xds:///{service}")).expect("a target");
    let config = XdsChannelConfig::new(target).with_bootstrap(bootstrap.clone());
    XdsChannelBuilder::new(config).build_grpc_channel().expect("a channel")
}

async fn call(channel: &XdsChannelGrpc, limit: Duration) -> Value {
    let begin = Instant::now();
    let path = PathAndQuery::from_static("/test.Backend/Name");
    let mut client = Grpc::new(channel.clone());
    let answer = async {
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        client.unary(Request::new(Bytes::new()), path, Plain).await
    };
    let answer = timeout(limit, answer).await;
    let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
    let seconds = begin.elapsed().as_secs_f64();
    match answer {
        Ok(reply) => {
            json!({"reply": String::from_utf8_lossy(reply.get_ref()), "error": null, "seconds": seconds})
        }
        Err(status) => {
            let error = format!("{:?}: {}", status.code(), status.message());
            json!({"reply": null, "error": error, "seconds": seconds})
        }
    }
}

/// Messages that are bytes.
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let rest = from.remaining();
        Ok(Some(from.copy_to_bytes(rest)))
    }
}
