//! TLS: rustls with one crypto provider, its settings read from PEM files.
//!
//! Configurations are built anew at each reload, which is how a rotated certificate is taken up.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::parting::part;

/// How long a client has for its handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a server shows and asks for: `tls: {cert: server.pem, key: server.key}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// PEM file with the certificate, then its intermediates.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
    /// PEM file with the authorities of client certificates; with it, a client must show one.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// What a client trusts and shows: `tls: {ca: ca.pem, cert: client.pem, key: client.key}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// PEM file with the authorities to trust instead of the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// PEM file with the client certificate, then its intermediates; goes with `key`.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// PEM file with the private key; goes with `cert`.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

/// A setting that cannot be used: which one, which file, why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}{}", .file.as_ref().map(|file| format!(" ({})", file.display())).unwrap_or_default())]
pub struct TlsError {
    /// The setting: `cert`, `key`, `ca`, `client_ca`.
    pub field: &'static str,
    /// The file it names, if it names one.
    pub file: Option<PathBuf>,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl TlsError {
    fn new(field: &'static str, file: Option<&Path>, reason: impl ToString) -> Self {
        Self { field, file: file.map(Path::to_owned), reason: reason.to_string() }
    }
}

/// Makes ring the crypto provider of the process, for client crates that ask for the process's. Repeating it is
/// harmless.
pub fn install_provider() {
    // It fails only when one is installed: then there is one, as wanted.
    drop(ring::default_provider().install_default());
}

/// The settings of a server; `alpn` names its protocols, the preferred first (`h2`, `http/1.1`).
///
/// # Errors
/// Names the setting and the file that cannot be used.
pub fn server_config(tls: &ServerTls, alpn: &[&str]) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::new("tls", None, error))?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let roots = Arc::new(roots("client_ca", file)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|error| TlsError::new("client_ca", Some(file), error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(certificates("cert", &tls.cert)?, private_key(&tls.key)?)
        .map_err(|error| TlsError::new("key", Some(&tls.key), explain_pair(&error, &tls.cert)))?;
    config.alpn_protocols = protocols(alpn);
    Ok(Arc::new(config))
}

/// The settings of a client; `alpn` as for [`server_config`].
///
/// # Errors
/// As [`server_config`].
pub fn client_config(tls: &ClientTls, alpn: &[&str]) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match &tls.ca {
        Some(file) => roots("ca", file)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::new("tls", None, error))?
        .with_root_certificates(roots);
    let mut config = match (&tls.cert, &tls.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(certificates("cert", cert)?, private_key(key)?)
            .map_err(|error| TlsError::new("key", Some(key), explain_pair(&error, cert)))?,
        (Some(_), None) => return Err(TlsError::new("key", None, "is missing: it goes with cert")),
        (None, Some(_)) => return Err(TlsError::new("cert", None, "is missing: it goes with key")),
    };
    config.alpn_protocols = protocols(alpn);
    Ok(Arc::new(config))
}

/// Does the server's part of the handshake, within [`HANDSHAKE_TIMEOUT`]. Who is not accepted is told why.
///
/// # Errors
/// The client did not finish in time, spoke no TLS, or was not accepted.
pub async fn accept(config: Arc<ServerConfig>, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let accepted = TlsAcceptor::from(config).accept(stream).into_fallible();
    match timeout(HANDSHAKE_TIMEOUT, accepted).await {
        Ok(Ok(accepted)) => Ok(accepted),
        Ok(Err((error, stream))) => {
            // It would lose the alert with the reason: to it the handshake may be over, and its request under way.
            part(stream).await;
            Err(error)
        }
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time")),
    }
}

fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().map_or_else(|| Arc::new(ring::default_provider()), Arc::clone)
}

fn protocols(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.as_bytes().to_vec()).collect()
}

fn explain_pair(error: &rustls::Error, cert: &Path) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("is not the key of the certificate in {}", cert.display())
        }
        other => format!("cannot be used with the certificate in {}: {other}", cert.display()),
    }
}

fn certificates(field: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |error| TlsError::new(field, Some(file), explain_pem(error));
    let certificates = CertificateDer::pem_file_iter(file).map_err(failed)?.collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(failed)?;
    if certificates.is_empty() {
        return Err(TlsError::new(
            field,
            Some(file),
            "holds no PEM certificate (-----BEGIN CERTIFICATE-----)",
        ));
    }
    Ok(certificates)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| TlsError::new("key", Some(file), explain_pem(error)))
}

