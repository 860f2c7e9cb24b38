//! `meshbus kubeconfig`: what kubectl needs to know of the bus's Kubernetes API, a context for each scope.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::http::{Client, Request};
use super::{Failure, output};
use crate::config::yaml::to_yaml;
use crate::core::Key;

mod file;
mod merge;

use merge::Entries;

/// How long a server that may not be there is waited for.
const CONNECT: Duration = Duration::from_secs(2);
/// The variable that holds a token, where no file is named.
const TOKEN: &str = "MESHBUS_TOKEN";

/// Print a kubeconfig with a context for each scope of a bus, or merge it into your own
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus kubeconfig > bus.yaml && kubectl --kubeconfig bus.yaml get events -A
  meshbus kubeconfig --merge && kubectl --context meshbus-local get values
  meshbus kubeconfig -s https://bus.example.com:18001 --token-file token --ca-file ca.pem

A context is named after the bus and the scope. Merging keeps all else that the file holds,
comments included, and sets the current context only where there is none. The file is the first of
$KUBECONFIG that there is, else ~/.kube/config.")]
pub(super) struct Kubeconfig {
    /// The bus's Kubernetes API
    #[arg(short = 's', long = "server", value_name = "URL", default_value = "http://127.0.0.1:18001")]
    url: String,
    /// Merge into the file that kubectl uses
    #[arg(long)]
    merge: bool,
    /// Scope to make a context for; may be repeated. Default: all that hold anything, as the server tells
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// What the contexts are named after; default: the bus's own name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// File with the token to show; the kubeconfig names the file. Default: the variable `MESHBUS_TOKEN`, copied
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file with the authority that signed the server's certificate; the kubeconfig names the file
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// What a bus tells of its scopes.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    name: String,
    scopes: Vec<String>,
    /// The one that is served at the root.
    default: String,
}

/// Who shows what.
enum Token {
    None,
    File(PathBuf, String),
    Copied(String),
}

impl Kubeconfig {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let token = self.token()?;
        let client = Client::new(&self.url, token.text(), CONNECT);
        let mut told = if self.scopes.is_empty() {
            ask(&client?, &self.url).await?
        } else {
            Told {
                name: "meshbus".to_owned(),
                // Nobody says which scope is at the root, so each is asked for by its name.
                default: String::new(),
                scopes: self.scopes.clone(),
            }
        };
        if let Some(name) = &self.name {
            told.name.clone_from(name);
        }
        if token.text().is_some() && self.url.starts_with("http://") {
            output::note("kubectl shows no token without TLS: serve https, or leave the token out");
        }
        let entries = self.entries(&told, &token)?;
        if !self.merge {
            return output::write(to_yaml(entries.document()));
        }
        let path = file::path()?;
        let changed = file::update(&path, |text| merge::merge(text, &entries))?;
        for context in &entries.contexts {
            let name = context.get("name").and_then(Value::as_str).unwrap_or_default();
            output::line(format!("kubectl --context {name}"))?;
        }
        let what = if changed { "written" } else { "has them already" };
        output::note(format!("{} {what}", path.display()));
        Ok(())
    }

    fn entries(&self, told: &Told, token: &Token) -> Result<Entries, Failure> {
        let url = self.url.trim_end_matches('/');
        let mut entries = Entries::default();
        let mut user = serde_json::Map::new();
        match token {
            Token::None => {}
            Token::File(path, _) => {
                user.insert("tokenFile".to_owned(), json!(absolute(path)?));
            }
            Token::Copied(text) => {
                user.insert("token".to_owned(), json!(text));
            }
        }
        entries.users.push(json!({"name": told.name, "user": user}));
        for scope in &told.scopes {
            let name = format!("{}-{scope}", told.name);
            let mut cluster = serde_json::Map::new();
            let server = if *scope == told.default {
                url.to_owned()
            } else {
                format!("{url}/scopes/{}", utf8_percent_encode(scope, NON_ALPHANUMERIC))
            };
            cluster.insert("server".to_owned(), json!(server));
            if let Some(path) = &self.ca_file {
                cluster.insert("certificate-authority".to_owned(), json!(absolute(path)?));
            }
            entries.clusters.push(json!({"name": name, "cluster": cluster}));
            let context = json!({"cluster": name, "user": told.name});
            entries.contexts.push(json!({"name": name, "context": context}));
            if *scope == told.default || entries.current.is_empty() {
                entries.current = name;
            }
        }
        Ok(entries)
    }

    fn token(&self) -> Result<Token, Failure> {
        let Some(path) = &self.token_file else {
            let copied = std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
            return Ok(copied.map_or(Token::None, Token::Copied));
        };
        let wrong = |why: &dyn std::fmt::Display| {
            Failure::failed(format!("--token-file {}: {why}", path.display()))
        };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
        match text.trim() {
            "" => Err(wrong(&"is empty")),
            token => Ok(Token::File(path.clone(), token.to_owned())),
        }
    }
}

impl Token {
    fn text(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::File(_, text) | Self::Copied(text) => Some(text),
        }
    }
}

/// Asks the server; one that is not there is taken to have what every bus has.
async fn ask(client: &Client, url: &str) -> Result<Told, Failure> {
    let answer = match client.send(Request::get("/scopes")).await {
        Ok(answer) => answer,
        Err(failure) => {
            output::note(format!("{failure}: a context for the scope {} only", Key::LOCAL));
            return Ok(Told {
                name: "meshbus".to_owned(),
                scopes: vec![Key::LOCAL.to_owned()],
                default: Key::LOCAL.to_owned(),
            });
        }
    };
    if !answer.status.is_success() {
        return Err(Failure::failed(format!("{url}: {}: is it a bus's Kubernetes API?", answer.failure())));
    }
    told(&answer.body)
        .ok_or_else(|| Failure::failed(format!("{url} tells no scopes: is it a bus's Kubernetes API?")))
}

fn told(body: &[u8]) -> Option<Told> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| body.get(name)?.as_str().map(str::to_owned);
    let scopes = body.get("scopes")?.as_array()?.iter();
    let mut scopes: Vec<String> = scopes.filter_map(|scope| scope.as_str().map(str::to_owned)).collect();
    let default = text("default").unwrap_or_default();
    if !default.is_empty() && !scopes.contains(&default) {
        scopes.push(default.clone());
    }
    Some(Told { name: text("name").unwrap_or_else(|| "meshbus".to_owned()), scopes, default })
        .filter(|told| !told.scopes.is_empty())
}

/// As a kubeconfig names files: from wherever it is read.
fn absolute(path: &PathBuf) -> Result<String, Failure> {
    let wrong = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
    Ok(std::path::absolute(path).map_err(wrong)?.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_tells_its_scopes() {
        let all = told(br#"{"name": "edge", "default": "local", "scopes": ["east", "local"]}"#).unwrap();
        assert_eq!((&*all.name, &*all.default, all.scopes.len()), ("edge", "local", 2));
        // One that is configured and has nothing yet is served all the same.
        assert_eq!(told(br#"{"default": "west", "scopes": ["local"]}"#).unwrap().scopes, ["local", "west"]);
        for other in ["", "[]", "{}", r#"{"scopes": []}"#, r#"{"scopes": 1}"#] {
            assert_eq!(told(other.as_bytes()), None, "{other}");
        }
    }
}
