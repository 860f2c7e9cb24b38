//! A real API server: the one in the folder that `KUBEBUILDER_ASSETS` names, `kube-apiserver` with `etcd` beside it, as
//! controller-runtime's envtest has them. Where it names none, a test says by name that it did not run there; its driver
//! is proven on the hostile server all the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use crate::process::{Process, Scratch, free_port, until};

/// Also on a machine that does other things.
const START_LIMIT: Duration = Duration::from_mins(1);
/// The one user's token.
pub(super) const TOKEN: &str = "interop";

/// A real API server and its etcd, for one test.
pub(super) struct ApiServer {
    port: u16,
    _etcd: Process,
    _server: Process,
}

impl ApiServer {
    /// `None` where there is none to start, which it says for `test`.
    pub(super) async fn start(scratch: &Scratch, test: &str) -> Option<Self> {
        let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) else {
            println!(
                "not run on a real API server, for KUBEBUILDER_ASSETS names no folder with kube-apiserver and etcd: {test}"
            );
            return None;
        };
        Some(Self::start_of(scratch, &assets).await)
    }

    async fn start_of(scratch: &Scratch, assets: &Path) -> Self {
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

    pub(super) fn kubeconfig(&self) -> String {
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

/// A client of an API server.
pub(super) async fn client(kubeconfig: &str) -> kube::Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a configuration");
    kube::Client::try_from(config).expect("a client")
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
