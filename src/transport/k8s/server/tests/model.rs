//! A model of an informer, in step with the table whatever happens: it lists in pages, watches from there, goes on where
//! its watch ended, and lists again when it is told that its position is gone.
//!
//! Requests are answered and bodies polled by the test's own task on a clock that stands, so that a seed gives one order
//! of writes, reads, bookmarks and ends: nothing is read ahead, and a slow reader's queue overflows where the dice say.
//! Only whether a change or a bookmark comes first where both are due is left to the runtime's own dice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use futures_util::{FutureExt, StreamExt, stream};
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::super::access::Caller;
use super::super::answer::{Answer, Pieces};
use super::super::call::{About, Call, Resource};
use super::super::testing::{config, delete, link, put};
use super::super::{Shared, list, parse, shared, watch};
use super::{MAP, map};
use crate::core::bus::{Bus, BusOptions};
use crate::core::log::{MemoryLog, RingBound};
use crate::core::state::StateBound;
use crate::core::{Key, Seq};
use crate::transport::k8s::codec::status::Status;

/// Schedules in one run; `MESHBUS_SEED` names the only one.
const SEEDS: u64 = 400;
const STEPS: usize = 150;
/// Reads after which a client must be in step that nothing disturbs any more.
const CALM: usize = 100;
/// Names of objects: pages have three of them.
const NAMES: u8 = 9;
/// What is long enough for a bookmark.
const BOOKMARK: Duration = Duration::from_secs(1);
/// How far below all earlier ones a bus begins whose clock was set back: further than it will come. Had it come past an
/// earlier position, that could not be told from one of its own.
const BACK: u64 = 10_000;
const SETTINGS: &str = "max_queued: 8\nbookmark_interval: 1s";

/// The position of the last change of each object that a client sees.
type Table = BTreeMap<String, u64>;

/// The server there is now, and what it had at each position.
struct World {
    dice: fastrand::Rng,
    bus: Bus,
    shared: Arc<Shared>,
    /// Of those who see all, and of those who select the gold.
    now: [Table; 2],
    history: BTreeMap<u64, [Table; 2]>,
    /// The lowest and the highest position there ever was.
    lowest: u64,
    highest: u64,
    /// Watches that ended because they were too slow.
    slow: u64,
}

/// An informer.
struct Client {
    /// Whether it selects the gold alone.
    selects: bool,
    /// Whether it takes its lists from watches.
    streams: bool,
    table: Table,
    /// The position to go on from.
    at: Option<u64>,
    doing: Doing,
    /// How often it was told that its position is gone, and how many bookmarks.
    gone: u64,
    bookmarks: u64,
}

enum Doing {
    Nothing,
    /// Listing: the position of the list, what was found, the token of the next page.
    Listing(u64, Table, String),
    /// Watching. What is there at first takes the place of what it has where that is collected.
    Watching(Pieces, Option<Table>),
}

fn bus(start: u64) -> Bus {
    let changes = RingBound { max: 8, ..RingBound::default() };
    let state = StateBound { max_tombstones: 4, ..StateBound::default() };
    let options = BusOptions { name: "test".into(), changes, state, ..BusOptions::default() };
    let log = MemoryLog::starting_at(Seq(start), changes, options.events);
    Bus::with_log(options, Box::new(log))
}

impl World {
    fn new(seed: u64) -> Self {
        let start = 1_000_000;
        let bus = bus(start);
        let shared = Arc::new(shared(config(SETTINGS), &link(&bus).0));
        let (now, history) = (Default::default(), BTreeMap::from([(start - 1, Default::default())]));
        let dice = fastrand::Rng::with_seed(seed);
        Self { dice, bus, shared, now, history, lowest: start, highest: start, slow: 0 }
    }

    /// Another bus at the address, which knows nothing and begins above or below all before it.
    fn replace(&mut self) {
        let start =
            if self.dice.bool() { self.highest + self.dice.u64(1..1000) } else { self.lowest - BACK };
        self.slow += self.shared.stats.lost.get();
        self.bus = bus(start);
        self.shared = Arc::new(shared(config(SETTINGS), &link(&self.bus).0));
        self.now = Default::default();
        (self.lowest, self.highest) = (self.lowest.min(start), self.highest.max(start));
        self.history.insert(start - 1, Default::default());
    }

