//! The same objects by XDS and by list and watch of the Kubernetes API, from the same process: the first full state,
//! and what was missed of it by those who come back. Clients make the same of them: typed objects.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::List;
use k8s_openapi::api::core::v1::ConfigMap;
use meshbus_proto::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::streams::{Streams, follow};
use super::support::process::{Process, free_port, start_meshbus};
use super::support::wire::{self, Connection, PATH};
use super::support::{Args, Failure, Report, Samples};

/// The objects' type.
const TYPE: &str = "core/v1/ConfigMap";
/// Changes that those who come back have missed.
const MISSED: usize = 100;
/// Objects in a page of a list, as clients have it.
const PAGE: usize = 500;

/// The ways to the first full state, and to what was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    Delta,
    List,
    WatchList,
    Position,
    Versions,
    Watch,
    Relist,
}

const FIRST: [Way; 3] = [Way::Delta, Way::List, Way::WatchList];
const AGAIN: [Way; 4] = [Way::Position, Way::Versions, Way::Watch, Way::Relist];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Delta => "first state: XDS",
            Self::List => "first state: list in pages of 500, watch begun",
            Self::WatchList => "first state: watch with initial events",
            Self::Position => "100 missed: XDS from a position",
            Self::Versions => "100 missed: XDS with all versions",
            Self::Watch => "100 missed: watch from a resourceVersion",
            Self::Relist => "100 missed: list again, watch begun",
        }
    }
}

/// The bus, and what a client of it knows.
struct Client {
    meshbus: Process,
    xds: u16,
    api: u16,
    objects: usize,
    position: String,
    versions: HashMap<String, String>,
    resource_version: String,
}

/// What a way took.
#[derive(Default)]
struct Cost {
    took: Samples,
    bytes: Samples,
    cpu: Samples,
    parsing: Samples,
}

/// What a way has come to.
#[derive(Default)]
struct Got {
    objects: usize,
    bytes: u64,
    parsing: Duration,
}

/// One line of a watch.
#[derive(Deserialize)]
struct Event {
    r#type: String,
    object: ConfigMap,
}

impl Client {
    fn start(dir: &Path, objects: usize) -> Result<Self, Failure> {
        let (xds, api) = (free_port()?, free_port()?);
        let config = format!(
            "logging: {{level: warn}}\nconnectors:\n  ads: {{xds: {{server: {{listen: \"127.0.0.1:{xds}\"}}}}}}\n  \
             api: {{k8s: {{server: {{listen: \"127.0.0.1:{api}\"}}}}}}\n"
        );
        let meshbus = start_meshbus(dir, "watch", &config)?;
        wire::fill(api, objects)?;
        let (position, versions, resource_version) = Default::default();
        Ok(Self { meshbus, xds, api, objects, position, versions, resource_version })
    }

    /// Goes a way, and checks that it came to all there is.
    fn go(&mut self, way: Way, cost: &mut Cost) -> Result<(), Failure> {
        let (before, began) = (self.meshbus.cpu()?, Instant::now());
        let missed = MISSED.min(self.objects);
        let got = match way {
            Way::Delta => self.delta(&follow(TYPE, None), self.objects),
            Way::Position => self.delta(&follow(TYPE, Some(&self.position)), missed),
            Way::Versions => {
                let mut request = follow(TYPE, None);
                request.initial_resource_versions.clone_from(&self.versions);
                self.delta(&request, missed)
            }
            Way::List | Way::Relist => self.list(),
            Way::WatchList => {
                let query =
                    "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
                self.watch(query, |event| event.r#type == "BOOKMARK")
            }
            Way::Watch => {
                let (mut left, from) = (missed, self.resource_version.clone());
                self.watch(&format!("resourceVersion={from}"), |event| {
                    left -= usize::from(event.r#type != "BOOKMARK");
                    left == 0
                })
            }
        }?;
        let expected = if FIRST.contains(&way) || way == Way::Relist { self.objects } else { missed };
        if got.objects != expected {
            return Err(format!("{}: {} objects instead of {expected}", way.name(), got.objects).into());
        }
        cost.took.push(began.elapsed().as_secs_f64() * 1000.0);
        cost.bytes.push(got.bytes as f64 / 1e6);
        cost.cpu.push((self.meshbus.cpu()? - before) / 1e6);
        cost.parsing.push(got.parsing.as_secs_f64() * 1000.0);
        Ok(())
    }

    /// A stream, until so many resources have come.
    fn delta(&mut self, request: &DeltaDiscoveryRequest, count: usize) -> Result<Got, Failure> {
        let mut got = Got::default();
        let mut stream = Streams::open(self.xds, 1, 1)?;
        stream.ask(request)?;
        stream.each(|_, response: DeltaDiscoveryResponse| {
            let began = Instant::now();
            for resource in response.resources {
                let body = resource.resource.ok_or("a resource without a body")?;
                drop(serde_json::from_slice::<ConfigMap>(&body.value)?);
                got.objects += 1;
                self.versions.insert(resource.name, resource.version);
            }
            got.parsing += began.elapsed();
            self.position = response.system_version_info;
            Ok(got.objects >= count)
        })?;
        (got.bytes, got.parsing) = (stream.bytes(), got.parsing + stream.decoding);
        Ok(got)
    }

    /// A list in pages, and a watch that begins where it ends.
    fn list(&mut self) -> Result<Got, Failure> {
        let (mut got, mut token) = (Got::default(), String::new());
        let mut connection = Connection::connect(self.api)?;
        loop {
            let path = format!("{PATH}?limit={PAGE}{token}");
            connection.send("GET", &path, "application/json", "")?;
            let (status, body) = connection.receive()?;
            if status != 200 {
                return Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into());
            }
            let list: List<ConfigMap> = parse(&body, &mut got)?;
            got.objects += list.items.len();
            self.resource_version = list.metadata.resource_version.ok_or("a list without a version")?;
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(next) => token = format!("&continue={next}"),
                None => break,
            }
        }
        let path = format!("{PATH}?watch=true&resourceVersion={}", self.resource_version);
        connection.send("GET", &path, "application/json", "")?;
        if connection.head()?.0 != 200 {
            return Err("no watch".into());
        }
        got.bytes = connection.bytes();
        Ok(got)
    }

