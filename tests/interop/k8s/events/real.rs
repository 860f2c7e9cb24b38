//! The same promise, driven through the API alone, so that it can be held on a real API server, too: the one in the
//! folder that `KUBEBUILDER_ASSETS` names, `kube-apiserver` with `etcd` beside it, as controller-runtime's envtest
//! has them. Where it names none, the test says by name that it did not run there; the driver and the ledger are
//! proven on the hostile server all the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use super::occurrences::Happened;
use super::{config, settle};
use crate::bus::Bus;
use crate::hostile::{Hostile, Options, event_name};
use crate::peers::NatsServer;
use crate::process::{Process, Scratch, free_port, until};

/// Created and repeated, half each.
const OCCURRENCES: u64 = 1_000;
/// Also on a machine that does other things.
const START_LIMIT: Duration = Duration::from_mins(1);
/// The one user's token.
const TOKEN: &str = "interop";

#[tokio::test(flavor = "multi_thread")]
async fn driven_through_the_api_each_change_is_told_as_it_happened() {
    let options = Options { token: Some(TOKEN.to_owned()), ..Options::default() };
    let hostile = Hostile::start(7, options).await;
    carry_out(&Scratch::new(), &hostile.kubeconfig()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_api_server_sees_the_same() {
    let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) else {
        println!(
            "not run on a real API server, for KUBEBUILDER_ASSETS names no folder with kube-apiserver and etcd: \
             k8s::events::real::a_real_api_server_sees_the_same"
        );
        return;
    };
    let scratch = Scratch::new();
    let server = ApiServer::start(&scratch, &assets).await;
    carry_out(&scratch, &server.kubeconfig()).await;
}

/// Creates Events and repeats them while the bus that watches them is killed.
async fn carry_out(scratch: &Scratch, kubeconfig: &str) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let limit = Duration::from_mins(1);
    let nats = NatsServer::start(scratch).await;
    let _stream = nats.stream("LEDGER", &["events.>"], limit * 4).await;
    let client = client(kubeconfig).await;
    // What the server itself says is none of the ledger's.
    let config = config(scratch, kubeconfig, &nats, 100, false)
        .replace("{type: core/v1/Event}", "{type: core/v1/Event, field_selector: \"reason=Interop\"}");
    let mut bus = Bus::start(scratch, &config).await;
    let mut history: Vec<Happened> = Vec::new();
    for number in 0..OCCURRENCES / 2 {
        history.push(emit(&client, number).await);
        history.push(repeat(&client, number / 2).await);
        if number % 100 == 50 {
            bus.kill();
        }
        if number % 100 == 60 {
            bus.restart_live().await;
        }
    }
    history.sort_by_key(|change| change.version);
    let report = settle(&nats, &history, limit).await;
    println!("{report}");
    report.assert_each();
}

async fn client(kubeconfig: &str) -> kube::Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a configuration");
    kube::Client::try_from(config).expect("a client")
}

async fn emit(client: &kube::Client, number: u64) -> Happened {
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": event_name(number), "namespace": "default"},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "p"},
        "reason": "Interop", "message": "numbered", "type": "Normal", "source": {"component": "interop"}, "count": 1,
    });
    write(client, Method::POST, "/api/v1/namespaces/default/events", "application/json", &event).await
}

/// Counts one more. Only this test writes, so what it read is what there is.
async fn repeat(client: &kube::Client, number: u64) -> Happened {
    let path = format!("/api/v1/namespaces/default/events/{}", event_name(number));
    let request = Request::get(&path).body(Vec::new()).expect("a request");
    let event: Value = client.request(request).await.expect("an Event");
    let count = event["count"].as_u64().expect("a count") + 1;
    write(client, Method::PATCH, &path, "application/merge-patch+json", &json!({ "count": count })).await
}

