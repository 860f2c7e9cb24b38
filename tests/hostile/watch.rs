//! WATCH: initial state, changes in order, bookmarks, and the ways in which a stream ends.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Shared;
use super::chaos::Fault;
use super::form::Form;
use super::kinds::{EVENT, Target};
use super::list::{Query, unsupported_match, version};
use super::selector::Selector;
use super::status::Refusal;
use super::store::{Change, ChangeType, with_version};

/// What a watch writes to; an error breaks the connection off.
pub(crate) type Lines = mpsc::Sender<Result<Frame<Bytes>, io::Error>>;

/// Pieces of a body on the way to a client.
pub(crate) const LINES_MAX: usize = 64;
/// Changes read under one lock.
const BATCH_MAX: usize = 256;

/// One watch.
#[derive(Debug)]
struct Watch {
    shared: Arc<Shared>,
    target: Target,
    selector: Selector,
    form: Form,
    lines: Lines,
    /// Changes up to here are not sent.
    after: u64,
    /// Index of the next change to look at.
    next: usize,
    bookmarks: bool,
    deadline: Instant,
    trickles: bool,
}

/// Why no more is sent.
#[derive(Debug)]
struct Ended;

/// A watch that may begin: it is answered with 200 and what `run` writes.
#[derive(Debug)]
pub(crate) struct Begin {
    target: Target,
    selector: Selector,
    form: Form,
    asked: u64,
    /// Whether the current state comes first.
    initial: bool,
    end_marked: bool,
    /// Whether the client takes an older state, too.
    any: bool,
    bookmarks: bool,
    timeout: Duration,
}

impl Begin {
    /// Checks the query. A version that is gone is no refusal: it is an ERROR in the stream.
    pub(crate) async fn check(
        shared: &Shared,
        target: &Target,
        query: &Query,
        form: Form,
    ) -> Result<Self, Refusal> {
        let option = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        let flag = |name: &str| matches!(option(name), "true" | "1");
        check_options(shared, query)?;
        let asked = version(option("resourceVersion"))?;
        let streamed = flag("sendInitialEvents");
        if streamed && asked > 0 {
            shared.reach(target.kind, asked).await?;
        }
        let bookmarks = flag("allowWatchBookmarks");
        let seconds = option("timeoutSeconds").parse().unwrap_or(0);
        let timeout = match seconds {
            0 => shared.chaos.time(Duration::from_mins(30), Duration::from_hours(1)),
            seconds => Duration::from_secs(seconds),
        };
        Ok(Self {
            selector: shared.selector(target, query)?,
            target: target.clone(),
            form,
            asked,
            initial: streamed || asked == 0 && !query.contains_key("sendInitialEvents"),
            end_marked: streamed && bookmarks && shared.options.list_bookmark,
            any: option("resourceVersion") == "0",
            bookmarks: bookmarks && target.kind != EVENT,
            timeout,
        })
    }

    /// Whether the client says where it was.
    pub(crate) fn resumes(&self) -> bool {
        self.asked > 0 && !self.initial
    }

    pub(crate) async fn run(self, shared: Arc<Shared>, lines: Lines) {
        shared.watchers.fetch_add(1, Ordering::SeqCst);
        let counted = Arc::clone(&shared);
        let Ended = self.stream(shared, lines).await;
        counted.watchers.fetch_sub(1, Ordering::SeqCst);
    }

    async fn stream(self, shared: Arc<Shared>, lines: Lines) -> Ended {
        let kind = self.target.kind;
        let early = shared.chaos.strikes(Fault::EarlyTimeout);
        let timeout = if early { shared.chaos.time(Duration::ZERO, EARLY_MAX) } else { self.timeout };
        let stale = if self.initial && self.any { shared.stale(kind) } else { None };
        let (after, next, floor, initial) = {
            let state = shared.state.lock();
            let current = state.rv(kind);
            let from = if self.initial { stale.unwrap_or(current) } else { self.asked.max(1) };
            // No version and no initial state: from now on.
            let from = if self.asked == 0 && !self.initial { current } else { from };
            let objects = if self.initial { state.objects_at(kind, from) } else { BTreeMap::default() };
            (from, state.first_after(kind, from), state.watchable_from(kind), objects)
        };
        let mut watch = Watch {
            trickles: shared.chaos.strikes(Fault::Trickle),
            shared,
            target: self.target,
            selector: self.selector,
            form: self.form,
            lines,
            after,
            next,
            bookmarks: self.bookmarks,
            deadline: Instant::now() + timeout,
        };
        if after < floor && !self.initial {
            let refusal = Refusal::watch_too_old(after, floor, kind != EVENT);
            return watch.error(&refusal).await;
        }
        let prefix = watch.prefix();
        for (key, object) in initial {
            if key.starts_with(&prefix) && watch.selector.matches(&object) {
                let shown = watch.form.object(kind, &object);
                if let Err(ended) = watch.send("ADDED", &shown).await {
                    return ended;
                }
            }
        }
        if self.end_marked
            && let Err(ended) = watch.bookmark(true).await
        {
            return ended;
        }
        watch.follow().await
    }
}

/// Longest life of a watch that ends early.
const EARLY_MAX: Duration = Duration::from_millis(500);