    async fn write(&mut self) {
        let name = self.dice.u8(..NAMES).to_string();
        let key = format!("web/{name}");
        let seq = match self.dice.u8(..10) {
            0..3 => {
                let Some(seq) = delete(&self.bus, MAP, &key).await else { return };
                for table in &mut self.now {
                    table.remove(&name);
                }
                seq
            }
            // Of another kind: it moves the position only.
            3 => put(&self.bus, "core/v1/Namespace", "/x", &json!({"metadata": {}})).await,
            _ => {
                let gold = self.dice.bool();
                let tier = if gold { "gold" } else { "tin" };
                let seq = put(&self.bus, MAP, &key, &map(&name, json!({"tier": tier}))).await;
                let [all, selected] = &mut self.now;
                all.insert(name.clone(), seq.0);
                selected.remove(&name);
                if gold {
                    selected.insert(name, seq.0);
                }
                seq
            }
        };
        self.highest = self.highest.max(seq.0);
        self.history.insert(seq.0, self.now.clone());
    }

    /// Answers a GET of the objects of the namespace.
    async fn get(&self, query: &str) -> Result<Answer, Status> {
        let place = parse::place("/api/v1/namespaces/web/configmaps", query)?;
        let scope = Key::LOCAL;
        let kind = self.shared.kinds.resolve(&self.shared, &scope.into(), "", "v1", "configmaps").unwrap();
        let resource =
            Resource { kind, namespace: "web".into(), name: None, subresource: None, watch: false };
        let call = Call {
            scope: scope.into(),
            base: String::new(),
            about: About::Resource(resource.clone()),
            method: Method::GET,
            query: place.query,
            headers: HeaderMap::new(),
            body: bytes::Bytes::new(),
        };
        let caller = Caller::of(&self.shared, &call.headers, None)?;
        if call.flag("watch") {
            return watch::answer(&self.shared, &caller, &call, &resource).await;
        }
        let permit = Arc::clone(&self.shared.in_flight).try_acquire_owned().unwrap();
        list::answer(&self.shared, &caller, &call, &resource, permit).await
    }
}

fn pieces(answer: Answer) -> Pieces {
    match answer.into_body().into_parts() {
        Either::Left(whole) => stream::iter([whole]).boxed(),
        Either::Right(pieces) => pieces,
    }
}

impl Client {
    fn new(dice: &mut fastrand::Rng) -> Self {
        let (selects, streams) = (dice.bool(), dice.u8(..3) == 0);
        Self {
            selects,
            streams,
            table: Table::new(),
            at: None,
            doing: Doing::Nothing,
            gone: 0,
            bookmarks: 0,
        }
    }

