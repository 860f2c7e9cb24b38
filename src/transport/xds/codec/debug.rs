//! What istio's control planes, and this crate's server, tell about their clients to who asks by `istio.io/debug`: the
//! answer to the name `connections`.
//!
//! It is the JSON of istiod's page of that name. Releases differ in what they tell beside id, time and address, so all of it
//! is read that is there in any known form, and nothing else has to be.

use bytes::Bytes;
use bytestring::ByteString;
use hashbrown::HashSet;
use meshbus_proto::xds::{DiscoveryRequest, DiscoveryResponse, Node};
use prost::Message;
use serde_json::{Map, Value, json};

use super::frame::framed;
use super::status::{Code, Status};

/// The type that is asked for by one name, and answered by JSON.
pub const DEBUG: &str = "istio.io/debug";
/// The name that asks who is connected.
pub const CONNECTIONS: &str = "connections";
/// Most connections that are read of one answer.
pub const CONNECTIONS_MAX: usize = 100_000;
/// Most bytes of a connection's metadata, and of its labels, that are shown.
const METADATA_MAX: usize = 16 << 10;
/// Most types that a connection is shown to watch.
const WATCHES_MAX: usize = 64;

/// Who is connected.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Connected {
    /// Each with an id of its own, in their order.
    pub connections: Vec<Connection>,
    /// How many entries have no id, or that of another.
    pub malformed: usize,
    /// How many were too many.
    pub left_out: usize,
}

/// A connection to the server that tells it.
#[derive(Debug, PartialEq, Eq)]
pub struct Connection {
    /// As the server names it.
    pub id: ByteString,
    /// `spec` and `status` of the bus's own kind.
    pub data: Value,
}

/// Asks who is connected; `node` with the first request of a stream. Answers are not answered: that would ask again.
pub fn question(node: Option<Node>) -> Bytes {
    framed(&DiscoveryRequest {
        node,
        type_url: DEBUG.to_owned(),
        resource_names: vec![CONNECTIONS.to_owned()],
        ..DiscoveryRequest::default()
    })
}

/// The answer to [`question`], of which `connector` asks.
///
/// # Errors
/// Why the server does not tell, or how it tells otherwise than is known.
pub fn answer(message: Bytes, connector: &str) -> Result<Connected, Status> {
    let unknown = |text: String| Status::new(Code::Unknown, text);
    let response =
        DiscoveryResponse::decode(message).map_err(|error| unknown(format!("is no response: {error}")))?;
    if !response.type_url.starts_with(DEBUG) {
        return Err(unknown(format!("answers with {}", response.type_url)));
    }
    if let Some(error) = response.resource_errors.into_iter().find_map(|error| error.error_detail) {
        return Err(Status::new(Code::of(error.code), error.message));
    }
    let first = response.resources.first();
    let body = first.ok_or_else(|| unknown("answers with nothing".to_owned()))?;
    connected(&body.value, connector).map_err(unknown)
}

/// Reads istiod's JSON of connections.
fn connected(body: &[u8], connector: &str) -> Result<Connected, String> {
    let told: Value = serde_json::from_slice(body).map_err(|error| {
        let text = String::from_utf8_lossy(body.get(..body.len().min(200)).unwrap_or_default());
        format!("does not tell in JSON: {error}: {:?}", text.trim())
    })?;
    let total = told.get("totalClients").and_then(Value::as_u64);
    let clients = match (told.get("clients"), total, &told) {
        (Some(Value::Array(clients)), _, _) | (_, _, Value::Array(clients)) => &clients[..],
        // Written in Go, no list is null, or nothing at all.
        (None | Some(Value::Null), Some(0), _) => &[],
        _ => return Err("tells in JSON that is not known: a list of clients is missing".to_owned()),
    };
    let mut connected = Connected::default();
    let mut ids = HashSet::with_capacity(clients.len().min(CONNECTIONS_MAX));
    for client in clients {
        match id_of(client).filter(|id| !ids.contains(*id)) {
            None => connected.malformed += 1,
            Some(_) if ids.len() == CONNECTIONS_MAX => connected.left_out += 1,
            Some(id) => {
                ids.insert(id);
                connected.connections.push(Connection { id: id.into(), data: data(client, id, connector) });
            }
        }
    }
    Ok(connected)
}

fn id_of(client: &Value) -> Option<&str> {
    text(client, &["connectionId", "connectionID", "id"])
}

