//! The filter of a route: calls its instance with batches, and sees to what comes of a fault.
//!
//! A call that fails says nothing about which event did it. So the instance is made anew and the batch asked again one
//! by one; what fails alone is rejected. Too many faults open the plugin's [`breaker`](super::breaker).

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use tracing::{debug, info, warn};

use super::breaker::{Breaker, Gate};
use super::instance::{Fault, Instance};
use super::limits::INPUT_MAX;
use super::patch::Answers;
use super::plugin::{Loaded, Plugin};
use super::settings::{Checked, OnFault, Shown};
use super::{packed, typed};
use crate::core::filter::{BATCH_MAX, Filter, Input, Verdict};

/// One step of one route.
pub(super) struct Step {
    plugin: Arc<Plugin>,
    settings: Arc<Checked>,
    /// The version that `instance` is of, and that is made again after a fault.
    loaded: Arc<Loaded>,
    /// Versions there had been when the last was looked at: one that would not begin is not tried again.
    versions: u64,
    instance: Option<Instance>,
    /// Its own breaker instead of the plugin's, where its faults are to harm nobody else.
    own: Option<Breaker>,
    /// Whether the breaker let it try what is asked now.
    in_trial: bool,
    /// Faults so far.
    faults: u64,
    /// Most events of a call: fewer where a batch was too much for the deadline, though its events were not.
    batch: usize,
    /// The frames of the last packed call, kept for their room.
    frames: Vec<u8>,
}

impl Step {
    /// Begins an instance of the version in use.
    ///
    /// # Errors
    /// There is none, or it does not begin.
    pub(super) fn new(plugin: Arc<Plugin>, settings: Arc<Checked>) -> Result<Self, String> {
        let versions = plugin.versions();
        let loaded = plugin.current().clone().ok_or_else(|| "is not loaded".to_owned())?;
        let instance = Instance::start(&plugin, &loaded, &settings).map_err(|fault| fault.to_string())?;
        Ok(Self {
            plugin,
            settings,
            loaded,
            versions,
            instance: Some(instance),
            own: None,
            in_trial: false,
            faults: 0,
            batch: BATCH_MAX,
            frames: Vec::new(),
        })
    }

    /// As [`new`](Self::new), for trying the plugin out: its faults turn off no other step.
    ///
    /// # Errors
    /// As of `new`.
    pub(super) fn apart(plugin: Arc<Plugin>, settings: Arc<Checked>) -> Result<Self, String> {
        Ok(Self { own: Some(Breaker::default()), ..Self::new(plugin, settings)? })
    }

    fn breaker(&self) -> &Breaker {
        self.own.as_ref().unwrap_or(&self.loaded.breaker)
    }

    fn gate(&mut self) -> Gate {
        let gate = self.breaker().gate();
        self.in_trial = gate == Gate::Trial;
        gate
    }

    /// Bytes of memory of the instance, while there is one.
    pub(super) fn memory(&self) -> Option<usize> {
        self.instance.as_ref().map(Instance::memory)
    }

    /// Takes up a newer version, where there is one that begins.
    fn take_up(&mut self) {
        let versions = self.plugin.versions();
        if versions == self.versions {
            return;
        }
        self.versions = versions;
        let current = self.plugin.current();
        let Some(newer) = current.as_ref().filter(|newer| !Arc::ptr_eq(newer, &self.loaded)) else {
            return;
        };
        match Instance::start(&self.plugin, newer, &self.settings) {
            Ok(instance) => {
                self.loaded = Arc::clone(newer);
                self.instance = Some(instance);
                self.batch = BATCH_MAX;
                self.own = self.own.take().map(|_| Breaker::default());
            }
            Err(fault) => {
                warn!(plugin = &*self.plugin.name, %fault, "new version not taken up here: the old one stays");
            }
        }
    }