    /// Asks for one thing, or reads one frame or page. `false` when there is nothing to read now.
    async fn read(&mut self, world: &World) -> bool {
        // The budget of one turn would be used up after many.
        tokio::task::yield_now().await;
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Nothing => match self.at {
                Some(at) => self.watch(world, &format!("resourceVersion={at}"), None).await,
                None if self.streams => {
                    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
                    self.watch(world, query, Some(Table::new())).await;
                }
                None => self.page(world, None).await,
            },
            Doing::Listing(at, found, token) => self.page(world, Some((at, found, token))).await,
            Doing::Watching(mut pieces, initial) => match pieces.next().now_or_never() {
                None => {
                    self.doing = Doing::Watching(pieces, initial);
                    return false;
                }
                Some(None) => {}
                Some(Some(frame)) => {
                    self.doing = Doing::Watching(pieces, initial);
                    for line in frame.split_inclusive(|byte| *byte == b'\n') {
                        self.take(world, &serde_json::from_slice(line).expect("a whole line"));
                    }
                }
            },
        }
        true
    }

    fn selector(&self) -> &'static str {
        if self.selects { "&labelSelector=tier%3Dgold" } else { "" }
    }

    async fn watch(&mut self, world: &World, query: &str, initial: Option<Table>) {
        let more = "watch=1&allowWatchBookmarks=true&timeoutSeconds=4";
        let answer = world.get(&format!("{more}&{query}{}", self.selector())).await.expect("a watch");
        self.doing = Doing::Watching(pieces(answer), initial);
    }

    async fn page(&mut self, world: &World, before: Option<(u64, Table, String)>) {
        let token = before.as_ref().map_or(String::new(), |(.., token)| format!("&continue={token}"));
        // Where it cannot go on with the list it begins anew.
        let Ok(answer) = world.get(&format!("limit=3{token}{}", self.selector())).await else { return };
        if answer.status() != 200 {
            return;
        }
        let body: Vec<u8> = pieces(answer).collect::<Vec<_>>().await.concat();
        let list: Value = serde_json::from_slice(&body).unwrap();
        let at = number(&list["metadata"]["resourceVersion"]);
        let mut found = before.map_or(Table::new(), |(first, found, _)| {
            assert_eq!(at, first, "all pages show one position");
            found
        });
        found.extend(list["items"].as_array().unwrap().iter().map(entry));
        match list["metadata"]["continue"].as_str() {
            Some(token) => self.doing = Doing::Listing(at, found, token.to_owned()),
            None => self.reached(world, at, Some(found)),
        }
    }

    fn take(&mut self, world: &World, line: &Value) {
        let Doing::Watching(_, initial) = &mut self.doing else {
            panic!("more after the end: {line}");
        };
        let metadata = &line["object"]["metadata"];
        match line["type"].as_str().unwrap() {
            "ERROR" => {
                assert_eq!(
                    (&line["object"]["code"], &line["object"]["reason"]),
                    (&json!(410), &json!("Expired"))
                );
                (self.at, self.doing) = (None, Doing::Nothing);
                self.gone += 1;
            }
            "BOOKMARK" => {
                self.bookmarks += 1;
                let at = number(&metadata["resourceVersion"]);
                let found = initial.take();
                self.reached(world, at, found);
            }
            what => {
                let (name, seq) = entry(&line["object"]);
                let table = initial.as_mut().unwrap_or(&mut self.table);
                if what == "DELETED" {
                    table.remove(&name)
                } else {
                    table.insert(name, seq)
                };
                if initial.is_none() {
                    assert!(self.at < Some(seq), "in order: {line} after {:?}", self.at);
                    self.at = Some(seq);
                }
            }
        }
    }

    /// A list or a bookmark says that it has all up to here.
    fn reached(&mut self, world: &World, at: u64, found: Option<Table>) {
        assert!(found.is_some() || self.at <= Some(at), "back from {:?} to {at}", self.at);
        self.table = found.unwrap_or_else(|| std::mem::take(&mut self.table));
        self.at = Some(at);
        assert_eq!(self.table, world.history[&at][usize::from(self.selects)], "what was there at {at}");
    }
}

fn number(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

fn entry(object: &Value) -> (String, u64) {
    let metadata = &object["metadata"];
    (metadata["name"].as_str().unwrap().to_owned(), number(&metadata["resourceVersion"]))
}

/// One schedule, and then calm: by the end of it the client has what the table holds. Gives how often a position was
/// gone, a watch too slow, and a bookmark told.
async fn play(seed: u64) -> [u64; 3] {
    let mut world = World::new(seed);
    let mut client = Client::new(&mut world.dice);
    // Some read as fast as is written, others fall behind.
    let eagerness = world.dice.usize(5..60);
    for _ in 0..STEPS {
        match world.dice.usize(..100) {
            0..2 => {
                world.replace();
                // Its connection breaks; what it has of a list it goes on with.
                if matches!(client.doing, Doing::Watching(..)) {
                    client.doing = Doing::Nothing;
                }
            }
            2..12 => tokio::time::advance(BOOKMARK).await,
            step if step < 12 + eagerness => drop(client.read(&world).await),
            step => {
                // Now and then more at once than may wait for a watch.
                let times = if step % 10 == 0 { 10 } else { 1 };
                for _ in 0..times {
                    world.write().await;
                }
            }
        }
    }
    for _ in 0..CALM {
        if !client.read(&world).await {
            break;
        }
    }
    assert_eq!(client.table, world.now[usize::from(client.selects)], "in step at last");
    [client.gone, world.slow + world.shared.stats.lost.get(), client.bookmarks]
}

#[tokio::test(start_paused = true)]
async fn an_informer_ends_with_what_the_table_holds_whatever_happens() {
    let only = std::env::var("MESHBUS_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seeds = only.map_or(0..SEEDS, |seed| seed..seed + 1);
    let mut seen = [0; 3];
    for seed in seeds {
        let played = std::panic::AssertUnwindSafe(play(seed)).catch_unwind().await;
        let Ok(played) = played else { panic!("repeat with MESHBUS_SEED={seed}") };
        seen.iter_mut().zip(played).for_each(|(sum, one)| *sum += one);
    }
    println!("[gone, too slow, bookmarks]: {seen:?}");
    assert!(only.is_some() || seen.iter().all(|times| *times >= SEEDS), "each happens: {seen:?}");
}
