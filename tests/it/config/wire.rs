//! A transport from outside the crate, so that these tests hold whatever the real ones are named and know.

use futures_util::future::BoxFuture;
use meshbus::config::values::{Duration, Secret, Size};
use meshbus::config::{Config, ConfigError, Section};
use meshbus::core::Error;
use meshbus::core::delivery::{Assurance, Guarantee, Target};
use meshbus::core::template::{Spelling, Template};
use meshbus::transport::{Connector, Link, Transport, TransportSchema};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;

/// Client and server, the settings of neither do anything.
pub(crate) struct Wire;

/// Only a client.
pub(crate) struct Tap;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the settings are only read")]
struct ClientSettings {
    /// Where to.
    urls: Vec<String>,
    version: Option<u8>,
    label_selector: Option<String>,
    timeout: Option<Duration>,
    max_body: Option<Size>,
    token: Option<Secret>,
    #[serde(default)]
    retain: bool,
    mode: Option<Mode>,
    scope: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Binary,
    Structured,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ServerSettings {
    listen: String,
    port: u16,
    tls: Option<String>,
    insecure: bool,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self { listen: "127.0.0.1:7777".to_owned(), port: 1, tls: None, insecure: false }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TargetSettings {
    /// A template.
    topic: Option<String>,
}

struct Idle;

impl Connector for Idle {
    fn run<'a>(&'a mut self, link: &'a mut Link) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async {
            link.shutdown.drain().await;
            Ok(())
        })
    }

    fn ingress(&self) -> Guarantee {
        guarantee()
    }
}

fn guarantee() -> Guarantee {
    Guarantee { assurance: Assurance::AtMostOnce, identity: false, because: "a test".into() }
}

impl Transport for Wire {
    fn name(&self) -> &'static str {
        "wire"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["wire"]
    }

    fn schema(&self) -> TransportSchema {
        TransportSchema {
            client: Some(schema_for!(ClientSettings)),
            server: Some(schema_for!(ServerSettings)),
            target: Some(schema_for!(TargetSettings)),
        }
    }

    fn client(&self, _name: &str, section: &Section) -> Result<Box<dyn Connector>, ConfigError> {
        let settings: ClientSettings = section.parse()?;
        for (at, url) in settings.urls.iter().enumerate() {
            if !url.starts_with("wire://") {
                return Err(section.error_with_hint(
                    &format!("urls[{at}]"),
                    "is no URL",
                    "wire://HOST:7777",
                ));
            }
        }
        Ok(Box::new(Idle))
    }

    fn server(&self, _name: &str, section: &Section) -> Result<Box<dyn Connector>, ConfigError> {
        section.parse::<ServerSettings>()?;
        Ok(Box::new(Idle))
    }

    fn target(&self, _connector: &Section, section: &Section) -> Result<Target, ConfigError> {
        let settings: TargetSettings = section.parse()?;
        let address = settings.topic.map(|topic| Template::parse(&topic, Spelling::Topic)).transpose();
        Ok(Target {
            address: address.map_err(|reason| section.error("topic", reason))?,
            pipelined: false,
            guarantee: guarantee(),
            options: std::sync::Arc::new(()),
        })
    }
}

impl Transport for Tap {
    fn name(&self) -> &'static str {
        "tap"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &[]
    }

    fn schema(&self) -> TransportSchema {
        TransportSchema { client: Some(schema_for!(ClientSettings)), server: None, target: None }
    }

    fn client(&self, name: &str, section: &Section) -> Result<Box<dyn Connector>, ConfigError> {
        Wire.client(name, section)
    }

    fn server(&self, _name: &str, section: &Section) -> Result<Box<dyn Connector>, ConfigError> {
        Err(section.error("", "no server"))
    }

    fn target(&self, connector: &Section, section: &Section) -> Result<Target, ConfigError> {
        Wire.target(connector, section)
    }
}

/// Reads files with both transports; the only variable is `HOSTNAME`.
pub(crate) fn read(files: &[(&str, &str)]) -> Result<Config, Vec<ConfigError>> {
    let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let env = |name: &str| (name == "HOSTNAME").then(|| "host-1".to_owned());
    Config::read(&files, &env, &[&Wire, &Tap])
}
