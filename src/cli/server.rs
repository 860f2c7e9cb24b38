//! Which server a verb talks to, and how: `-s URL`, whose scheme picks the transport.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::Failure;
use super::input::pair;
use super::peer::Remote;
use crate::config::Section;
use crate::transport::{TRANSPORTS, Transport};

/// The variable that holds a token, where no file is named.
pub(super) const TOKEN: &str = "MESHBUS_TOKEN";

/// Where to connect.
#[derive(Args, Clone, Debug)]
pub(super) struct Server {
    /// Server; the scheme picks the protocol: http, https, nats, tls, mqtt, mqtts, k8s, k8s+https;
    /// k8s:/// is the cluster of your kubeconfig, `k8s:///?context=NAME` another, k8s://HOST:PORT/scopes/SCOPE a bus's
    #[arg(
        short = 's',
        long = "server",
        value_name = "URL",
        env = "MESHBUS_SERVER",
        default_value = "http://127.0.0.1:8080"
    )]
    url: String,
    /// File with the token to show (http, nats, k8s by address); default: the variable `MESHBUS_TOKEN`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Setting of the client as in a configuration file, in YAML: `--with version=3.1.1` (nats, mqtt, k8s)
    #[arg(long, value_name = "SETTING=VALUE", value_parser = pair)]
    with: Vec<(String, String)>,
}

/// A server by the way it is talked to.
pub(super) enum Reach {
    /// As a client of its HTTP API.
    Http {
        /// The URL without a `/` at its end.
        url: String,
        /// What to show as a bearer token.
        token: Option<String>,
    },
    /// By a connector of that transport in this process.
    Peer(Box<Remote>),
    /// As a client of its Kubernetes API.
    #[cfg(feature = "k8s")]
    Cluster(Box<Remote>),
}

impl Server {
    /// How to reach it.
    pub(super) fn reach(&self) -> Result<Reach, Failure> {
        #[cfg(feature = "k8s")]
        if let Some(settings) = super::k8s::settings(&self.url, self.token_file.as_deref()) {
            return self.cluster(settings?);
        }
        let Some((scheme, rest)) = self.url.split_once("://") else {
            let hint =
                "write a URL: http://127.0.0.1:8080, nats://127.0.0.1:4222, mqtt://127.0.0.1:1883, k8s:///";
            return Err(Failure::usage(format!("--server {:?} has no scheme; {hint}", self.url)));
        };
        let of_http = matches!(scheme, "http" | "https");
        let found = TRANSPORTS.iter().find(|transport| transport.schemes().contains(&scheme));
        match found {
            None if of_http => Err(super::http::absent(scheme)),
            None => {
                let known: Vec<&str> = TRANSPORTS.iter().flat_map(|it| it.schemes()).copied().collect();
                let known = known.join(", ");
                Err(Failure::usage(format!(
                    "--server: {scheme}:// is not in this build, which has: {known}"
                )))
            }
            Some(_) if rest.trim_end_matches('/').is_empty() => {
                Err(Failure::usage(format!("--server {:?} names no host", self.url)))
            }
            Some(_) if of_http => self.over_http(),
            Some(transport) => Ok(Reach::Peer(Box::new(self.peer(*transport)?))),
        }
    }

    #[cfg(feature = "k8s")]
    fn cluster(
        &self,
        (mut settings, scope): (Map<String, Value>, Option<String>),
    ) -> Result<Reach, Failure> {
        for (path, text) in &self.with {
            set(&mut settings, path, setting("--with", text)?);
        }
        let transport = &crate::transport::k8s::K8s;
        let url = without_credentials(&self.url);
        Ok(Reach::Cluster(Box::new(Remote { transport, url, settings, scope })))
    }

    fn over_http(&self) -> Result<Reach, Failure> {
        if let Some((name, _)) = self.with.first() {
            return Err(Failure::usage(format!("--with {name}: the HTTP client has no settings")));
        }
        let url = self.url.trim_end_matches('/').to_owned();
        Ok(Reach::Http { url, token: self.token()? })
    }

