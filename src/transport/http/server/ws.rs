//! Subscriptions over WebSocket ([CloudEvents WebSocket binding]): each message is one JSON CloudEvent.
//!
//! [CloudEvents WebSocket binding]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/websockets-protocol-binding.md

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use tokio::time::timeout;
use tracing::debug;

use super::Shared;
use super::feed::{Feed, Line, Told};
use crate::runtime::connection::STALL;
use crate::runtime::shutdown::Shutdown;

/// The subprotocol of the binding for JSON.
const SUBPROTOCOL: &str = "cloudevents.json";
/// Longest message taken from a subscriber, who has nothing to say.
const INCOMING_MAX: usize = 4096;

/// Goes on as a WebSocket.
pub(super) fn upgrade(upgrade: WebSocketUpgrade, feed: Feed, shared: &Shared) -> Response {
    let shutdown = shared.shutdown.clone();
    upgrade
        .protocols([SUBPROTOCOL])
        .max_message_size(INCOMING_MAX)
        .max_frame_size(INCOMING_MAX)
        .on_upgrade(move |socket| async move { converse(socket, feed, shutdown).await })
}

async fn converse(mut socket: WebSocket, mut feed: Feed, shutdown: Shutdown) {
    loop {
        tokio::select! {
            told = feed.next() => {
                let last = told.is_none();
                let sending = timeout(STALL, send(&mut socket, told));
                let sent = tokio::select! {
                    sent = sending => sent,
                    () = shutdown.end() => return,
                };
                match sent {
                    Ok(Ok(())) if !last => {}
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => return debug!(%error, "subscriber left"),
                    Err(_) => return debug!("subscriber stopped reading"),
                }
            }
            // Pings and the closing handshake are answered while reading.
            received = socket.recv() => match received {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
        }
    }
}

async fn send(socket: &mut WebSocket, told: Option<Told>) -> Result<(), axum::Error> {
    match told {
        None => {
            let reason = Utf8Bytes::from_static("resume with from= the last mbseq");
            socket.send(Message::Close(Some(CloseFrame { code: close_code::AWAY, reason }))).await
        }
        Some(Told::Quiet) => socket.send(Message::Ping(bytes::Bytes::new())).await,
        Some(Told::Lines(lines)) => {
            for line in lines {
                if let Some(message) = message(line) {
                    socket.send(message).await?;
                }
            }
            Ok(())
        }
    }
}

fn message(line: Line) -> Option<Message> {
    // What we encoded is UTF-8.
    Utf8Bytes::try_from(line.json).ok().map(Message::Text)
}
