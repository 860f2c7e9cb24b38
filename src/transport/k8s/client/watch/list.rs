//! Lists: of a position that was kept, and of what there is now.

use bytestring::ByteString;
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use http::StatusCode;
use tracing::{info, warn};

use super::super::super::codec::envelope::{Before, Describing};
use super::super::super::codec::received::{Received, page};
use super::super::super::config::Start;
use super::super::api::{Failure, PAGE_MAX, segment};
use super::super::cursor::Saved;
use super::batch::Item;
use super::{Subject, Trouble, Watch};
use crate::core::Timestamp;

/// Objects that are published at a time.
const BATCH: usize = 256;
/// Lists whose pages expire before they are read; then one without pages is asked for.
const EXPIRED_MAX: u32 = 3;

pub(super) type Names = HashSet<ByteString, RandomState>;

/// A list that was read to its end.
pub(super) struct Read {
    pub(super) position: ByteString,
    /// Of the objects in it.
    pub(super) named: Names,
    /// What is to be told at its end.
    pub(super) held: Vec<Item>,
}

/// Where the next page of a list is.
#[derive(Debug)]
struct Pages {
    first: String,
    next: Option<String>,
    limit: Option<usize>,
}

impl Watch<'_> {
    /// Begins where it was left, or anew.
    pub(super) async fn start(&mut self, subject: &Subject) -> Result<(), Trouble> {
        let saved = self.cursors.load(&self.cursor).await;
        let Some(mut saved) = saved.map_err(Trouble::new)? else {
            return self.relist(subject, !self.memory.rewound).await;
        };
        let position = saved.position.clone();
        if position.is_empty() {
            self.memory.known = saved.known.unwrap_or_default();
            return self.relist(subject, !self.memory.rewound).await;
        }
        if self.restore(subject, &mut saved).await? {
            self.around.stats.following.listed.add(1);
            info!(watch = self.cursor, %position, "goes on where it was left");
            self.memory.position = Some(position);
            return Ok(());
        }
        warn!(watch = self.cursor, %position, "the server has forgotten the position that was kept: changes between are told as one");
        self.around.stats.following.gone.add(1);
        if let Some(known) = saved.known.take() {
            self.memory.known = known;
        } else {
            if !subject.reading.event {
                warn!(
                    watch = self.cursor,
                    "what was deleted meanwhile is not told: a Lease keeps a position and no names; cursor: {{store: file}} keeps both"
                );
            }
            self.memory.floor = number(&position);
        }
        self.relist(subject, false).await
    }

    /// Fills the table with what there was at the position that was kept, without telling routes. `false` where the
    /// server cannot list it any more.
    async fn restore(&mut self, subject: &Subject, saved: &mut Saved) -> Result<bool, Trouble> {
        let exact = format!("resourceVersion={}&resourceVersionMatch=Exact", segment(&saved.position));
        let limit = Some(self.around.config.page_size);
        let mut pages = Pages { first: exact.clone(), next: None, limit };
        let mut named = Names::default();
        let kept = saved.known.as_ref();
        loop {
            let (objects, _) = match self.page(subject, &mut pages).await {
                Ok(read) => read,
                // It may be only the page's token that is gone.
                Err(failure) if failure.is_gone() && pages.next.is_some() && pages.limit.is_some() => {
                    pages = Pages { first: exact.clone(), next: None, limit: None };
                    continue;
                }
                Err(failure) if failure.is_gone() || too_new(&failure) => break,
                // Not every server serves exact lists.
                Err(failure) if is_bad(&failure) => break,
                Err(failure) => return Err(failure.into()),
            };
            let mut items = Vec::with_capacity(objects.len());
            for object in &objects {
                let name = Describing::name(&object.namespace, &object.name);
                self.memory.known.remove(&name);
                if let Some(mut item) = self.counted(|watch| watch.put(subject, object)).flatten() {
                    item.quiet = true;
                    let known = self.memory.known.get(&name);
                    if kept.and_then(|kept| kept.get(&name)) == known {
                        item.step.change = None;
                    }
                    items.push(item);
                }
                named.insert(name);
            }
            self.publish_all(items).await;
            if pages.next.is_none() {
                let ahead = kept.into_iter().flatten().filter(|(name, _)| !named.contains(*name));
                self.memory.ahead = ahead.map(|(name, known)| (name.clone(), known.clone())).collect();
                for name in self.unheld(subject, &named) {
                    let gone = self.counted(|watch| watch.missing(subject, name)).unwrap_or_default();
                    self.publish_all(gone.into_iter().map(Item::silent).collect()).await;
                }
                return Ok(true);
            }
        }
        self.memory.known.clear();
        self.memory.ahead.clear();
        Ok(false)
    }

    /// Lists what there is, and tells what differs from what is known.
    pub(super) async fn relist(&mut self, subject: &Subject, first: bool) -> Result<(), Trouble> {
        let read = match self.read(subject, first).await {
            Ok(read) => read,
            Err(failure) => {
                if failure.code() == Some(StatusCode::NOT_FOUND) {
                    self.around.kinds.miss();
                }
                return Err(failure.into());
            }
        };
        let Read { position, named, held } = read;
        self.publish_all(held).await;
        for name in self.unnamed(subject, &named) {
            let gone = self.counted(|watch| watch.missing(subject, name)).unwrap_or_default();
            self.publish_all(gone).await;
        }
        self.around.stats.following.listed.add(1);
        // Of Events each matters; of other objects only what they are in the end.
        self.around.stats.following.gaps.add(u64::from(!first && subject.reading.event));
        self.publish_all(vec![Item::position(position.clone())]).await;
        self.memory.position = Some(position);
        self.memory.floor = None;
        self.memory.ahead.clear();
        self.around.board.good(self.number);
        Ok(())
    }

    /// Reads a list in the way that is cheapest for the server.
    async fn read(&mut self, subject: &Subject, first: bool) -> Result<Read, Failure> {
        if let Some(read) = self.read_streamed(subject, first).await? {
            return Ok(read);
        }
        let mut expired = 0;
        loop {
            let limit = (expired < EXPIRED_MAX).then_some(self.around.config.page_size);
            match self.read_pages(subject, first, limit).await {
                Err(failure) if failure.is_gone() && limit.is_some() => expired += 1,
                read => return read,
            }
        }
    }

    /// Reads a list page by page.
    async fn read_pages(
        &mut self,
        subject: &Subject,
        first: bool,
        limit: Option<usize>,
    ) -> Result<Read, Failure> {
        let mut pages = Pages { first: String::new(), next: None, limit };
        let (mut named, mut events) = (Names::default(), Vec::new());
        loop {
            let (objects, position) = self.page(subject, &mut pages).await?;
            let mut items = Vec::with_capacity(objects.len());
            for object in objects {
                named.insert(Describing::name(&object.namespace, &object.name));
                if subject.reading.event {
                    events.push(object);
                } else {
                    items.extend(self.listed(subject, &object, first));
                }
            }
            self.publish_all(items).await;
            if pages.next.is_none() {
                let held = self.in_order(subject, events, first);
                return Ok(Read { position, named, held });
            }
        }
    }

    /// A list is in order of names; Events are told in the order in which they happened.
    pub(super) fn in_order(
        &mut self,
        subject: &Subject,
        mut events: Vec<Received>,
        first: bool,
    ) -> Vec<Item> {
        events.sort_by_key(|event| number(&event.version));
        events.iter().flat_map(|event| self.listed(subject, event, first)).collect()
    }

    /// What an object of a list is to be told as; nothing where the table has it already.
    pub(super) fn listed(&mut self, subject: &Subject, object: &Received, first: bool) -> Vec<Item> {
        let name = Describing::name(&object.namespace, &object.name);
        let key = subject.describing.key(&name);
        let before = self.memory.known.get(&name).cloned();
        let same = |before: &Before| *before.uid == *object.uid && *before.version == *object.version;
        if before.as_ref().is_some_and(same) {
            if self.around.bus.get(&key).is_some() {
                return Vec::new();
            }
            // Routes know it; the table was lost with the process.
            self.memory.known.remove(&name);
            let item = self.counted(|watch| watch.put(subject, object)).flatten();
            return item.map(Item::silent).into_iter().collect();
        }
        let before = before.or_else(|| self.memory.ahead.get(&name).cloned());
        let trace = before.and_then(|before| self.counted(|watch| watch.traced(subject, &name, &before)));
        let mut items: Vec<Item> = trace.flatten().into_iter().collect();
        if let Some(mut item) = self.counted(|watch| watch.put(subject, object)).flatten() {
            let told = self.memory.floor.is_some_and(|floor| number(&object.version) <= Some(floor));
            let left_out = first && self.too_old(object);
            self.around.stats.following.held_back.add(u64::from(left_out));
            item.quiet |= told || left_out;
            self.slow_down(subject, object, &mut item);
            items.push(item);
        }
        items
    }

    /// Whether the very first start leaves it out.
    fn too_old(&self, object: &Received) -> bool {
        match self.config.start {
            Start::All => false,
            Start::Now => true,
            Start::Since(age) => object.time.as_ref().map(Timestamp::elapsed).is_none_or(|old| old > age.0),
        }
    }

    /// Reads one page: the objects in it that are ours, and the position it shows.
    async fn page(
        &mut self,
        subject: &Subject,
        pages: &mut Pages,
    ) -> Result<(Vec<Received>, ByteString), Failure> {
        let mut query = self.query("");
        match &pages.next {
            Some(token) => query = format!("{query}&continue={}", segment(token)),
            None if !pages.first.is_empty() => query = format!("{query}&{}", pages.first),
            None => {}
        }
        if let Some(limit) = pages.limit {
            query = format!("{query}&limit={limit}");
        }
        let path = format!("{}{}", subject.path, query.replacen("?&", "?", 1));
        let body = self.around.api.get(&path, self.accept(), PAGE_MAX).await?;
        let broken = |reason: String| Failure::Broken(format!("{path}: {reason}"));
        let text = std::str::from_utf8(&body).map_err(|error| broken(error.to_string()))?;
        let page = page(text).map_err(|error| broken(error.to_string()))?;
        if page.metadata.resource_version.is_empty() {
            return Err(broken("the list has no resourceVersion".to_owned()));
        }
        pages.next = Some(page.metadata.next.into_owned()).filter(|token| !token.is_empty());
        let mut objects = Vec::new();
        for raw in page.items.iter().flatten() {
            if raw.get().len() > self.around.config.max_object.bytes() {
                self.around.stats.oversize.add(1);
                continue;
            }
            let read = self.counted(|_| Received::read(raw, &subject.reading));
            objects.extend(read.filter(|object| subject.covers(object)));
        }
        Ok((objects, page.metadata.resource_version.as_ref().into()))
    }

    /// Objects that are known, or in the table, and not among those named.
    fn unnamed(&self, subject: &Subject, named: &Names) -> Vec<ByteString> {
        let told = self.memory.known.keys().chain(self.memory.ahead.keys());
        let told = told.filter(|name| !named.contains(*name)).cloned();
        let mut all: Vec<ByteString> = told.chain(self.unheld(subject, named)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Objects in the table that are not among those named.
    fn unheld(&self, subject: &Subject, named: &Names) -> Vec<ByteString> {
        let bus = self.around.bus;
        let snapshot = bus.snapshot();
        let names = snapshot.names(bus.scope(), &subject.describing.type_url, None);
        names.filter(|name| !named.contains(*name)).cloned().collect()
    }

    /// Publishes in batches, no more than there is room for.
    pub(super) async fn publish_all(&mut self, items: Vec<Item>) {
        let most = BATCH.min(self.around.config.in_flight);
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            let batch: Vec<Item> = items.by_ref().take(most).collect();
            self.room(batch.len()).await;
            self.publish(batch).await;
        }
    }

    /// What was read, or `None` and counted where that is not possible.
    pub(super) fn counted<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, crate::core::DecodeError>,
    ) -> Option<T> {
        let read = read(self);
        if let Err(error) = &read {
            self.around.stats.malformed.add(1);
            warn!(watch = self.cursor, %error, "an object cannot be read");
        }
        read.ok()
    }
}

impl Subject {
    /// Whether the object is in one of the namespaces asked for.
    pub(super) fn covers(&self, object: &Received) -> bool {
        self.only.is_empty() || self.only.contains(&object.namespace)
    }
}

/// A version as a number, which those of API servers are: only so can they be put in order.
fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}

/// Whether the server has not come to the position yet, or never will: it was set back from a backup.
fn too_new(failure: &Failure) -> bool {
    let Failure::Refused(refusal) = failure else { return false };
    let details = refusal.status.details.as_ref();
    details
        .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "ResourceVersionTooLarge"))
}

pub(super) fn is_bad(failure: &Failure) -> bool {
    matches!(failure.code(), Some(StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY))
}