    /// The token to show.
    fn token(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.token_file else {
            return Ok(std::env::var(TOKEN).ok().filter(|token| !token.is_empty()));
        };
        let token = std::fs::read_to_string(path)
            .map_err(|error| Failure::failed(format!("--token-file {}: {error}", path.display())))?;
        let token = token.trim();
        if token.is_empty() {
            return Err(Failure::failed(format!("--token-file {}: is empty", path.display())));
        }
        Ok(Some(token.to_owned()))
    }

    fn peer(&self, transport: &'static dyn Transport) -> Result<Remote, Failure> {
        let mut settings = Map::new();
        settings.insert("urls".to_owned(), json!([self.url]));
        if transport.name() == "nats" {
            if let Some(path) = &self.token_file {
                settings.insert("token".to_owned(), json!({ "file": path }));
            } else if std::env::var_os(TOKEN).is_some() && !self.url.contains('@') {
                settings.insert("token".to_owned(), json!({ "env": TOKEN }));
            }
        } else if self.token_file.is_some() {
            let hint = "--with user=NAME and --with 'password={file: PATH}'";
            return Err(Failure::usage(format!("--token-file: {} takes {hint}", transport.name())));
        }
        for (path, text) in &self.with {
            set(&mut settings, path, setting("--with", text)?);
        }
        Ok(Remote { transport, url: without_credentials(&self.url), settings, scope: None })
    }
}

/// A URL as it may be shown: without what stands before the `@` of its host.
pub(super) fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{tail}")
}

/// A value in YAML, as in a configuration file.
pub(super) fn setting(option: &str, text: &str) -> Result<Value, Failure> {
    let escaped = text.replace("${", "$${");
    let section = Section::from_yaml(option, &escaped);
    section.map(|section| section.to_json()).map_err(|error| Failure::usage(error.to_string()))
}

/// Sets what `path` names: `tls.ca`.
pub(super) fn set(settings: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(settings.insert(path.to_owned(), value)),
        Some((first, rest)) => {
            let below = settings.entry(first).or_insert_with(|| json!({}));
            if !below.is_object() {
                *below = json!({});
            }
            if let Value::Object(below) = below {
                set(below, rest, value);
            }
        }
    }
}

#[cfg(all(test, feature = "http", feature = "nats", feature = "mqtt"))]
mod tests {
    use super::*;

    fn server(url: &str) -> Server {
        Server { url: url.to_owned(), token_file: None, with: Vec::new() }
    }

    #[test]
    fn the_scheme_picks_the_protocol() {
        assert!(
            matches!(server("http://h:1/").reach(), Ok(Reach::Http { url, .. }) if url == "http://h:1")
        );
        for (url, name) in
            [("nats://h", "nats"), ("tls://h", "nats"), ("mqtt://h", "mqtt"), ("mqtts://h", "mqtt")]
        {
            assert!(
                matches!(server(url).reach(), Ok(Reach::Peer(remote)) if remote.transport.name() == name)
            );
        }
        for url in ["127.0.0.1:8080", "ftp://h", "http://"] {
            assert!(server(url).reach().is_err(), "{url}");
        }
        #[cfg(feature = "k8s")]
        for url in ["k8s:///", "k8s:", "k8s://h:1/scopes/east", "k8s+https://h"] {
            assert!(matches!(server(url).reach(), Ok(Reach::Cluster(_))), "{url}");
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        assert_eq!(without_credentials("nats://u:p@ss@h:4222/x"), "nats://h:4222/x");
        assert_eq!(without_credentials("nats://h/a@b"), "nats://h/a@b");
    }

    #[test]
    fn settings_are_yaml_at_their_path() {
        let mut settings = Map::new();
        set(&mut settings, "tls.ca", setting("x", "a.pem").unwrap());
        set(&mut settings, "tls.first", setting("x", "true").unwrap());
        set(&mut settings, "user", setting("x", "${A}").unwrap());
        assert_eq!(Value::from(settings), json!({"tls": {"ca": "a.pem", "first": true}, "user": "${A}"}));
    }
}
