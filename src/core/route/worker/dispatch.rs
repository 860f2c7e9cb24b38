//! How a worker hands deliveries to sinks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Worker;
use crate::core::delivery::{Answers, Delivery, Outcome, Reason};
use crate::core::envelope::{Envelope, Key};
use crate::core::publish::Origin;
use crate::core::route::lanes::{JobId, Recall};
use crate::core::route::{KeyAt, RouteSpec, Sink, sink};
use crate::core::topic::Topic;

/// Connectors whose outbox is kept for the next turn.
const OUTBOXES: usize = 64;

impl Worker {
    /// Hands on what may go, up to each route's in-flight limit.
    pub(super) fn send(&mut self) {
        loop {
            let routes = &self.routes;
            let may_send =
                |seat: usize| routes.get(seat).and_then(Option::as_ref).is_some_and(super::Route::may_send);
            let Some((id, recall)) = self.lanes.pop(may_send) else { break };
            self.dispatch(id, recall);
        }
        for (mailbox, deliveries) in &mut self.outbox {
            if !deliveries.is_empty() {
                mailbox.send(deliveries.drain(..));
            }
        }
        if self.outbox.len() > OUTBOXES {
            self.outbox.clear();
        }
    }

    fn dispatch(&mut self, id: JobId, recall: Option<Recall>) {
        let Some(job) = self.jobs.get(id) else { return };
        let Some(task) = self.tasks.get_mut(job.task) else { return };
        let Some(Some(route)) = self.routes.get_mut(task.seat) else { return };
        route.under_way += 1;
        let answers: Arc<dyn Answers> = Arc::clone(&self.inbox) as Arc<dyn Answers>;
        let is_gone = |spec: &RouteSpec| matches!(spec.sink(job.to), Some(Sink::Connector { mailbox, .. }) if mailbox.is_closed());
        if is_gone(&task.spec) {
            // A reload took the connector away: the route as it is now says where this goes.
            task.spec = Arc::clone(&route.spec);
            if is_gone(&task.spec) && route.removed {
                // It took the route away with it: who published this must not wait for either.
                return self.let_go(id);
            }
        }
        let spec = Arc::clone(&task.spec);
        let Some(sink) = spec.sink(job.to) else { return answers.answer(id as u64, Outcome::Filtered) };
        let (envelope, seq) = (Arc::clone(&job.envelope), task.record.seq);
        let address = match sink.render(&envelope, &spec.name) {
            Ok(address) => address,
            Err(reason) => return self.refused(id, reason),
        };
        match sink {
            Sink::Connector { mailbox, target, .. } => {
                let (route, options) = (spec.name.clone(), Arc::clone(&target.options));
                let mut delivery = Delivery::new(envelope, seq, route, options, answers, id as u64);
                delivery.address = address;
                delivery.recall = recall;
                delivery.attempt = job.rejections + job.absences + 1;
                match self.outbox.iter_mut().find(|(have, _)| Arc::ptr_eq(have, mailbox)) {
                    Some((_, deliveries)) => deliveries.push(delivery),
                    None => self.outbox.push((Arc::clone(mailbox), vec![delivery])),
                }
            }
            Sink::Bus { .. } => {
                let topic = address.unwrap_or_default();
                self.republish(id, &envelope, &topic, None, &recall.unwrap_or_default());
            }
            Sink::State { key_at, .. } => {
                let (topic, key_at) = (address.unwrap_or_default(), Some(*key_at));
                self.republish(id, &envelope, &topic, key_at, &recall.unwrap_or_default());
            }
        }
    }

    /// Ends a job that nothing can deliver any more; its source keeps the event or sends it again.
    fn let_go(&mut self, id: JobId) {
        self.returned(id);
        self.finish(id, Outcome::Undelivered("its route and connector were removed".into()));
    }

    /// Publishes a job's envelope on the bus, as an event or as the state of a key; its receipt answers the job.
    fn republish(
        &mut self,
        id: JobId,
        envelope: &Envelope,
        topic: &str,
        key_at: Option<KeyAt>,
        recall: &Recall,
    ) {
        if recall.load(Ordering::Relaxed) {
            let behind = Outcome::Undelivered("an earlier one of its key failed".into());
            return self.inbox.answer(id as u64, behind);
        }
        let Some(task) = self.jobs.get(id).and_then(|job| self.tasks.get(job.task)) else { return };
        let Some(Some(route)) = self.routes.get(task.seat) else { return };
        let topic = match Topic::parse(topic) {
            Ok(topic) => topic,
            Err(error) => return self.refused(id, error.to_string().into()),
        };
        let fresh = match key_at {
            None => sink::republished(envelope, topic),
            Some(key_at) => match sink::retained(&self.bus, envelope, topic, key_at) {
                Ok(Some(change)) => change,
                Ok(None) => return self.inbox.answer(id as u64, Outcome::Filtered),
                Err(reason) => return self.refused(id, reason),
            },
        };
        let mut via = task.record.via.as_ref().map_or_else(Vec::new, |via| via.to_vec());
        via.push(route.shared.id);
        let (connector, scope) = (task.record.ingress.clone(), Key::LOCAL.into());
        let origin = Origin { connector: &connector, scope: &scope, via: Some(via.into()), quiet: false };
        let Some(receipt) = self.bus.try_publish(&origin, fresh) else {
            recall.store(true, Ordering::Relaxed);
            let full = Outcome::Undelivered("the log is full".into());
            return self.inbox.answer(id as u64, full);
        };
        if let Err(refused) = receipt.stored() {
            return self.refused(id, refused.to_string().into());
        }
        receipt.forward(Arc::clone(&self.inbox) as Arc<dyn Answers>, id as u64);
    }

    /// What can never be sent goes to the dead letter at once; a dead letter that cannot, waits.
    fn refused(&mut self, id: JobId, reason: Reason) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        if job.to.is_none() {
            return self.inbox.answer(id as u64, Outcome::Undelivered(reason));
        }
        job.rejections = u32::MAX - 1;
        self.inbox.answer(id as u64, Outcome::Rejected(reason));
    }
}
