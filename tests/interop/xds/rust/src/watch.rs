//! A type of one's own, watched by name.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use xds_client::resource::TypeUrl;
use xds_client::{
    ClientConfig, Error, Node, ProstCodec, Resource, ResourceEvent, TokioRuntime, TonicTransportBuilder,
    XdsClient,
};

/// An object of Kubernetes, with its name as it is asked for.
struct ConfigMap {
    name: String,
    object: Value,
}

impl Resource for ConfigMap {
    type Message = Self;

    const TYPE_URL: TypeUrl = TypeUrl::new("core/v1/ConfigMap");

    fn deserialize(bytes: Bytes) -> Result<Self, Error> {
        let object: Value =
            serde_json::from_slice(&bytes).map_err(|error| Error::Validation(error.to_string()))?;
        let part = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        Ok(Self { name: format!("{}/{}", part("namespace"), part("name")), object })
    }

    fn name(message: &Self) -> &str {
        &message.name
    }

    fn validate(message: Self) -> Result<Self, Error> {
        Ok(message)
    }
}

/// Until it is ended from without.
pub(crate) async fn run(server: &str, node: &str, names: &[&str]) {
    let config = ClientConfig::new(Node::new("xds-peer", "1").with_id(node), server);
    let client = XdsClient::builder(config, TonicTransportBuilder::new(), ProstCodec, TokioRuntime).build();
    let mut watches = JoinSet::new();
    for name in names {
        let (mut watch, name) = (client.watch::<ConfigMap>(*name).await, (*name).to_owned());
        watches.spawn(async move {
            while let Some(event) = watch.next().await {
                println!("{}", told(&name, &event));
            }
        });
    }
    watches.join_all().await;
}

fn told(name: &str, event: &ResourceEvent<ConfigMap>) -> Value {
    match event {
        ResourceEvent::ResourceChanged { result: Ok(map), .. } => {
            json!({"name": name, "data": map.object["data"]})
        }
        ResourceEvent::ResourceChanged { result: Err(error), .. } => {
            json!({"name": name, "gone": error.to_string()})
        }
        ResourceEvent::AmbientError { error, .. } => json!({"name": name, "error": error.to_string()}),
    }
}
