//! Transports that need no peer against the conformance suite: HTTP, and one from outside the crate.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use meshbus::transport::Transport;
use meshbus::transport::http::Http;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::sixth::Pipe;
use crate::suite::{Relay, Subject, Traits, Wire, conforms, fails, free_port};

#[tokio::test(flavor = "multi_thread")]
async fn a_transport_from_outside_the_crate_conforms() {
    conforms(&[&OverPipe]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_conforms() {
    conforms(&[&OverHttp]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_sees_a_transport_that_acknowledges_too_early() {
    let said = fails(&OverForgetful, "acknowledges_only_after_delivery").await;
    assert!(
        said.as_deref().is_some_and(|said| said.contains("before the receiver's sink had it")),
        "{said:?}"
    );
    let said = fails(&OverForgetful, "back_pressure_bounds_memory").await;
    assert!(said.as_deref().is_some_and(|said| said.contains("was not held up")), "{said:?}");
    let said = fails(&OverForgetful, "refuses_oversize_by_name").await;
    assert!(said.as_deref().is_some_and(|said| said.contains("were not refused")), "{said:?}");
}

struct OverPipe;

impl Subject for OverPipe {
    fn name(&self) -> &'static str {
        "pipe"
    }

    fn transport(&self) -> &'static dyn Transport {
        &Pipe
    }

    fn traits(&self) -> Traits {
        Traits { end_to_end: true, redelivers: true, exact_json: false }
    }

    fn wire<'a>(&'a self, _id: &'a str) -> BoxFuture<'a, Wire> {
        async {
            let port = free_port();
            let relay = Relay::before(port).await;
            Wire {
                egress: format!("{{pipe: {{client: {{address: \"127.0.0.1:{}\"}}}}}}", relay.port),
                to: String::new(),
                ingress: format!(
                    "{{pipe: {{server: {{listen: \"127.0.0.1:{port}\", max_frame: 64KiB}}}}}}"
                ),
                relay,
                oversize: (100_000, "max_frame"),
                send_malformed: Box::new(move || send(port, b"\0\0\0\x05{\"id\"".to_vec()).boxed()),
            }
        }
        .boxed()
    }
}

/// The pipe with something between that answers for the server, before it.
struct OverForgetful;

impl Subject for OverForgetful {
    fn name(&self) -> &'static str {
        "forgetful"
    }

    fn transport(&self) -> &'static dyn Transport {
        &Pipe
    }

    fn traits(&self) -> Traits {
        OverPipe.traits()
    }

    fn wire<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Wire> {
        async move {
            let mut wire = OverPipe.wire(id).await;
            let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = socket.local_addr().expect("an address").port();
            wire.egress = format!("{{pipe: {{client: {{address: \"127.0.0.1:{port}\"}}}}}}");
            drop(tokio::spawn(forget(socket, wire.relay.port)));
            wire
        }
        .boxed()
    }
}

/// Passes one client's events on, throws the answers away, and says at once that each was delivered.
async fn forget(socket: TcpListener, port: u16) {
    let (client, _) = socket.accept().await.expect("a client");
    let (mut from_client, mut to_client) = client.into_split();
    let server = TcpStream::connect(("127.0.0.1", port)).await.expect("the server");
    let (mut from_server, mut to_server) = server.into_split();
    drop(tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut tokio::io::sink()).await }));
    let (queue, mut queued) = tokio::sync::mpsc::channel::<Vec<u8>>(4096);
    drop(tokio::spawn(async move {
        while let Some(frame) = queued.recv().await {
            if to_server.write_all(&frame).await.is_err() {
                return;
            }
        }
    }));
    while let Ok(length) = from_client.read_u32().await {
        let mut frame = length.to_be_bytes().to_vec();
        frame.resize(4 + length as usize, 0);
        if from_client.read_exact(&mut frame[4..]).await.is_err() || queue.try_send(frame).is_err() {
            return;
        }
        if to_client.write_all(b"\0\0\0\x0b\"delivered\"").await.is_err() {
            return;
        }
    }
}

struct OverHttp;

impl Subject for OverHttp {
    fn name(&self) -> &'static str {
        "http"
    }

    fn transport(&self) -> &'static dyn Transport {
        &Http
    }

    fn traits(&self) -> Traits {
        Traits { end_to_end: true, redelivers: true, exact_json: true }
    }

    fn wire<'a>(&'a self, _id: &'a str) -> BoxFuture<'a, Wire> {
        async {
            let port = free_port();
            let relay = Relay::before(port).await;
            let malformed = "POST /v1/publish HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/cloudevents+json\r\n\
                             content-length: 5\r\nconnection: close\r\n\r\n{\"id\"";
            Wire {
                egress: format!("{{http: {{client: {{url: \"http://127.0.0.1:{}/v1/publish\"}}}}}}", relay.port),
                to: String::new(),
                ingress: format!("{{http: {{server: {{listen: \"127.0.0.1:{port}\", max_body: 64KiB}}}}}}"),
                relay,
                oversize: (100_000, "max_body"),
                send_malformed: Box::new(move || send(port, malformed.into()).boxed()),
            }
        }
        .boxed()
    }
}

/// Sends bytes as a stranger would, and waits for the start of an answer.
async fn send(port: u16, bytes: Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the server");
    stream.write_all(&bytes).await.expect("a written message");
    assert!(stream.read(&mut [0; 64]).await.expect("an answer") > 0, "the server answered nothing");
}
