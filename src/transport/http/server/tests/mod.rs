//! Tests of the server, over loopback.

mod hostile;
mod publish;
mod push;
mod state;
mod subscribe;
