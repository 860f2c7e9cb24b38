//! Hostile input: each is answered or cut off, and the next request is served all the same.

use std::time::Duration;

use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::runtime::task;
use crate::transport::http::testing::{Served, read_all, serve, soon};

const HEAD: &str = "POST /v1/publish?topic=a HTTP/1.1\r\nHost: x\r\n";

async fn still_serves(served: &Served) {
    assert_eq!(served.publish("fine", "1").await.status, 202);
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("closed")
}

#[tokio::test]
async fn malformed_requests_are_refused_and_disturb_nothing() {
    let served = serve("body_timeout: 300ms").await;
    for (name, bytes, expected) in [
        ("no HTTP", "\x16\x03\x01 hello\r\n\r\n".to_owned(), "400"),
        ("chunk size", format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nZZ\r\nhello\r\n0\r\n\r\n"), "400"),
        ("two lengths", format!("{HEAD}Content-Length: 3\r\nContent-Length: 5\r\n\r\nhello"), "400"),
        ("NUL in a header", format!("{HEAD}ce-id: a\0b\r\nContent-Length: 0\r\n\r\n"), "400"),
        ("bare CR in a header", format!("{HEAD}ce-id: a\rb\r\nContent-Length: 0\r\n\r\n"), "400"),
        ("folded header", format!("{HEAD}ce-id: a\r\n b\r\nContent-Length: 0\r\n\r\n"), "400"),
        ("short body", format!("{HEAD}Content-Length: 10\r\nConnection: close\r\n\r\nhi"), "408"),
        ("coding", format!("{HEAD}Content-Encoding: br\r\nContent-Length: 2\r\n\r\nhi"), "415"),
        (
            "coded twice",
            format!("{HEAD}Content-Encoding: gzip, gzip\r\nContent-Length: 2\r\n\r\nhi"),
            "415",
        ),
        ("no gzip", format!("{HEAD}Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi"), "400"),
    ] {
        let bytes = bytes.replace("Host: x\r\n", "Host: x\r\nConnection: close\r\n");
        let answer = served.raw(bytes.as_bytes()).await;
        assert_eq!(status(&answer), expected, "{name}: {answer}");
    }
    still_serves(&served).await;
    served.end().await;
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_is_nothing() {
    let served = serve("").await;
    for bytes in ["POST /v1/pub", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        drop(stream);
    }
    still_serves(&served).await;
    assert_eq!(served.stats.received.get(), 1);
    served.end().await;
}

#[tokio::test]
async fn invalid_utf8_in_an_attribute_names_its_header() {
    let served = serve("").await;
    let mut bytes = format!("{HEAD}Connection: close\r\nce-specversion: 1.0\r\nce-id: ").into_bytes();
    bytes.extend(b"\xff\xfe\r\nContent-Length: 0\r\n\r\n");
    let answer = served.raw(&bytes).await;
    assert!(status(&answer) == "400" && answer.contains("ce-id"), "{answer}");
    served.end().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let served = serve("max_body: 1MiB").await;
    let begun = Instant::now();
    let announced = served.raw(format!("{HEAD}Content-Length: {}\r\n\r\nx", 100 << 20).as_bytes()).await;
    assert_eq!(status(&announced), "413", "{announced}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let mut endless = TcpStream::connect(served.address).await.unwrap();
    endless.write_all(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).await.unwrap();
    let chunk = [b"10000\r\n".as_slice(), &vec![b'x'; 0x10000], b"\r\n"].concat();
    let (mut read, mut write) = endless.into_split();
    let sending = task::spawn("client", async move { while write.write_all(&chunk).await.is_ok() {} });
    let mut answer = [0; 64];
    let n = soon(read.read(&mut answer)).await.unwrap();
    assert_eq!(status(&String::from_utf8_lossy(&answer[..n])), "413");
    drop(read);
    soon(sending).await.unwrap();
    assert_eq!(served.stats.oversize.get(), 2);
    still_serves(&served).await;
    served.end().await;
}

#[tokio::test]
async fn a_header_bomb_is_refused() {
    let served = serve("").await;
    let many: String = (0..100).fold(String::new(), |many, i| many + &format!("x-{i}: 1\r\n"));
    assert_eq!(status(&served.raw(format!("{HEAD}{many}\r\n").as_bytes()).await), "431");
    let long = format!("{HEAD}x: {}\r\nConnection: close\r\n\r\n", "y".repeat(20 * 1024));
    assert_eq!(status(&served.raw(long.as_bytes()).await), "431");
    let huge = format!("{HEAD}x: {}", "y".repeat(1 << 20));
    assert_eq!(status(&served.raw(huge.as_bytes()).await), "431");
    still_serves(&served).await;
    served.end().await;
}

#[tokio::test]
async fn a_client_that_is_slow_with_its_headers_or_its_body_is_let_go() {
    let served = serve("header_timeout: 100ms\nbody_timeout: 100ms").await;
    for start in ["", "P", "PRI * HTTP/2.0", "POST / HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        read_all(&mut stream).await;
    }
    let slow = served.raw(format!("{HEAD}Content-Length: 5\r\n\r\nhi").as_bytes()).await;
    assert_eq!(status(&slow), "408");
    still_serves(&served).await;
    served.end().await;
}

async fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(data).await.unwrap();
    encoder.shutdown().await.unwrap();
    encoder.into_inner()
}

async fn zstd(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZstdEncoder::new(Vec::new());
    encoder.write_all(data).await.unwrap();
    encoder.shutdown().await.unwrap();
    encoder.into_inner()
}

#[tokio::test]
async fn compressed_bodies_are_taken_and_bombs_are_not() {
    let served = serve("max_body: 64KiB").await;
    let mut follow = served.follow();
    let text: Vec<u8> = (0..2000_u32).flat_map(|i| i.to_string().into_bytes()).collect();
    let post = async |coding: &str, body: &[u8]| {
        served.call("POST", "/v1/publish?topic=a", &[("content-encoding", coding)], body).await
    };
    for (coding, body) in [("gzip", gzip(&text).await), ("ZSTD", zstd(&text).await)] {
        assert_eq!(post(coding, &body).await.status, 202);
        assert_eq!(follow.next().await.data, text);
        post(coding, &body[..body.len() / 2]).await.problem(400);
    }
    // Too large in the end, and small in the end but a bomb by its ratio.
    for zeros in [64 << 20, 60 << 10] {
        let zeros = vec![0; zeros];
        post("gzip", &gzip(&zeros).await).await.problem(413);
        post("zstd", &zstd(&zeros).await).await.problem(413);
    }
    still_serves(&served).await;
    served.end().await;
}

#[tokio::test]
async fn bodies_over_all_requests_are_bounded() {
    let served = serve("max_body: 1KiB\nmax_buffered: 1KiB\nbody_timeout: 10s").await;
    let mut holding = TcpStream::connect(served.address).await.unwrap();
    let head = format!("{HEAD}Content-Length: 1000\r\n\r\n");
    holding.write_all(head.as_bytes()).await.unwrap();
    holding.write_all(&[b'x'; 900]).await.unwrap();
    let begun = Instant::now();
    loop {
        let answer = served.call("POST", "/v1/publish?topic=a", &[], &[b'y'; 500]).await;
        if answer.status == 503 {
            assert_eq!(answer.header("retry-after"), "1");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    holding.write_all(&[b'x'; 100]).await.unwrap();
    let mut answer = [0; 12];
    soon(holding.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer[9..], b"202");
    assert_eq!(served.call("POST", "/v1/publish?topic=a", &[], &[b'y'; 500]).await.status, 202);
    served.end().await;
}
