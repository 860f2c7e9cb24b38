//! Who may connect and publish, TLS, and an older server.

use std::process::Command;

use super::*;
use crate::peers::nats_server_program;

const USERS: &str = r#"
authorization { users = [
  {user: all, password: secret},
  {user: some, password: secret, permissions: {publish: ["ok.>", "_INBOX.>"], subscribe: ["_INBOX.>", "in.>"]}},
  {user: mute, password: secret, permissions: {publish: ["ok.>"], subscribe: ["in.>"]}},
] }
"#;

fn settings(server: &Server, scratch: &Scratch, user: &str, password: &str) -> String {
    let file = scratch.path().join("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    let (url, file) = (server.url(), file.display());
    format!("urls: [\"{url}\"]\nuser: {user}\npassword: {{file: \"{file}\"}}")
}

#[tokio::test]
async fn a_wrong_password_is_denied_and_a_right_one_is_not() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, nats_server_program(), USERS).await;
    let wire = Wire::start(&settings(&server, &scratch, "all", "wrong"));
    until("denied", LIMIT, async || (wire.supervisor.status().pop()?.state == State::Denied).then_some(()))
        .await;
    std::fs::write(scratch.path().join("password"), "secret").unwrap();
    wire.supervisor.retry_denied();
    wire.ready().await;
    wire.stop().await;
}

#[tokio::test]
async fn a_publish_that_is_not_permitted_is_rejected_and_the_others_of_its_batch_are_not() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, nats_server_program(), USERS).await;
    let wire = Wire::connected(&settings(&server, &scratch, "some", "secret")).await;
    for round in 0..3 {
        let batch = [event("ok/a", round), event("no/a", round), event("ok/b", round)];
        let outcomes = wire.deliver(batch, "{}").await;
        assert_eq!((&outcomes[0], &outcomes[2]), (&Outcome::Delivered, &Outcome::Delivered));
        let Outcome::Rejected(reason) = &outcomes[1] else { panic!("{outcomes:?}") };
        assert!(reason.contains("Permissions Violation"), "{reason}");
    }
    wire.stop().await;
}

#[tokio::test]
async fn a_user_without_an_inbox_can_publish_all_the_same() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, nats_server_program(), USERS).await;
    let wire = Wire::connected(&settings(&server, &scratch, "mute", "secret")).await;
    assert_eq!(wire.deliver([event("ok/a", 1)], "{}").await, [Outcome::Delivered]);
    wire.stop().await;
}

#[tokio::test]
async fn a_subscription_that_is_not_permitted_is_denied() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, nats_server_program(), USERS).await;
    let settings = settings(&server, &scratch, "some", "secret");
    let wire = Wire::start(&format!("{settings}\nsubscribe: [{{subject: \"secret.>\"}}]"));
    let status = until("denied", LIMIT, async || {
        wire.supervisor.status().pop().filter(|status| status.state == State::Denied)
    })
    .await;
    assert!(status.last_error.unwrap().contains("secret.>"));
    wire.stop().await;
}

#[tokio::test]
async fn tls_is_trusted_by_the_given_authority_only() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let scratch = Scratch::new();
    let (cert, key) = (scratch.path().join("cert.pem"), scratch.path().join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let tls = format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}", cert.display(), key.display());
    let server = Server::start(&scratch, nats_server_program(), &tls).await;
    let url = server.url().replace("nats://", "tls://");
    let trusting = format!("urls: [\"{url}\"]\ntls: {{ca: \"{}\"}}", cert.display());
    let wire = Wire::connected(&trusting).await;
    assert_eq!(wire.deliver([event("a", 1)], "{}").await, [Outcome::Delivered]);
    wire.stop().await;
    let wire = Wire::start(&format!("urls: [\"{url}\"]"));
    let text = until("an error", LIMIT, async || wire.supervisor.status().pop()?.last_error).await;
    assert!(text.contains("certificate") || text.contains("TLS"), "{text}");
    wire.stop().await;
}

/// Debian's nats-server 2.9: no reasons with `+TERM`, shorter subjects of acknowledgements.
#[tokio::test]
async fn an_older_server_serves_streams_and_consumers_too() {
    let program =
        std::env::var_os("MESHBUS_NATS_SERVER_OLD").unwrap_or_else(|| "/usr/sbin/nats-server".into());
    assert!(Path::new(&program).exists(), "install nats-server (Debian) or set MESHBUS_NATS_SERVER_OLD");
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &program, "").await;
    let settings = format!(
        "urls: [\"{}\"]\njetstream: {{stream: S, create: {{subjects: [\"s.>\"]}}}}\n\
         subscribe: [{{subject: \"s.>\", jetstream: {{durable: c}}}}]",
        server.url()
    );
    let wire = Wire::connected(&settings).await;
    let mut events = wire.subscribe("s/#");
    let sent = full("s/x", b"x");
    assert_eq!(wire.deliver([sent.clone()], "{}").await, [Outcome::Delivered]);
    assert_eq!(events.next().await, sent);
    let client = raw(&server.url()).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("content-type", "application/cloudevents+json");
    client.publish_with_headers("s.bad", headers, "{".into()).await.unwrap();
    let context = jetstream::new(client);
    until("all is acknowledged", LIMIT, async || {
        let info = consumer_info(&context, "S", "c").await;
        (info.ack_floor.stream_sequence == 2).then_some(())
    })
    .await;
    wire.stop().await;
}