fn explain_pem(error: rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => format!("cannot be read: {error}"),
        rustls::pki_types::pem::Error::NoItemsFound => {
            "holds no PEM private key (-----BEGIN PRIVATE KEY-----, unencrypted)".to_owned()
        }
        other => format!("is no valid PEM: {other}"),
    }
}

fn roots(field: &'static str, file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(field, file)? {
        roots.add(certificate).map_err(|error| TlsError::new(field, Some(file), error))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems keep odd certificates in their stores; those that cannot be read are trusted by nobody.
    roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() {
        let reason = loaded.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(TlsError::new(
            "ca",
            None,
            format!("this system trusts no authority{reason}; install ca-certificates, or name a file"),
        ));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::runtime::task;

    fn file(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
    }

    fn server(name: &str, client_ca: Option<&str>) -> ServerTls {
        ServerTls {
            cert: file(&format!("{name}.pem")),
            key: file(&format!("{name}.key")),
            client_ca: client_ca.map(file),
        }
    }

    fn client(ca: &str, cert: Option<&str>) -> ClientTls {
        ClientTls {
            ca: Some(file(ca)),
            cert: cert.map(|name| file(&format!("{name}.pem"))),
            key: cert.map(|name| file(&format!("{name}.key"))),
        }
    }

    /// One byte from a server to a client; the protocol they agreed on.
    async fn talk(server: &ServerTls, client: &ClientTls) -> io::Result<Option<Vec<u8>>> {
        install_provider();
        install_provider();
        let accepting = server_config(server, &["h2", "http/1.1"]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let serving = task::spawn("server", async move {
            let mut stream = accept(accepting, listener.accept().await?.0).await?;
            stream.write_u8(7).await?;
            stream.shutdown().await
        });
        let connector = TlsConnector::from(client_config(client, &["http/1.1"]).unwrap());
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, TcpStream::connect(address).await?).await?;
        assert_eq!(stream.read_u8().await?, 7);
        serving.await.unwrap()?;
        Ok(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
    }

    #[tokio::test]
    async fn client_and_server_agree_on_a_protocol() {
        let protocol = talk(&server("server", None), &client("ca.pem", None)).await.unwrap();
        assert_eq!(protocol.unwrap(), b"http/1.1");
    }

    #[tokio::test]
    async fn a_client_refuses_a_server_its_authority_did_not_sign() {
        let error = talk(&server("other", None), &client("ca.pem", None)).await.unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
    }

    #[tokio::test]
    async fn a_server_with_a_client_authority_refuses_clients_without_certificate() {
        let server = server("server", Some("ca.pem"));
        assert!(talk(&server, &client("ca.pem", Some("client"))).await.is_ok());
        assert!(talk(&server, &client("ca.pem", Some("other"))).await.is_err());
        assert!(talk(&server, &client("ca.pem", None)).await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_is_refused_while_it_sends_reads_why() {
        install_provider();
        let accepting = server_config(&server("server", Some("ca.pem")), &[]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = task::spawn("server", async move {
            let (stream, _) = listener.accept().await?;
            accept(accepting, stream).await
        });
        let connector = TlsConnector::from(client_config(&client("ca.pem", None), &[]).unwrap());
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        // On one thread all of it is on its way before the server reads on.
        stream.write_all(&vec![0; 64 << 10]).await.unwrap();
        stream.flush().await.unwrap();
        let error = stream.read_u8().await.unwrap_err().to_string();
        assert!(error.contains("CertificateRequired"), "{error}");
        drop(stream);
        assert!(serving.await.unwrap().is_err());
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_file() {
        let reason = |tls: &ServerTls| server_config(tls, &[]).unwrap_err();
        let missing = reason(&ServerTls { cert: file("none.pem"), ..server("server", None) });
        assert_eq!((missing.field, missing.file), ("cert", Some(file("none.pem"))));
        assert!(missing.reason.contains("cannot be read: No such file"), "{}", missing.reason);
        let mixed = reason(&ServerTls { key: file("client.key"), ..server("server", None) });
        assert!(mixed.to_string().contains("key: is not the key of the certificate in"), "{mixed}");
        let swapped =
            reason(&ServerTls { cert: file("server.key"), key: file("server.pem"), client_ca: None });
        assert!(swapped.reason.contains("holds no PEM certificate"), "{swapped}");
        let no_key = reason(&ServerTls { key: file("server.pem"), ..server("server", None) });
        assert!(no_key.reason.contains("holds no PEM private key"), "{no_key}");
        let half =
            client_config(&ClientTls { key: None, ..client("ca.pem", Some("client")) }, &[]).unwrap_err();
        assert_eq!(half.to_string(), "key: is missing: it goes with cert");
    }
}
