//! Changes that the core asks for, on their way into the kernel: in batches, each by the steps that the kernel's answers lead to.

use super::Kernel;
use crate::core::{Apply, Core};
use crate::protocols::{self, endpoint};
use ccp::node::{Action, Outcome};
use ccp::time::Instant;
use conntrack::{Errno, Flow, L4, Tuple, lookup};
use std::io;
use std::time::Duration;
use tracing::warn;

/// Changes that the kernel is asked for at a time, at up to 5 us each.
const CHANGES_AT_A_TIME: usize = 2048;

/// A change on its way into the kernel.
pub(super) struct Try {
    apply: Apply,
    step: Step,
    outcome: Option<Outcome>,
    /// It went in without its helper.
    helper_missing: bool,
}

/// What is asked of the kernel next, for one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    /// An entry with its original tuple is there already: change it in place rather than kill a live flow.
    UpdateExisting,
    Update,
    Delete,
    /// Write the timeout alone, so that nothing that packets do meanwhile is undone.
    Refresh,
    /// Delete, then create.
    Replace,
}

impl Kernel {
    /// True if [`Self::apply`] has more to do: events, datagrams and timers have their turn before.
    pub fn has_changes(&self) -> bool {
        self.has_changes
    }

    /// Makes the kernel do what the core asks for, and tells it the outcomes, until it asks for nothing more or has had its share.
    pub fn apply(&mut self, core: &mut Core, now: Instant) -> io::Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        let mut result = Ok(());
        let mut share = CHANGES_AT_A_TIME;
        self.has_changes = false;
        while result.is_ok() {
            Self::take_batch(&mut batch, core, share);
            if batch.is_empty() {
                self.has_changes = share == 0;
                break;
            }
            share -= batch.len();
            // What is known of entries may be out of date.
            if self.behind || !core.has_read_table() {
                self.keep_from_others(&mut batch, Step::Delete);
            }
            self.look_first(&mut batch, core);
            result = self.work_off(&mut batch).and_then(|()| self.expect(&batch));
            for tried in batch.drain(..) {
                let outcome = tried.outcome.unwrap_or(Outcome::Refused);
                if outcome == Outcome::Conflict {
                    self.say_conflict(&tried.apply.flow, now);
                }
                if tried.helper_missing {
                    core.note_helper_missing();
                }
                core.handle_applied(tried.apply.ticket, outcome, now);
            }
        }
        self.batch = batch;
        result
    }

    /// The flow that is in the way of another, in words.
    pub fn in_place_of(&self, flow: &Flow) -> Option<String> {
        let find = |tuple: &Tuple| {
            let holder = lookup(tuple, flow.zone).ok().flatten();
            holder.filter(|holder| holder.orig != flow.orig)
        };
        let holder = find(&flow.orig).or_else(|| find(&flow.reply));
        holder.map(|holder| words(&holder))
    }

    /// Names the flow that could not be put in and the one that is in its place, but at most one of them a second.
    fn say_conflict(&mut self, flow: &Flow, now: Instant) {
        if self
            .conflict_said
            .is_some_and(|said| now.since(said) < Duration::from_secs(1))
        {
            return;
        }
        self.conflict_said = Some(now);
        let holder = (self.in_place_of(flow)).unwrap_or_else(|| "one that has ended".to_owned());
        warn!(
            event = "conflict",
            flow = words(flow),
            stays = holder,
            "a peer's flow was not installed: another flow here has its tuple, or that of its answers"
        );
    }

    fn take_batch(batch: &mut Vec<Try>, core: &mut Core, max: usize) {
        while batch.len() < max
            && let Some(apply) = core.poll_apply()
        {
            let step = match apply.action {
                Action::Create => Step::Create,
                Action::Update | Action::LookAndUpdate { .. } => Step::Update,
                Action::Replace => Step::Replace,
                Action::Delete => Step::Delete,
                Action::Refresh => Step::Refresh,
            };
            batch.push(Try {
                apply,
                step,
                outcome: None,
                helper_missing: false,
            });
        }
    }

    /// Asks for what the helpers of flows expect, once these are there. What is expected already, or cannot be, is left.
    fn expect(&mut self, batch: &[Try]) -> io::Result<()> {
        let done = batch
            .iter()
            .filter(|tried| tried.outcome == Some(Outcome::Done));
        for expectation in done.flat_map(|tried| &tried.apply.expected) {
            self.injector.expect(expectation);
        }
        self.injector.commit(&mut |_, _| {})
    }

    /// Looks for the entries of changes that are at this step, and decides those that would hit another flow: the kernel finds
    /// an entry by the tuple of either direction, so the answers of one may be the other (`nf_conntrack_find_get`).
    fn keep_from_others(&mut self, batch: &mut [Try], step: Step) {
        let is_at_step = |tried: &&mut Try| tried.outcome.is_none() && tried.step == step;
        for tried in batch.iter_mut().filter(is_at_step) {
            let flow = &tried.apply.flow;
            let found = self.lookup.get(&flow.orig, flow.zone);
            tried.outcome = match found {
                Ok(Some(found)) if found.orig == flow.orig => None,
                // There is nothing to delete.
                Ok(_) if step == Step::Delete => Some(Outcome::Done),
                Ok(_) => Some(Outcome::Conflict),
                Err(_) => Some(Outcome::Refused),
            };
        }
    }

    /// Shows the core entries that packets may have changed while events were lost, before they are written.
    fn look_first(&mut self, batch: &mut [Try], core: &mut Core) {
        let is_look = |tried: &&mut Try| matches!(tried.apply.action, Action::LookAndUpdate { .. });
        for tried in batch.iter_mut().filter(is_look) {
            let Flow { orig, zone, .. } = tried.apply.flow;
            if let Ok(Some(found)) = self.lookup.get(&orig, zone)
                && found.orig == orig
                && core.handle_look(tried.apply.ticket, &found)
            {
                tried.outcome = Some(Outcome::Done);
            }
        }
    }

    /// Every round asks for what is undecided yet; no change goes through more steps than there are rounds.
    fn work_off(&mut self, batch: &mut [Try]) -> io::Result<()> {
        const ROUNDS: usize = 5;
        for _ in 0..ROUNDS {
            self.keep_from_others(batch, Step::UpdateExisting);
            let mut asked = Vec::with_capacity(batch.len());
            for (index, tried) in batch
                .iter()
                .enumerate()
                .filter(|(_, tried)| tried.outcome.is_none())
            {
                asked.push(index);
                match tried.step {
                    Step::Create => self.injector.create(&tried.apply.flow),
                    Step::Update | Step::UpdateExisting => self.injector.update(&tried.apply.flow),
                    Step::Refresh => self.injector.update(&refreshed(&tried.apply.flow)),
                    Step::Delete | Step::Replace => self.injector.delete(&tried.apply.flow),
                };
            }
            if asked.is_empty() {
                return Ok(());
            }
            self.injector.commit(&mut |index, answer| {
                if let Some(tried) = asked.get(index).and_then(|index| batch.get_mut(*index)) {
                    tried.handle_answer(answer);
                }
            })?;
        }
        Ok(())
    }
}

