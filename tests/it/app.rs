//! The application as a whole: a reload takes up what changed and nothing else, a drain delivers, a taken port
//! is told.

use std::time::Duration;

use meshbus::core::{Envelope, Outcome, Receipt, Topic};
use meshbus::transport::Transport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::case::Case;
use crate::sixth::Pipe;
use crate::suite::free_port;

const LIMIT: Duration = Duration::from_secs(20);
static TRANSPORTS: &[&dyn Transport] = &[&Pipe];

impl Case {
    async fn publish(&self, n: usize) -> Vec<Receipt> {
        let event = |at| Envelope::event(Topic::parse("out/a").unwrap(), format!("n{at}"), "/app", "test");
        self.app.bus().publish((0..n).map(event).collect()).await
    }
}

/// A server `in` on one port, and a client `out` that sends what is on `out/#` to another.
fn config(listen: u16, sends_to: u16) -> String {
    format!(
        "name: app{listen}\n\
         connectors:\n\
         \x20 in: {{pipe: {{server: {{listen: \"127.0.0.1:{listen}\"}}}}}}\n\
         \x20 out: {{pipe: {{client: {{address: \"127.0.0.1:{sends_to}\"}}}}}}\n\
         routes:\n\
         \x20 out: {{from: [{{topic: \"out/#\"}}], to: [{{connector: out}}]}}\n"
    )
}

async fn all_delivered(receipts: &[Receipt]) {
    for receipt in receipts {
        let outcome = timeout(LIMIT, receipt.delivered()).await.expect("an answer in time");
        assert_eq!(outcome, Outcome::Delivered);
    }
}

/// Asks the server over this connection; an answer shows that the connection lives.
async fn answers(stream: &mut TcpStream) {
    stream.write_all(b"\0\0\0\x01?").await.expect("a written frame");
    let length = timeout(LIMIT, stream.read_u32()).await.expect("in time").expect("an answer");
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await.expect("the rest of it");
    assert!(answer.starts_with(b"{\"rejected\""), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_swaps_only_what_changed_and_keeps_what_waits() {
    let (listen, nobody) = (free_port(), free_port());
    let case = Case::start(&config(listen, nobody), TRANSPORTS).await;
    assert_eq!(case.app.settled(LIMIT).await, Vec::<String>::new());
    let mut stranger = TcpStream::connect(("127.0.0.1", listen)).await.unwrap();
    answers(&mut stranger).await;
    let receipts = case.publish(20).await;
    assert!(receipts.iter().all(|receipt| receipt.try_delivered().is_none()), "nobody can have them yet");

    // What comes in again was here before: it is answered, and goes nowhere.
    std::fs::write(&case.file, config(listen, listen)).unwrap();
    let reload = timeout(Duration::from_secs(5), case.app.reload()).await;
    reload
        .expect("a connector whose peer is away does not hold up the reload")
        .expect("a right configuration");
    all_delivered(&receipts).await;
    answers(&mut stranger).await;
    assert!(case.app.drain(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_file_keeps_the_old_configuration() {
    let listen = free_port();
    let case = Case::start(&config(listen, listen), TRANSPORTS).await;
    assert_eq!(case.app.settled(LIMIT).await, Vec::<String>::new());
    std::fs::write(&case.file, config(listen, listen).replace("listen:", "lisen:")).unwrap();
    let errors = case.app.reload().await.expect_err("an unknown field");
    assert!(errors.iter().any(|error| error.to_string().contains("lisen")), "{errors:?}");
    all_delivered(&case.publish(5).await).await;
    assert!(case.app.drain(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_delivers_everything_that_was_taken() {
    let listen = free_port();
    let case = Case::start(&config(listen, listen), TRANSPORTS).await;
    assert_eq!(case.app.settled(LIMIT).await, Vec::<String>::new());
    // One order key: they go one by one, so that most are still waiting when the drain begins. The server that
    // takes them is on a bus of its own, which does not drain.
    let source = Case::start(&config(free_port(), listen), TRANSPORTS).await;
    let receipts = source.publish(500).await;
    assert!(source.app.drain(LIMIT).await, "not drained in time");
    for receipt in receipts {
        assert_eq!(receipt.try_delivered(), Some(Outcome::Delivered));
    }
    assert!(case.app.drain(LIMIT).await, "not drained in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_reported() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let case = Case::start(&config(port, port), TRANSPORTS).await;
    let failures = case.app.settled(LIMIT).await;
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(
        failures[0].contains("connector in") && failures[0].contains(&port.to_string()),
        "{failures:?}"
    );
    case.app.drain(Duration::ZERO).await;
}
