//! How a connection is left whose client may still send: closed with something unread it would be reset, and the client
//! would lose what it was told last.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How long a client has to read what it is told last, and how much of what it sends is read meanwhile.
const TIMEOUT: Duration = Duration::from_secs(1);
const BYTES: usize = 1 << 20;

/// Says that no more comes, and reads what the client sends until it has gone, within bounds.
pub(crate) async fn part<T: AsyncRead + AsyncWrite + Unpin>(io: T) {
    let _elapsed = timeout(TIMEOUT, until_gone(io)).await;
}

async fn until_gone<T: AsyncRead + AsyncWrite + Unpin>(mut io: T) {
    let mut bytes = [0; 4096];
    let mut left = BYTES;
    if io.shutdown().await.is_ok() {
        while let Ok(read @ 1..) = io.read(&mut bytes).await
            && read < left
        {
            left -= read;
        }
    }
}