impl Try {
    fn handle_answer(&mut self, answer: Result<(), Errno>) {
        let had_helper = self.apply.flow.helper.is_some();
        let next = next(self.step, answer, &mut self.apply.flow);
        self.helper_missing |= had_helper && self.apply.flow.helper.is_none();
        match next {
            Next::Decided(outcome) => self.outcome = Some(outcome),
            Next::Step(step) => self.step = step,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Decided(Outcome),
    Step(Step),
}

/// What follows from the kernel's answer. Where it refuses a part of the flow (a helper it has not, a master it has not,
/// labels that no rule uses), the flow goes in without: better a flow without its helper than none.
fn next(step: Step, answer: Result<(), Errno>, flow: &mut Flow) -> Next {
    match (step, answer) {
        (Step::Replace, Ok(()) | Err(Errno::NOENT)) => Next::Step(Step::Create),
        (Step::Delete, Ok(()) | Err(Errno::NOENT)) => Next::Decided(Outcome::Done),
        (Step::Create | Step::Update | Step::UpdateExisting | Step::Refresh, Ok(())) => {
            Next::Decided(Outcome::Done)
        }
        (Step::Create, Err(Errno::EXIST)) => Next::Step(Step::UpdateExisting),
        (Step::Create, Err(Errno::NOENT)) if flow.master.take().is_some() => Next::Step(step),
        (Step::Create, Err(Errno::NOMEM)) => Next::Decided(Outcome::Full),
        // The one that was there has just ended.
        (Step::UpdateExisting, Err(Errno::NOENT)) => Next::Decided(Outcome::Conflict),
        (Step::Create, Err(Errno::OPNOTSUPP)) if flow.helper.take().is_some() => Next::Step(step),
        (Step::Update, Err(Errno::NOENT)) => Next::Step(Step::Create),
        // The entry has status bits that the flow has not; they can't be taken away.
        (Step::Update | Step::UpdateExisting, Err(Errno::BUSY)) if flow.status.take().is_some() => {
            Next::Step(step)
        }
        (Step::Update | Step::UpdateExisting, Err(Errno::NOSPC))
            if flow.labels.take().is_some() =>
        {
            Next::Step(step)
        }
        (
            Step::Create
            | Step::Update
            | Step::UpdateExisting
            | Step::Delete
            | Step::Refresh
            | Step::Replace,
            Err(_),
        ) => Next::Decided(Outcome::Refused),
    }
}

/// Both directions of a flow, as `ctsync explain` reads one.
fn words(flow: &Flow) -> String {
    let ends = |tuple: &Tuple| {
        let (src, dst) = match tuple.l4 {
            L4::Ports { src, dst } => (Some(src), Some(dst)),
            L4::Icmp { kind, code, id } => (Some(id), Some(u16::from_be_bytes([kind, code]))),
            L4::None => (None, None),
        };
        let [from, to] = [endpoint(tuple.src, src), endpoint(tuple.dst, dst)];
        format!("{from} {to}")
    };
    let Flow { orig, reply, .. } = flow;
    let proto = protocols::name(orig.proto);
    format!("{proto} {}, replies {}", ends(orig), ends(reply))
}

/// The flow with nothing but its timeout.
fn refreshed(flow: &Flow) -> Flow {
    Flow {
        reply: flow.reply,
        zone: flow.zone,
        timeout: flow.timeout,
        ..Flow::new(flow.orig)
    }
}

#[cfg(test)]
mod tests {
    use super::{Next, Outcome, Step, next, words};
    use conntrack::{Errno, Flow, HelperName, L4, Tuple};

    fn flow() -> Flow {
        let tuple = Tuple {
            src: [10, 0, 0, 1].into(),
            dst: [10, 0, 0, 2].into(),
            proto: 6,
            l4: L4::Ports { src: 1, dst: 2 },
            zone: 0,
        };
        Flow {
            helper: HelperName::new("ftp"),
            master: Some(tuple),
            status: Some(2),
            ..Flow::new(tuple)
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_left_out_once_and_then_given_up() {
        for (step, errno) in [
            (Step::Create, Errno::NOENT),
            (Step::Create, Errno::OPNOTSUPP),
            (Step::Update, Errno::BUSY),
            (Step::UpdateExisting, Errno::BUSY),
        ] {
            let mut flow = flow();
            assert_eq!(
                next(step, Err(errno), &mut flow),
                Next::Step(step),
                "{step:?} {errno}"
            );
            assert_eq!(
                next(step, Err(errno), &mut flow),
                Next::Decided(Outcome::Refused),
                "{step:?} {errno}"
            );
        }
    }

    #[test]
    fn an_entry_that_is_there_is_changed_in_place_and_one_that_is_not_is_made() {
        assert_eq!(
            next(Step::Create, Err(Errno::EXIST), &mut flow()),
            Next::Step(Step::UpdateExisting)
        );
        assert_eq!(
            next(Step::Update, Err(Errno::NOENT), &mut flow()),
            Next::Step(Step::Create)
        );
        assert_eq!(
            next(Step::Delete, Err(Errno::NOENT), &mut flow()),
            Next::Decided(Outcome::Done)
        );
        assert_eq!(
            next(Step::Replace, Ok(()), &mut flow()),
            Next::Step(Step::Create)
        );
        // The reply tuple belongs to another flow: neither can be done.
        let conflict = next(Step::UpdateExisting, Err(Errno::NOENT), &mut flow());
        assert_eq!(conflict, Next::Decided(Outcome::Conflict));
        let full = next(Step::Create, Err(Errno::NOMEM), &mut flow());
        assert_eq!(full, Next::Decided(Outcome::Full));
    }

    #[test]
    fn a_flow_that_is_named_can_be_asked_for() {
        assert_eq!(
            words(&flow()),
            "tcp 10.0.0.1:1 10.0.0.2:2, replies 10.0.0.2:2 10.0.0.1:1"
        );
    }
}
