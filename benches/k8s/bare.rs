//! The bare loop: one thread, epoll, and for each byte that comes by the last connection the same bytes to all others.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;
use std::process::ExitCode;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::support::Failure;

/// Serves `PORT WATCHERS BYTES`: takes so many connections, then one that says when to write.
pub(crate) fn serve(args: &[String]) -> Result<ExitCode, Failure> {
    let [port, watchers, bytes] = args else { return Err("role bare PORT WATCHERS BYTES".into()) };
    let (watchers, bytes): (usize, usize) = (watchers.parse()?, bytes.parse()?);
    let listener = TcpListener::bind(("127.0.0.1", port.parse::<u16>()?))?;
    let mut poll = Poll::new()?;
    let mut streams = Vec::with_capacity(watchers + 1);
    while streams.len() <= watchers {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut first = [0; 1];
        // Who only looks whether anybody listens sends nothing.
        if (&stream).read(&mut first)? == 0 {
            continue;
        }
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let interest = if streams.len() == watchers { Interest::READABLE } else { Interest::WRITABLE };
        poll.registry().register(&mut stream, Token(streams.len()), interest)?;
        streams.push(stream);
    }
    let line = vec![b'x'; bytes];
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, None)?;
        let told = events.iter().any(|event| event.token() == Token(watchers) && event.is_readable());
        if !told {
            continue;
        }
        let mut buffer = [0; 64];
        loop {
            let trigger = streams.get_mut(watchers).ok_or("the trigger is gone")?;
            match trigger.read(&mut buffer) {
                Ok(0) => return Ok(ExitCode::SUCCESS),
                Ok(changes) => {
                    for _ in 0..changes {
                        for stream in streams.iter_mut().take(watchers) {
                            // Buffers of a kernel hold many lines: none is full here.
                            stream.write_all(&line)?;
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