impl Watch {
    /// Sends changes as they come, until the stream ends.
    async fn follow(mut self) -> Ended {
        let mut changed = self.shared.changed.subscribe();
        let mut bookmark = tokio::time::interval(self.shared.options.bookmark_every);
        bookmark.reset();
        loop {
            changed.mark_unchanged();
            loop {
                let (batch, more) = self.batch();
                for change in batch {
                    if let Err(ended) = self.change(&change).await {
                        return ended;
                    }
                }
                if !more {
                    break;
                }
            }
            tokio::select! {
                woken = changed.changed() => if woken.is_err() { return Ended },
                _ = bookmark.tick(), if self.bookmarks => {
                    let unlucky = self.shared.chaos.strikes(Fault::NoBookmark);
                    if !unlucky && let Err(ended) = self.bookmark(false).await {
                        return ended;
                    }
                }
                () = tokio::time::sleep_until(self.deadline) => {
                    if self.bookmarks && !self.shared.chaos.strikes(Fault::NoBookmark) {
                        // The stream ends either way.
                        drop(self.bookmark(false).await);
                    }
                    return Ended;
                }
                () = self.lines.closed() => return Ended,
            }
        }
    }

    /// The next changes of this kind, and whether there may be more.
    fn batch(&mut self) -> (Vec<Change>, bool) {
        let state = self.shared.state.lock();
        let (kind, after) = (self.target.kind, self.after);
        let mut batch = Vec::new();
        while let Some(change) = state.changes().get(self.next) {
            self.next += 1;
            if change.kind == kind && change.rv > after {
                batch.push(change.clone());
            }
            if batch.len() == BATCH_MAX {
                return (batch, true);
            }
        }
        (batch, false)
    }

    fn prefix(&self) -> String {
        self.target.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default()
    }

    /// One change as this watch sees it: what leaves a selector is deleted, what enters is added.
    async fn change(&mut self, change: &Change) -> Result<(), Ended> {
        self.after = change.rv;
        if !change.key.starts_with(&self.prefix()) {
            return Ok(());
        }
        let seen = |object: &Option<Arc<Value>>| {
            object.as_ref().is_some_and(|object| self.selector.matches(object))
        };
        let (word, object) = match (seen(&change.old), seen(&change.new)) {
            (false, false) => return Ok(()),
            (false, true) => ("ADDED", change.object()),
            (true, true) => ("MODIFIED", change.object()),
            (true, false) => {
                let leaves = change.change_type() == ChangeType::Modified;
                let last = change.old.as_ref().filter(|_| leaves);
                ("DELETED", last.map_or_else(|| change.object(), |old| with_version(old, change.rv)))
            }
        };
        if self.shared.chaos.strikes(Fault::GoneInStream) {
            let floor = self.shared.forget();
            return Err(self.error(&Refusal::watch_too_old(change.rv, floor, change.kind != EVENT)).await);
        }
        let shown = self.form.object(self.target.kind, &object);
        self.send(word, &shown).await
    }

    /// The bookmark says that all up to the newest version was seen, unless changes are waiting.
    async fn bookmark(&mut self, end: bool) -> Result<(), Ended> {
        let object = {
            let state = self.shared.state.lock();
            let (kind, after) = (self.target.kind, self.after);
            let waiting = state.changes().get(self.next..).unwrap_or_default();
            if !waiting.iter().any(|change| change.kind == kind && change.rv > after) && !end {
                self.after = self.after.max(state.rv(kind));
            }
            self.form.bookmark(&state.kinds[kind], self.after, end)
        };
        self.send("BOOKMARK", &object).await
    }

    async fn error(&mut self, refusal: &Refusal) -> Ended {
        // The stream ends either way.
        drop(self.write_line(&line("ERROR", &refusal.body)).await);
        Ended
    }

    async fn send(&mut self, word: &str, object: &Value) -> Result<(), Ended> {
        let line = line(word, object);
        if self.shared.chaos.strikes(Fault::CutInLine) {
            let half = line.len() / 2;
            self.write(line.slice(..half.max(1))).await?;
            return Err(self.cut().await);
        }
        self.write_line(&line).await?;
        if self.shared.chaos.strikes(Fault::CutBetweenLines) {
            return Err(self.cut().await);
        }
        Ok(())
    }

    async fn cut(&self) -> Ended {
        // Whoever reads is gone, or gets the error.
        drop(self.lines.send(Err(io::ErrorKind::ConnectionAborted.into())).await);
        Ended
    }

    async fn write_line(&self, line: &Bytes) -> Result<(), Ended> {
        if !self.trickles {
            return self.write(line.clone()).await;
        }
        for piece in self.shared.pieces(line) {
            self.write(piece).await?;
            tokio::time::sleep(self.shared.chaos.time(Duration::ZERO, Duration::from_millis(2))).await;
        }
        Ok(())
    }

    /// A client that does not read is cut off, so that it holds nothing up.
    async fn write(&self, bytes: Bytes) -> Result<(), Ended> {
        let sending = self.lines.send(Ok(Frame::data(bytes)));
        match tokio::time::timeout(self.shared.options.slow_watcher, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Ended),
            Err(_) => {
                self.shared.slow_watchers.fetch_add(1, Ordering::SeqCst);
                Err(Ended)
            }
        }
    }
}

fn line(word: &str, object: &Value) -> Bytes {
    let mut line = json!({"type": word, "object": object}).to_string();
    line.push('\n');
    Bytes::from(line)
}

fn check_options(shared: &Shared, query: &Query) -> Result<(), Refusal> {
    let matches = query.get("resourceVersionMatch").map(String::as_str).unwrap_or_default();
    let streamed = query.contains_key("sendInitialEvents");
    let forbidden = |field: &str, what: &str| Err(Refusal::forbidden_option(field, what));
    if streamed && matches != "NotOlderThan" {
        let what = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        return forbidden("resourceVersionMatch", what);
    }
    if streamed && !shared.options.watch_list {
        let what = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
        return forbidden("sendInitialEvents", what);
    }
    match matches {
        "" => Ok(()),
        _ if !streamed => {
            let what = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            forbidden("resourceVersionMatch", what)
        }
        "NotOlderThan" if query.contains_key("continue") => {
            forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided")
        }
        "NotOlderThan" => Ok(()),
        other => Err(unsupported_match(other)),
    }
}