    /// How many of `inputs` go into one call.
    fn share(&self, inputs: &[Input<'_>]) -> usize {
        let mut bytes = 0;
        let fits = inputs.iter().take(self.batch).take_while(|input| {
            bytes += input.envelope.data.len();
            bytes <= INPUT_MAX
        });
        fits.count().max(1)
    }

    /// Answers `inputs`, together if that goes well, otherwise one by one.
    fn answer(&mut self, inputs: &[Input<'_>], verdicts: &mut Vec<Verdict>) {
        let Some(first) = inputs.first() else { return };
        match self.call(inputs) {
            Ok(answers) => self.take_in(inputs, answers, verdicts),
            Err(fault) if inputs.len() == 1 => {
                self.failed(&fault, first);
                verdicts.push(self.rejected(&fault));
            }
            Err(fault) => {
                debug!(plugin = &*self.plugin.name, %fault, events = inputs.len(), "batch failed: one by one");
                let before = self.faults;
                for input in inputs {
                    self.answer_one(input, verdicts);
                }
                let alone = self.faults == before;
                if alone && matches!(fault, Fault::Deadline(_)) {
                    self.batch = (inputs.len() / 2).max(1);
                    info!(
                        plugin = &*self.plugin.name,
                        batch = self.batch,
                        "deadline too short for a batch"
                    );
                } else if alone {
                    // Every event is well alone: what failed is the batch, and would again.
                    self.failed(&fault, first);
                }
            }
        }
    }

    /// As [`answer`](Self::answer) for a single event, if the breaker lets it.
    fn answer_one(&mut self, input: &Input<'_>, verdicts: &mut Vec<Verdict>) {
        match self.gate() {
            Gate::Open(pause) => verdicts.push(self.refuse(pause)),
            Gate::Closed | Gate::Trial => match self.call(std::slice::from_ref(input)) {
                Ok(answers) => self.take_in(std::slice::from_ref(input), answers, verdicts),
                Err(fault) => {
                    self.failed(&fault, input);
                    verdicts.push(self.rejected(&fault));
                }
            },
        }
    }

    /// Calls the guest. After an error there is no instance any more.
    fn call(&mut self, inputs: &[Input<'_>]) -> Result<Answers, Fault> {
        let instance = match &mut self.instance {
            Some(instance) => instance,
            none => {
                self.plugin.figures.rebuilds.add(1);
                none.insert(Instance::start(&self.plugin, &self.loaded, &self.settings)?)
            }
        };
        self.plugin.figures.calls.add(1);
        self.plugin.figures.events.add(inputs.len() as u64);
        let answers = ask(instance, &mut self.frames, inputs, &self.settings.shown);
        if answers.is_err() {
            self.instance = None;
        }
        answers
    }

    fn take_in(&mut self, inputs: &[Input<'_>], answers: Answers, verdicts: &mut Vec<Verdict>) {
        let Answers { verdicts: mut taken, wrong } = answers;
        let dropped =
            taken.iter().filter(|verdict| matches!(verdict, Verdict::Drop(_))).count() - wrong.len();
        if dropped > 0 {
            self.plugin.figures.dropped.add(dropped as u64);
        }
        let sound = wrong.is_empty();
        for (at, wrong) in wrong {
            let fault = Fault::Other(wrong);
            if let (Some(verdict), Some(input)) = (taken.get_mut(at), inputs.get(at)) {
                *verdict = self.rejected(&fault);
                self.failed(&fault, input);
            }
        }
        if verdicts.is_empty() {
            *verdicts = taken;
        } else {
            verdicts.append(&mut taken);
        }
        if sound && self.in_trial && self.breaker().answered() {
            info!(plugin = &*self.plugin.name, "plugin works again: its breaker is closed");
        }
    }

    /// Counts a fault and lets go of the instance.
    fn failed(&mut self, fault: &Fault, input: &Input<'_>) {
        self.instance = None;
        self.faults += 1;
        let plugin = &*self.plugin.name;
        self.plugin.figures.faults.add(1);
        debug!(plugin, route = input.route, id = &*input.envelope.id, %fault, "plugin failed");
        if let Some(pause) = self.breaker().failed(self.in_trial) {
            warn!(plugin, route = input.route, %fault, seconds = pause.as_secs(), "plugin failed too often: off");
        }
    }

    fn rejected(&self, fault: &Fault) -> Verdict {
        Verdict::Reject(format!("plugin {} {fault}", self.plugin.name).into())
    }

    /// The answer without asking, while the breaker is open for `pause`.
    fn refuse(&self, pause: std::time::Duration) -> Verdict {
        self.plugin.figures.refused.add(1);
        match self.settings.on_fault {
            OnFault::Pass => Verdict::Pass,
            OnFault::Stop => Verdict::Hold(pause),
            OnFault::DeadLetter => {
                let reason = format!("plugin {} is off for having failed too often", self.plugin.name);
                Verdict::Reject(ByteString::from(reason))
            }
        }
    }
}

/// The answers of `instance`; `frames` is room for what it is told.
fn ask(
    instance: &mut Instance,
    frames: &mut Vec<u8>,
    inputs: &[Input<'_>],
    shown: &Shown,
) -> Result<Answers, Fault> {
    let route = inputs.first().map_or("", |input| input.route);
    if instance.is_packed() {
        packed::encode(inputs, shown, frames);
        let answer = instance.process_packed(route, inputs.len() as u32, frames)?;
        return packed::decode(inputs, Bytes::from(answer)).map_err(Fault::Other);
    }
    let answers = typed::with_events(inputs, shown, |events| instance.process(route, events))?;
    if answers.len() != inputs.len() {
        let (got, asked) = (answers.len(), inputs.len());
        return Err(Fault::Other(format!("gave {got} verdicts on {asked} events")));
    }
    let mut taken = Answers::with_capacity(inputs.len());
    for (input, answer) in inputs.iter().zip(answers) {
        taken.push(typed::verdict(input.envelope, answer));
    }
    Ok(taken)
}

impl Filter for Step {
    fn process(&mut self, batch: &[Input<'_>]) -> Vec<Verdict> {
        self.take_up();
        let mut verdicts = Vec::new();
        let mut rest = batch;
        while !rest.is_empty() {
            let count = match self.gate() {
                Gate::Closed => self.share(rest),
                Gate::Trial => 1,
                Gate::Open(pause) => {
                    verdicts.push(self.refuse(pause));
                    rest = rest.get(1..).unwrap_or_default();
                    continue;
                }
            };
            let (now, later) = rest.split_at(count.min(rest.len()));
            self.answer(now, &mut verdicts);
            rest = later;
        }
        verdicts
    }
}