    /// A watch, until an event that is the last.
    fn watch(&self, query: &str, mut last: impl FnMut(&Event) -> bool) -> Result<Got, Failure> {
        let mut got = Got::default();
        let mut connection = Connection::connect(self.api)?;
        connection.send("GET", &format!("{PATH}?watch=true&{query}"), "application/json", "")?;
        if connection.head()? != (200, None) {
            return Err("no watch".into());
        }
        let mut text = Vec::new();
        while connection.chunk(&mut text)? {
            let mut rest = text.as_slice();
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let (line, after) = rest.split_at(end + 1);
                let event: Event = parse(line, &mut got)?;
                got.objects += usize::from(event.r#type != "BOOKMARK");
                if last(&event) {
                    got.bytes = connection.bytes();
                    return Ok(got);
                }
                drop(event.object);
                rest = after;
            }
            let used = text.len() - rest.len();
            text.drain(..used);
        }
        Err("the watch ended".into())
    }

    /// What is missed by those who are away: changes of as many objects.
    fn change(&self, round: usize) -> Result<(), Failure> {
        wire::pipelined(self.api, MISSED.min(self.objects), |number| {
            let path = format!("{PATH}/object-{number:06}");
            let body = format!("{{\"data\":{{\"n\":\"{}\"}}}}", round + 1);
            ("PATCH", path, "application/merge-patch+json", body)
        })
    }
}

/// Parses, and counts the time.
fn parse<T: DeserializeOwned>(json: &[u8], got: &mut Got) -> Result<T, Failure> {
    let began = Instant::now();
    let parsed = serde_json::from_slice(json)?;
    got.parsing += began.elapsed();
    Ok(parsed)
}

pub(crate) fn measure(args: &Args, report: &mut Report, dir: &Path) -> Result<(), Failure> {
    let mut client = Client::start(dir, args.size(50_000, 600))?;
    let mut costs: HashMap<Way, Cost> = HashMap::new();
    for round in 0..args.rounds {
        for mut ways in [FIRST.to_vec(), AGAIN.to_vec()] {
            if ways.contains(&Way::Position) {
                client.change(round)?;
            }
            // The order changes from round to round, but that those who come back know what they did before.
            if round % 2 == 1 {
                ways.reverse();
            }
            let (position, version) = (client.position.clone(), client.resource_version.clone());
            let versions = client.versions.clone();
            for way in ways {
                if AGAIN.contains(&way) {
                    client.position.clone_from(&position);
                    client.resource_version.clone_from(&version);
                    client.versions.clone_from(&versions);
                }
                client.go(way, costs.entry(way).or_default())?;
            }
        }
    }
    report.said(
        &format!("{} objects of 1 KiB: watch by XDS and by Kubernetes", client.objects),
        "time · on the wire · CPU of the bus · of that time, parsing by the client".into(),
    );
    for (way, cost) in FIRST.iter().chain(&AGAIN).filter_map(|way| Some((way, costs.get(way)?))) {
        let ms = |samples: &Samples| format!("{:.1} ms ({})", samples.median(), samples.spread());
        let (took, cpu, parsing) = (ms(&cost.took), ms(&cost.cpu), ms(&cost.parsing));
        let text = format!("{took} · {:.3} MB · {cpu} · {parsing}", cost.bytes.median());
        report.said(&format!("  {}", way.name()), text);
    }
    Ok(())
}