/// As the bus tells of the connections to its own servers.
fn data(client: &Value, id: &str, connector: &str) -> Value {
    let metadata = fields(client, &["metadata", "proxyMetadata"]);
    let of_metadata = |name: &str| metadata.and_then(|metadata| metadata.get(name)?.as_str());
    let mut spec = Map::new();
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            spec.insert(name.to_owned(), value);
        }
    };
    add("transport", Some(json!("xds")));
    add("connector", Some(json!(connector)));
    add("address", text(client, &["address", "peerAddress"]).map(Value::from));
    add("node", Some(json!(text(client, &["node", "proxyId"]).unwrap_or_else(|| node_of(id)))));
    add("cluster", of_metadata("CLUSTER_ID").map(Value::from));
    add("agent", of_metadata("ISTIO_VERSION").map(|version| format!("istio-proxy {version}").into()));
    add("locality", locality(client));
    let bounded = |fields: &&Map<String, Value>| json!(fields).to_string().len() <= METADATA_MAX;
    add("labels", fields(client, &["labels"]).filter(bounded).map(|labels| json!(labels)));
    add("metadata", metadata.filter(bounded).map(|metadata| json!(metadata)));
    add("connectedAt", text(client, &["connectedAt"]).map(Value::from));
    json!({"spec": spec, "status": {"types": types(client)}})
}

/// istiod's ids are those of nodes with a number after them.
fn node_of(id: &str) -> &str {
    match id.rsplit_once('-') {
        Some((node, number)) if !node.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            node
        }
        _ => id,
    }
}

fn locality(client: &Value) -> Option<Value> {
    let place = client.get("locality").filter(|place| place.is_object())?;
    let part = |names: &[&str]| text(place, names).unwrap_or_default();
    Some(json!({
        "region": part(&["region"]),
        "zone": part(&["zone"]),
        "subZone": part(&["subZone", "sub_zone", "subzone"]),
    }))
}

/// The types it watches, which istiod tells with the names of each.
fn types(client: &Value) -> Vec<Value> {
    let mut types: Vec<&str> = match client.get("watches") {
        Some(Value::Object(of_type)) => of_type.keys().map(String::as_str).collect(),
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    types.sort_unstable();
    types.dedup();
    types.into_iter().take(WATCHES_MAX).map(|type_url| json!({"type": type_url})).collect()
}

/// The first of these members that is text, and not empty.
fn text<'a>(of: &'a Value, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| of.get(name)?.as_str().filter(|text| !text.is_empty()))
}

fn fields<'a>(of: &'a Value, names: &[&str]) -> Option<&'a Map<String, Value>> {
    names.iter().find_map(|name| of.get(name)?.as_object().filter(|fields| !fields.is_empty()))
}

#[cfg(test)]
mod tests {
    use meshbus_proto::google::{self, Any};
    use meshbus_proto::xds::ResourceError;
    use proptest::prelude::*;

    use super::*;

    fn read(body: &str) -> Result<Connected, String> {
        connected(body.as_bytes(), "istiod")
    }

    fn one(body: &str) -> (String, Value) {
        let Connected { mut connections, malformed: 0, left_out: 0 } = read(body).unwrap() else {
            panic!("all of it is good")
        };
        let Connection { id, data } = connections.pop().unwrap();
        assert!(connections.is_empty());
        (id.to_string(), data)
    }

