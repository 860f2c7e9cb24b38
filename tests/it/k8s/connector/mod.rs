//! The bus's Kubernetes client against the hostile server: whatever strikes, what routes are told and what the table
//! shows in the end are the truth.

mod cursor;
mod election;
mod hostility;
mod load;
mod sink;
mod watch;
mod writes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use meshbus::config::Section;
use meshbus::core::consumer::Source;
use meshbus::core::delivery::{Assurance, Deliveries, Guarantee, Mailbox, Target};
use meshbus::core::route::{Retry, RouteSpec, Router, Sink, To, WhenFull};
use meshbus::core::selector::{Selector, TopicFilter};
use meshbus::core::template::{Spelling, Template};
use meshbus::core::{Bus, BusOptions, Change, Envelope, Outcome};
use meshbus::runtime::shutdown::Shutdown;
use meshbus::runtime::supervisor::Supervisor;
use meshbus::schema::registry::Registry;
use meshbus::transport::k8s::K8s;
use meshbus::transport::{Link, Ready, Transport};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::hostile::Hostile;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// The name of the connector.
const EAST: &str = "east";

/// What a route told its sink.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    name: String,
    version: String,
    deleted: bool,
    envelope: Arc<Envelope>,
}

/// How the route's sink answers.
type Decide = Box<dyn FnMut(&Told) -> Outcome + Send>;

/// One process: a bus with one connector to the hostile server, and one route that takes all it brings.
struct Process {
    bus: Bus,
    router: Router,
    supervisor: Supervisor,
    kinds: Arc<Registry>,
    told: Arc<Mutex<Vec<Told>>>,
    mailbox: Arc<Mailbox>,
    /// What routes send to the connector.
    deliveries: Arc<Mailbox>,
}

/// Files that several processes one after the other share.
fn files(hostile: &Hostile) -> TempDir {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("kubeconfig"), hostile.kubeconfig()).unwrap();
    files
}

impl Process {
    /// Starts one whose sink takes everything.
    fn start(files: &TempDir, settings: &str) -> Self {
        Self::start_with(files, settings, Box::new(|_| Outcome::Delivered))
    }

    fn start_with(files: &TempDir, settings: &str, decide: Decide) -> Self {
        let bus = Bus::new(BusOptions { name: "test".into(), ..BusOptions::default() });
        let (told, mailbox) = (Arc::default(), Arc::new(Mailbox::default()));
        let router = Router::new(bus.clone());
        route(&router, "all", &mailbox);
        sink(&mailbox, Arc::clone(&told), decide);
        let kubeconfig = files.path().join("kubeconfig");
        let cursor = files.path().join("cursor.redb");
        let settings = settings.replace("FILE", &cursor.display().to_string());
        let text = format!("kubeconfig: {}\n{settings}", kubeconfig.display());
        let section = Section::from_yaml("test.yaml", &text).unwrap();
        let connector = K8s.client(EAST, &section).unwrap_or_else(|error| panic!("{error}"));
        let kinds = Arc::<Registry>::default();
        let deliveries = Arc::<Mailbox>::default();
        let link = Link {
            name: EAST.into(),
            bus: bus.ingress(EAST, EAST),
            deliveries: Deliveries(Arc::clone(&deliveries)),
            writes: bus.own(EAST.into(), EAST.into(), true),
            kinds: Arc::clone(&kinds),
            ready: Ready::new(),
            shutdown: Shutdown::new(),
            stats: Arc::default(),
        };
        let supervisor = Supervisor::new();
        supervisor.start(EAST, connector, link);
        Self { bus, router, supervisor, kinds, told, mailbox, deliveries }
    }

    /// As a reload that takes the route and its sink away, and has others for them: what the old one had not
    /// delivered yet, nobody was given.
    fn reroute(&mut self) {
        self.router.remove("all");
        self.mailbox.close();
        self.mailbox = Arc::new(Mailbox::default());
        route(&self.router, "another", &self.mailbox);
        sink(&self.mailbox, Arc::clone(&self.told), Box::new(|_| Outcome::Delivered));
    }

    /// Ends it as a shutdown does: what is under way is finished.
    async fn stop(self) {
        self.deliveries.close();
        self.supervisor.stop(EAST, PATIENCE).await;
        self.mailbox.close();
    }

    /// Ends it in the middle of whatever it does.
    async fn kill(self) {
        self.supervisor.stop(EAST, Duration::ZERO).await;
        self.mailbox.close();
    }