async fn write(
    client: &kube::Client,
    method: Method,
    path: &str,
    media_type: &str,
    body: &Value,
) -> Happened {
    let request = Request::builder().method(method).uri(path).header("content-type", media_type);
    let request = request.body(body.to_string().into_bytes()).expect("a request");
    let event: Value = client.request(request).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    let text = |name: &str| event["metadata"][name].as_str().unwrap_or_default();
    Happened {
        uid: text("uid").to_owned(),
        version: text("resourceVersion").parse().expect("a version that is a number"),
        count: event["count"].as_u64().expect("a count") as u32,
    }
}

/// A real API server and its etcd, for one test.
struct ApiServer {
    port: u16,
    _etcd: Process,
    _server: Process,
}

impl ApiServer {
    async fn start(scratch: &Scratch, assets: &Path) -> Self {
        let (client, peer, port) = (free_port(), free_port(), free_port());
        let mut etcd = program(scratch, assets, "etcd", etcd_arguments(&scratch.dir("etcd"), client, peer));
        etcd.start();
        answers("etcd", &mut etcd, &format!("http://127.0.0.1:{client}/health")).await;
        let tokens = scratch.path().join("tokens.csv");
        std::fs::write(&tokens, format!("{TOKEN},interop,interop,\"system:masters\"\n")).expect("a file");
        let arguments = server_arguments(&scratch.dir("apiserver"), &tokens, client, port);
        let mut server = program(scratch, assets, "kube-apiserver", arguments);
        server.start();
        let this = Self { port, _etcd: etcd, _server: server };
        let client = self::client(&this.kubeconfig()).await;
        until("the API server has its namespaces", START_LIMIT, async || {
            for namespace in ["default", "kube-system"] {
                let request = Request::get(format!("/api/v1/namespaces/{namespace}")).body(Vec::new());
                client.request::<Value>(request.expect("a request")).await.ok()?;
            }
            Some(())
        })
        .await;
        this
    }

    fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: real\n\
             clusters: [{{name: real, cluster: {{server: \"https://127.0.0.1:{}\", certificate-authority: \"{}\"}}}}]\n\
             users: [{{name: interop, user: {{token: {TOKEN}}}}}]\n\
             contexts: [{{name: real, context: {{cluster: real, user: interop}}}}]\n",
            self.port,
            fixture("ca.pem").display()
        )
    }
}

fn program(scratch: &Scratch, assets: &Path, name: &str, arguments: Vec<String>) -> Process {
    let program = assets.join(name);
    assert!(program.is_file(), "KUBEBUILDER_ASSETS has no {}", program.display());
    arguments.into_iter().fold(Process::new(scratch, name, program), Process::arg)
}

fn etcd_arguments(data: &Path, client: u16, peer: u16) -> Vec<String> {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    vec![
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
    ]
}

fn server_arguments(certificates: &Path, tokens: &Path, etcd: u16, port: u16) -> Vec<String> {
    let (certificate, key) = (fixture("server.pem"), fixture("server.key"));
    vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", certificates.display()),
        format!("--tls-cert-file={}", certificate.display()),
        format!("--tls-private-key-file={}", key.display()),
        format!("--token-auth-file={}", tokens.display()),
        "--authorization-mode=AlwaysAllow".to_owned(),
        // There is no controller that would make the account a Pod is admitted with.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        format!("--service-account-issuer=https://127.0.0.1:{port}/"),
        // Of elliptic curves only the older form of a private key would do here; a certificate always does.
        format!("--service-account-key-file={}", certificate.display()),
        format!("--service-account-signing-key-file={}", key.display()),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
    ]
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

/// Waits until a program answers a GET with success.
async fn answers(name: &str, process: &mut Process, url: &str) {
    let http = crate::bus::http_client();
    until(&format!("{name} answers at {url}"), START_LIMIT, async || {
        if let Some(why) = process.ended() {
            panic!("{why}");
        }
        let response = http.get(url.parse().expect("a URL")).await.ok()?;
        response.status().is_success().then_some(())
    })
    .await;
}
