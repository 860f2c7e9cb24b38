//! What istio's tools ask a control plane: types whose names begin with `istio.io/debug`, answered once.

use meshbus_proto::status::{ClientConfig, ConfigStatus, GenericXdsConfig};
use percent_encoding::percent_decode_str;
use prost::Message;
use serde_json::{Value, json};

use super::{RESOURCES_MAX, Room, resources};
use crate::transport::xds::codec::debug::{CONNECTIONS, DEBUG};
use crate::transport::xds::codec::kinds::{CLUSTER, ENDPOINTS, LISTENER, ROUTES};
use crate::transport::xds::codec::response::nonce_text;
use crate::transport::xds::codec::status::{Code, Status};
use crate::transport::xds::server::Shared;
use crate::transport::xds::server::caller::Caller;
use crate::transport::xds::server::roster::{Board, Known, Standing};

/// How each client stands to each type, as messages.
const SYNCZ: &str = "istio.io/debug/syncz";
const CLIENT_CONFIG: &str = "type.googleapis.com/envoy.service.status.v3.ClientConfig";
/// What may be asked for by name.
const NAMES: [&str; 4] = ["config_dump?proxyID=ID", CONNECTIONS, "list", "syncz"];

/// Whether a type is answered here.
pub(in crate::transport::xds::server) fn is_debug(type_url: &str) -> bool {
    type_url == DEBUG || type_url.strip_prefix(DEBUG).is_some_and(|rest| rest.starts_with('/'))
}

/// Names, types and messages of what is asked.
///
/// # Errors
/// `PERMISSION_DENIED`, or which question is not answered.
pub(in crate::transport::xds::server) fn answer(
    shared: &Shared,
    caller: &Caller,
    type_url: &str,
    names: &[String],
) -> Result<Vec<(String, String, Vec<u8>)>, Status> {
    caller.check_admin()?;
    match (type_url, names) {
        (DEBUG, [name]) => {
            let json = by_name(shared, caller, name)?;
            Ok(vec![(name.clone(), DEBUG.to_owned(), json.to_string().into_bytes())])
        }
        (DEBUG, _) => {
            let text = format!("{DEBUG} takes exactly one name: {}", NAMES.join(", "));
            Err(Status::new(Code::InvalidArgument, text))
        }
        (SYNCZ, _) => {
            let boards = shared.roster.all().into_iter();
            let config = |board: &Board| client_config(board).encode_to_vec();
            Ok(boards
                .map(|board| (board.id.to_string(), CLIENT_CONFIG.to_owned(), config(&board)))
                .collect())
        }
        (other, _) => {
            let text = format!("{other} is not answered: ask for {SYNCZ}, or for {DEBUG} by name");
            Err(Status::new(Code::NotFound, text))
        }
    }
}

fn by_name(shared: &Shared, caller: &Caller, name: &str) -> Result<Value, Status> {
    let boards = shared.roster.all();
    let path = name.trim_start_matches('/');
    match path.split_once('?').unwrap_or((path, "")) {
        ("list", _) => Ok(json!(NAMES)),
        (CONNECTIONS, _) => Ok(json!({
            "totalClients": boards.len(),
            "clients": boards.iter().map(|board| connection(board)).collect::<Vec<_>>(),
        })),
        ("syncz", _) => Ok(boards.iter().map(|board| sync(board)).collect()),
        ("config_dump", query) => {
            let wanted = query.split('&').find_map(|pair| pair.strip_prefix("proxyID="));
            let wanted = wanted.map(|id| percent_decode_str(id).decode_utf8_lossy());
            let Some(wanted) = wanted else {
                return Err(Status::new(Code::InvalidArgument, "config_dump?proxyID=ID: which node?"));
            };
            let found = boards.iter().rfind(|board| board.node.id == *wanted);
            let board = found.ok_or_else(|| {
                Status::new(Code::NotFound, format!("no node {wanted:?} is connected to this server"))
            })?;
            Ok(config_dump(shared, caller, board))
        }
        (other, _) => {
            let text = format!("{other:?} is not answered: one of {}", NAMES.join(", "));
            Err(Status::new(Code::NotFound, text))
        }
    }
}

fn connection(board: &Board) -> Value {
    let locality = board.node.locality.as_ref();
    json!({
        "connectionId": &*board.id,
        "node": board.node.id,
        "connectedAt": board.since.text().to_string(),
        "address": board.peer.to_string(),
        "locality": locality.map(|it| json!({"region": it.region, "zone": it.zone, "subzone": it.sub_zone})),
        "watches": board.types().keys().map(|type_url| &**type_url).collect::<Vec<_>>(),
    })
}

fn sync(board: &Board) -> Value {
    let types = board.types();
    let nonces = |type_url: &str| {
        let nonce = |n: u32| if n == 0 { String::new() } else { nonce_text(n) };
        types
            .get(type_url)
            .map(|Known { standing, .. }| (nonce(standing.sent), nonce(standing.accepted)))
            .unwrap_or_default()
    };
    let (cluster, listener, route, endpoint) =
        (nonces(CLUSTER), nonces(LISTENER), nonces(ROUTES), nonces(ENDPOINTS));
    json!({
        "cluster_id": &*board.scope,
        "proxy": board.node.id,
        "cluster_sent": cluster.0, "cluster_acked": cluster.1,
        "listener_sent": listener.0, "listener_acked": listener.1,
        "route_sent": route.0, "route_acked": route.1,
        "endpoint_sent": endpoint.0, "endpoint_acked": endpoint.1,
    })
}

fn client_config(board: &Board) -> ClientConfig {
    let config = |(type_url, known): (bytestring::ByteString, Known)| GenericXdsConfig {
        type_url: type_url.to_string(),
        config_status: match &known.standing {
            Standing { refused: Some(_), .. } => ConfigStatus::Error,
            Standing { sent: 0, .. } => ConfigStatus::NotSent,
            Standing { sent, accepted, .. } if sent == accepted => ConfigStatus::Synced,
            _ => ConfigStatus::Stale,
        } as i32,
        ..GenericXdsConfig::default()
    };
    ClientConfig {
        node: Some(board.node.clone()),
        generic_xds_configs: board.types().into_iter().map(config).collect(),
        client_scope: board.id.to_string(),
    }
}

fn config_dump(shared: &Shared, caller: &Caller, board: &Board) -> Value {
    let mut room = Room { bytes: shared.config.response_max() / 4, resources: RESOURCES_MAX };
    let descriptors = shared.kinds.descriptors();
    let configs = resources(caller, board, &shared.bus.snapshot(), &mut room).into_iter().map(|config| {
        let resource = config.xds_config.map(|any| match serde_json::from_slice(&any.value) {
            Ok(json @ Value::Object(_)) => json,
            _ => descriptors.show(&any.type_url, &any.value).json,
        });
        json!({
            "typeUrl": config.type_url,
            "name": config.name,
            "versionInfo": config.version_info,
            "resource": resource,
        })
    });
    json!({"configs": configs.collect::<Vec<_>>()})
}