    /// The table's objects of a type: by name, with uid, version and data.
    fn table(&self, type_url: &str) -> BTreeMap<String, (String, serde_json::Value)> {
        let selector = Selector {
            scope: Some(EAST.into()),
            type_url: Some(type_url.to_owned().into()),
            ..Selector::default()
        };
        let page = self.bus.list(&selector, None, None, usize::MAX).unwrap();
        let items = page.items.iter().map(|record| {
            let Change::Put(key, version) = &record.envelope.change else { panic!("only puts are listed") };
            let name = key.name.trim_start_matches('/').to_owned();
            (name, (version.to_string(), serde_json::from_slice(&record.envelope.data).unwrap()))
        });
        items.collect()
    }

    /// Names and versions that routes were told, in order; `-` before those that went.
    fn told(&self) -> Vec<String> {
        let told = self.told.lock();
        let mark = |told: &Told| if told.deleted { "-" } else { "" };
        told.iter().map(|told| format!("{}{}@{}", mark(told), told.name, told.version)).collect()
    }

    /// How the connector is.
    fn not_ready(&self) -> Option<String> {
        self.supervisor.status().first().and_then(|status| status.not_ready.clone())
    }

    /// Waits until the table shows what the server has.
    async fn converged(&self, hostile: &Hostile, kind: &str, type_url: &str) {
        wait(&format!("{kind} in the table as on the server"), || {
            let truth: BTreeMap<String, String> = hostile
                .objects(kind)
                .into_iter()
                .map(|(name, object)| (name, object.rv.to_string()))
                .collect();
            let shown: BTreeMap<String, String> =
                self.table(type_url).into_iter().map(|(name, (version, _))| (name, version)).collect();
            truth == shown
        })
        .await;
        for (name, (_, data)) in self.table(type_url) {
            let mut truth = hostile.objects(kind).remove(&name).unwrap().value;
            truth["metadata"].as_object_mut().unwrap().remove("managedFields");
            assert_eq!(data, truth, "{name}");
        }
    }
}

/// Waits until something is so.
async fn wait(what: &str, mut so: impl FnMut() -> bool) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !so() {
        assert!(tokio::time::Instant::now() < until, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn route(router: &Router, name: &str, mailbox: &Arc<Mailbox>) {
    let guarantee =
        Guarantee { assurance: Assurance::AtLeastOnce, identity: true, because: "a test".into() };
    let target = Target { address: None, pipelined: false, guarantee, options: Arc::new(()) };
    let sink = Sink::Connector { name: "out".into(), mailbox: Arc::clone(mailbox), target };
    let spec = RouteSpec {
        name: name.into(),
        from: vec![Source { connector: None, topic: Some(TopicFilter::parse("k8s/#").unwrap()) }],
        predicates: Vec::new(),
        filters: Vec::new(),
        to: vec![To { output: None, sink }],
        retry: Retry { max_attempts: 3, initial: Duration::from_millis(5), max: Duration::from_millis(20) },
        dead_letter: Sink::Bus { topic: Template::parse("dead/{route}", Spelling::Topic).unwrap() },
        when_full: WhenFull::Block,
        in_flight: 64,
    };
    if let Some(worker) = router.set(spec) {
        tokio::spawn(worker.run());
    }
}

fn sink(mailbox: &Arc<Mailbox>, told: Arc<Mutex<Vec<Told>>>, mut decide: Decide) {
    let mut deliveries = Deliveries(Arc::clone(mailbox));
    tokio::spawn(async move {
        let mut batch = Vec::new();
        while deliveries.recv(&mut batch, 8).await > 0 {
            for delivery in batch.drain(..) {
                let (deleted, version) = match &delivery.envelope.change {
                    Change::Delete(_, version, _) => (true, version),
                    Change::Put(_, version) => (false, version),
                    Change::Occurred => panic!("objects are state"),
                };
                let key = delivery.envelope.change.key().unwrap();
                let one = Told {
                    name: key.name.trim_start_matches('/').to_owned(),
                    version: version.to_string(),
                    deleted,
                    envelope: Arc::clone(&delivery.envelope),
                };
                let outcome = decide(&one);
                if outcome == Outcome::Delivered {
                    told.lock().push(one);
                }
                delivery.answer(outcome);
            }
        }
    });
}