    /// As istiod 1.24 writes it.
    #[test]
    fn the_page_of_istiod_is_connections() {
        let (id, data) = one(r#"{"totalClients":1,"clients":[{"connectionId":"web-7d4b9c-x2x5z.shop-12",
            "connectedAt":"2026-01-01T10:00:00.123456789Z","address":"10.244.0.12:43210"}]}"#);
        assert_eq!(id, "web-7d4b9c-x2x5z.shop-12");
        let spec = json!({
            "transport": "xds", "connector": "istiod", "address": "10.244.0.12:43210", "node": "web-7d4b9c-x2x5z.shop",
            "connectedAt": "2026-01-01T10:00:00.123456789Z",
        });
        assert_eq!(data, json!({"spec": spec, "status": {"types": []}}));
    }

    /// As istiod's `adsz` writes it, and what is near to that.
    #[test]
    fn what_else_a_release_tells_is_shown() {
        let (id, data) = one(r#"{"totalClients":1,"clients":[{"connectionId":"ztunnel-9xq.istio-system-3",
            "connectedAt":"2026-01-01T10:00:00Z","address":"10.0.0.9:51000","labels":{"app":"ztunnel"},
            "metadata":{"CLUSTER_ID":"Kubernetes","ISTIO_VERSION":"1.24.1","NAMESPACE":"istio-system"},
            "locality":{"region":"eu","zone":"eu-1","sub_zone":"rack-7"},
            "watches":{"type.googleapis.com/b.B":["x","y"],"type.googleapis.com/a.A":null}}]}"#);
        let spec = &data["spec"];
        assert_eq!(
            (&*id, &spec["node"]),
            ("ztunnel-9xq.istio-system-3", &json!("ztunnel-9xq.istio-system"))
        );
        assert_eq!(
            (&spec["cluster"], &spec["agent"]),
            (&json!("Kubernetes"), &json!("istio-proxy 1.24.1"))
        );
        assert_eq!(spec["locality"], json!({"region": "eu", "zone": "eu-1", "subZone": "rack-7"}));
        assert_eq!(
            (&spec["labels"]["app"], &spec["metadata"]["NAMESPACE"]),
            (&json!("ztunnel"), &json!("istio-system"))
        );
        let types = json!([{"type": "type.googleapis.com/a.A"}, {"type": "type.googleapis.com/b.B"}]);
        assert_eq!(data["status"]["types"], types);
        let (_, other) =
            one(r#"[{"connectionID":"a","proxyMetadata":{"x":1},"peerAddress":"b","watches":["t","t"]}]"#);
        assert_eq!((&other["spec"]["metadata"], &other["spec"]["node"]), (&json!({"x": 1}), &json!("a")));
        assert_eq!(
            (&other["spec"]["address"], &other["status"]["types"]),
            (&json!("b"), &json!([{"type": "t"}]))
        );
    }

    /// As this crate's server writes it.
    #[test]
    fn the_answer_of_a_bus_is_connections() {
        let (id, data) = one(
            r#"{"totalClients":1,"clients":[{"connectionId":"019b-7a-1","node":"sidecar~a~b~c",
            "connectedAt":"2026-01-01T10:00:00Z","address":"127.0.0.1:4000","locality":null,"watches":["a/v1/B"]}]}"#,
        );
        assert_eq!((&*id, &data["spec"]["node"]), ("019b-7a-1", &json!("sidecar~a~b~c")));
        assert_eq!(
            (data["spec"].get("locality"), &data["status"]["types"][0]["type"]),
            (None, &json!("a/v1/B"))
        );
    }

    #[test]
    fn nobody_is_told_apart_from_nothing_that_is_known() {
        for nobody in
            [r#"{"totalClients":0}"#, r#"{"totalClients":0,"clients":null}"#, r#"{"clients":[]}"#, "[]"]
        {
            assert_eq!(read(nobody).unwrap(), Connected::default(), "{nobody}");
        }
        for (wrong, reason) in [
            ("404 page not found\n", "does not tell in JSON: "),
            ("", "does not tell in JSON: "),
            ("{}", "a list of clients is missing"),
            (r#"{"totalClients":3}"#, "a list of clients is missing"),
            (r#"{"error":"no"}"#, "a list of clients is missing"),
            (r#"{"totalClients":0,"clients":"none"}"#, "a list of clients is missing"),
            ("null", "a list of clients is missing"),
        ] {
            let told = read(wrong).unwrap_err();
            assert!(told.contains(reason), "{wrong}: {told}");
        }
        assert!(read("404 page not found\n").unwrap_err().ends_with(r#""404 page not found""#));
    }

    #[test]
    fn entries_that_cannot_be_named_and_those_that_are_too_many_are_counted() {
        let told =
            read(r#"{"clients":[{"connectionId":"a-1"},{"connectionId":""},{},7,{"connectionId":"a-1"}]}"#);
        let told = told.unwrap();
        assert_eq!((told.connections.len(), told.malformed, told.left_out), (1, 4, 0));
        let many: Vec<_> =
            (0..CONNECTIONS_MAX + 2).map(|n| json!({"connectionId": format!("n-{n}")})).collect();
        let told = read(&json!({"clients": many}).to_string()).unwrap();
        assert_eq!((told.connections.len(), told.malformed, told.left_out), (CONNECTIONS_MAX, 0, 2));
        let long = json!([{"connectionId": "a", "metadata": {"x": "y".repeat(METADATA_MAX)}}]);
        assert_eq!(one(&long.to_string()).1["spec"].get("metadata"), None);
    }

    #[test]
    fn a_node_is_what_stands_before_the_number() {
        for (id, node) in [
            ("web.shop-12", "web.shop"),
            ("web-1", "web"),
            ("web", "web"),
            ("web-x", "web-x"),
            ("-1", "-1"),
        ] {
            assert_eq!(node_of(id), node);
        }
    }

    #[test]
    fn a_refusal_is_told_as_the_server_tells_it() {
        let answered = |response: DiscoveryResponse| answer(response.encode_to_vec().into(), "istiod");
        let of = |type_url: &str, body: &str| DiscoveryResponse {
            type_url: type_url.into(),
            resources: vec![Any { type_url: DEBUG.into(), value: body.to_owned().into() }],
            ..DiscoveryResponse::default()
        };
        assert_eq!(answered(of(DEBUG, r#"{"totalClients":0}"#)).unwrap(), Connected::default());
        assert_eq!(answered(of("a.B", "[]")).unwrap_err().message, "answers with a.B");
        let nothing = DiscoveryResponse { type_url: DEBUG.into(), ..DiscoveryResponse::default() };
        assert_eq!(answered(nothing.clone()).unwrap_err().message, "answers with nothing");
        let detail = Some(google::Status { code: 7, message: "no".into(), details: Vec::new() });
        let resource_errors = vec![ResourceError { error_detail: detail, ..ResourceError::default() }];
        let refused = answered(DiscoveryResponse { resource_errors, ..nothing }).unwrap_err();
        assert_eq!((refused.code, &*refused.message), (Code::PermissionDenied, "no"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            drop(connected(&bytes, "istiod"));
            drop(answer(bytes.into(), "istiod"));
        }
    }
}
