//! The server to compare with: the least there can be of the usual crate. It answers the first request of a stream with
//! nothing, and for each byte that comes by its other port sends the same prepared response to all streams.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes};
use futures_util::Stream;
use futures_util::future::{BoxFuture, Ready, ready as now};
use meshbus_proto::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Response, Status, Streaming};
use tower_service::Service;

use super::support::Failure;

/// Responses that wait for one stream.
const WAITING: usize = 64;
/// Most calls of one connection at a time.
const CALLS: u32 = 1000;

/// Where all streams are told from.
type Fan = Arc<Mutex<Vec<mpsc::Sender<Bytes>>>>;

/// Serves `PORT TRIGGER FILE`; the file holds the response that is sent.
pub(crate) fn serve(args: &[String]) -> Result<ExitCode, Failure> {
    let [port, trigger, file] = args else { return Err("role bare PORT TRIGGER FILE".into()) };
    let (port, trigger): (u16, u16) = (port.parse()?, trigger.parse()?);
    let response = Bytes::from(std::fs::read(file)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let fan = Fan::default();
        let changes = TcpListener::bind((Ipv4Addr::LOCALHOST, trigger)).await?;
        let server = tonic::transport::Server::builder().max_concurrent_streams(CALLS);
        let serving = server.serve((Ipv4Addr::LOCALHOST, port).into(), Methods(Arc::clone(&fan)));
        tokio::select! {
            ended = serving => ended?,
            failed = tokio::spawn(tell(changes, response, fan)) => return Err(failed?),
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Tells all streams for each byte; ends only by an error.
async fn tell(changes: TcpListener, response: Bytes, fan: Fan) -> Failure {
    let mut buffer = [0; 64];
    loop {
        let mut stream = match changes.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => return error.into(),
        };
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            for _ in 0..count {
                fan.lock().retain(|stream| stream.try_send(response.clone()).is_ok());
            }
        }
    }
}

/// The methods: there is one.
#[derive(Clone)]
struct Methods(Fan);

impl Service<http::Request<tonic::body::Body>> for Methods {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let opens = Opens(Arc::clone(&self.0));
        Box::pin(async move { Ok(tonic::server::Grpc::new(Prepared).streaming(opens, request).await) })
    }
}

/// The method.
struct Opens(Fan);

impl Service<Request<Streaming<DeltaDiscoveryRequest>>> for Opens {
    type Response = Response<Responses>;
    type Error = Status;
    type Future = Ready<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<DeltaDiscoveryRequest>>) -> Self::Future {
        let (sender, changes) = mpsc::channel(WAITING);
        self.0.lock().push(sender);
        now(Ok(Response::new(Responses { requests: request.into_inner(), changes, begun: false })))
    }
}

/// The responses of one stream.
struct Responses {
    requests: Streaming<DeltaDiscoveryRequest>,
    changes: mpsc::Receiver<Bytes>,
    begun: bool,
}

impl Stream for Responses {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while let Poll::Ready(request) = Pin::new(&mut self.requests).poll_next(context) {
            let Some(Ok(request)) = request else { return Poll::Ready(None) };
            if !std::mem::replace(&mut self.begun, true) {
                let (type_url, nonce) = (request.type_url, "00000001".to_owned());
                let empty = DeltaDiscoveryResponse { type_url, nonce, ..DeltaDiscoveryResponse::default() };
                return Poll::Ready(Some(Ok(empty.encode_to_vec().into())));
            }
        }
        Poll::Ready(ready!(self.changes.poll_recv(context)).map(Ok))
    }
}

/// Requests are decoded; responses are bytes.
struct Prepared;

impl Codec for Prepared {
    type Encode = Bytes;
    type Decode = DeltaDiscoveryRequest;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Prepared {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Prepared {
    type Item = DeltaDiscoveryRequest;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        DeltaDiscoveryRequest::decode(buffer).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
