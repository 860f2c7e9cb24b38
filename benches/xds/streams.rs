//! Many streams of the aggregated service on one thread and one epoll, which answer each response as clients do.

use std::time::Duration;

use bytes::Bytes;
use meshbus_proto::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use prost::Message as _;
use tokio::time::Instant;

use super::connection::Connection;
use super::support::Failure;

/// The method that is called.
const PATH: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// How long a response may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Streams, so many on each connection.
pub(crate) struct Streams {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    connections: Vec<Connection>,
    each: usize,
    /// Time spent on decoding responses.
    pub(crate) decoding: Duration,
}

impl Streams {
    /// Connects, and begins the calls.
    pub(crate) fn open(port: u16, connections: usize, each: usize) -> Result<Self, Failure> {
        let (poll, events) = (Poll::new()?, Events::with_capacity(1024));
        let mut all = Vec::with_capacity(connections);
        for number in 0..connections {
            let stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut socket = TcpStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut socket, Token(number), interest)?;
            let mut connection = Connection::new(socket);
            for _ in 0..each {
                connection.call(PATH)?;
            }
            all.push(connection);
        }
        let (buffer, decoding) = (vec![0; 256 << 10], Duration::ZERO);
        Ok(Self { poll, events, buffer, connections: all, each, decoding })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.connections.len() * self.each
    }

    /// Bytes read and written.
    pub(crate) fn bytes(&self) -> u64 {
        self.connections.iter().map(|connection| connection.bytes).sum()
    }

    /// Sends the same request on all of them.
    pub(crate) fn ask(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Failure> {
        let message = request.encode_to_vec();
        for connection in &mut self.connections {
            for call in 0..self.each {
                connection.send(call, &message)?;
            }
            connection.flush()?;
        }
        Ok(())
    }

    /// Waits until each stream has had a response of which `whole` says that it is the last one to wait for.
    pub(crate) fn each(
        &mut self,
        mut whole: impl FnMut(usize, DeltaDiscoveryResponse) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let (mut done, deadline) = (vec![false; self.len()], Instant::now() + PATIENCE);
        let mut left = done.len();
        while left > 0 {
            if Instant::now() > deadline {
                return Err(format!("{left} of {} streams wait in vain", done.len()).into());
            }
            self.poll.poll(&mut self.events, Some(Duration::from_secs(1)))?;
            for event in &self.events {
                let number = event.token().0;
                let Some(connection) = self.connections.get_mut(number) else { continue };
                connection.flush()?;
                let (each, decoding) = (self.each, &mut self.decoding);
                connection.receive(&mut self.buffer, &mut |call, message| {
                    let began = Instant::now();
                    let response = DeltaDiscoveryResponse::decode(Bytes::copy_from_slice(message))?;
                    *decoding += began.elapsed();
                    let answer = answer(&response).encode_to_vec();
                    let stream = number * each + call;
                    if let Some(done) = done.get_mut(stream).filter(|done| !**done)
                        && whole(stream, response)?
                    {
                        *done = true;
                        left -= 1;
                    }
                    Ok(Some(answer))
                })?;
            }
        }
        Ok(())
    }
}

/// The first request of a stream that follows all of a type; with a position it begins there, else with all there is.
pub(crate) fn follow(type_url: &str, position: Option<&str>) -> DeltaDiscoveryRequest {
    let known = position.map(|position| ("*".to_owned(), position.to_owned()));
    DeltaDiscoveryRequest {
        node: Some(Node { id: "bench".into(), cluster: "bench".into(), ..Node::default() }),
        type_url: type_url.to_owned(),
        resource_names_subscribe: vec!["*".to_owned()],
        initial_resource_versions: known.into_iter().collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

/// What a client says to a response that it takes.
fn answer(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..DeltaDiscoveryRequest::default()
    }
}
