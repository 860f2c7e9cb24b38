//! One stream: sends what a session has to say, and gives it what comes.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep_until};

use super::calls::Call;
use super::session::Session;
use crate::core::{Error, ErrorKind};

/// Requests that wait for the server; with more of them, what it sends is not read.
const WAITING_MAX: usize = 64;
/// How long a server may leave requests unread.
const STALL: Duration = Duration::from_secs(30);

/// Runs a session on a stream until that ends, and says how. Dropped at any time it leaves no response half answered that
/// the server would not send again.
pub(super) async fn run(session: &mut Session<'_>, call: Call) -> Error {
    let Call { peer, requests, mut responses } = call;
    session.begin().await;
    let mut sent = Instant::now();
    loop {
        let (waiting, next) = (session.outgoing().len(), session.outgoing().front().cloned());
        if waiting == 0 {
            sent = Instant::now();
        }
        let stalls = (waiting > 0).then_some(sent + STALL);
        let due = session.next_time().into_iter().chain(stalls).min();
        tokio::select! {
            biased;
            () = send(&requests, next), if waiting > 0 => {
                session.outgoing().pop_front();
                sent = Instant::now();
            }
            () = reached(due) => {
                if let Err(error) = session.on_time().await {
                    return error;
                }
                if waiting > 0 && sent.elapsed() >= STALL {
                    let reason = format!("requests unread for {} s", STALL.as_secs());
                    return Error::new(ErrorKind::Disconnected, peer).because(reason);
                }
            }
            message = responses.next(), if waiting < WAITING_MAX => {
                let taken = match message {
                    Ok(message) => session.on_message(message).await,
                    Err(error) => {
                        session.on_end(responses.status());
                        return error;
                    }
                };
                if let Err(error) = taken {
                    return Error::new(ErrorKind::Protocol, peer).because(error);
                }
            }
        }
    }
}

/// Sends a request. Never done where the stream has ended, which its responses tell.
async fn send(requests: &Sender<Bytes>, request: Option<Bytes>) {
    if let (Some(request), Ok(permit)) = (request, requests.reserve().await) {
        permit.send(request);
        return;
    }
    std::future::pending::<()>().await;
}

async fn reached(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
