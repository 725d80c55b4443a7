//! The kernel's connection tracking as the driver works it: events and table in, changes out.

use crate::addresses::LocalAddresses;
use crate::core::{Apply, Core};
use ccp::node::{Action, Outcome};
use ccp::time::Instant;
use conntrack::{
    Dump, DumpError, DumpItem, Errno, EventKind, EventSocket, EventSocketOptions, Expectation,
    Injector, InjectorOptions, Item, L4, Lookup, Own, lookup,
};
use conntrack::{Flow, SocketError, Tuple, Unwanted};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime};
use tracing::warn;

/// Events handed to the core at a time, before datagrams and timers get their turn.
const EVENTS_AT_A_TIME: usize = 4096;
/// Flows looked up at a time, at 2 us each: those whose delay ended in one second are many.
const LOOKUPS_AT_A_TIME: usize = 64;
/// Changes that the kernel is asked for at a time, at up to 5 us each.
const CHANGES_AT_A_TIME: usize = 2048;
/// Rows of the kernel's table handed to the core at a time.
const ROWS_AT_A_TIME: usize = 1024;

/// Sockets to the kernel's connection tracking.
pub struct Kernel {
    events: EventSocket,
    injector: Injector,
    dump: Option<Dump>,
    /// The table was read to its end; what it showed counts once the events that were made meanwhile were handed over.
    is_read: bool,
    /// The last drain left events in the queue.
    behind: bool,
    batch: Vec<Try>,
    /// The core may have more changes than the last batch took.
    has_changes: bool,
    conflict_said: Option<Instant>,
    lookup: Lookup,
}

/// A change on its way into the kernel.
struct Try {
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
    /// Opens the sockets. `event_buffer_bytes` is the receive buffer of events, `written` what is written of marks and labels;
    /// `counts` if what has passed is counted, of flows too that are deleted for a peer.
    pub fn open(
        event_buffer_bytes: usize,
        written: InjectorOptions,
        counts: bool,
    ) -> Result<Self, SocketError> {
        let injector = Injector::open_with(written)?;
        let options = EventSocketOptions {
            receive_buffer_bytes: event_buffer_bytes,
            ignore: Some(Own {
                portid: injector.port_id(),
                with_ends: counts,
            }),
        };
        Ok(Self {
            events: EventSocket::open(&options)?,
            injector,
            dump: None,
            is_read: false,
            behind: false,
            batch: Vec::new(),
            has_changes: false,
            conflict_said: None,
            lookup: Lookup::open()?,
        })
    }

    /// Leaves out events of these flows from now on, and of no others. If that cannot be, of none.
    pub fn leave_out(&mut self, unwanted: &Unwanted) -> Result<(), SocketError> {
        self.events.leave_out(unwanted).or_else(|error| {
            self.events.leave_out(&Unwanted::default())?;
            Err(error)
        })
    }

    /// Readable when there are events.
    pub fn events_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Hands what is queued to the core; returns how many events there were.
    ///
    /// The kernel says that an address has gone before it drops what it masqueraded with it (`__inet_del_ifa`), but on another
    /// socket: `addresses` are read again before it is judged by them why an entry was dropped.
    pub fn drain_events(
        &mut self,
        core: &mut Core,
        addresses: &mut LocalAddresses,
    ) -> io::Result<usize> {
        // Translating the announcement of a flow may have changed its length, and the kernel makes no event of the
        // sequence adjustment that follows (`nf_ct_seqadj_set`): the master is asked for.
        let mut masters = Vec::new();
        let own = self.injector.port_id();
        let mut followed = Ok(());
        let drained = self
            .events
            .drain(EVENTS_AT_A_TIME, &mut |item| match item {
                Item::Event(event) if event.portid == own => core.handle_own_end(&event.flow),
                Item::Event(event) => {
                    if core.is_end_by_addresses(&event) {
                        match addresses.read() {
                            Ok(true) => core.set_addresses(addresses.set().clone()),
                            Ok(false) => {}
                            Err(error) => followed = Err(error),
                        }
                    }
                    core.handle_event(&event);
                }
                Item::Expectation(event) => {
                    core.handle_expectation(&event);
                    let Expectation { master, zone, .. } = event.expectation;
                    if event.kind == EventKind::New {
                        masters.push((master, zone));
                    }
                }
                Item::Overrun => core.handle_overrun(),
                Item::Malformed(_) => core.handle_malformed_event(),
            })?;
        self.behind = drained.more;
        for (master, zone) in masters {
            if let Ok(Some(flow)) = self.lookup.get(&master, zone) {
                core.handle_event(&conntrack::Event {
                    kind: EventKind::Update,
                    portid: 0,
                    flow,
                });
            }
        }
        followed.map(|()| drained.count)
    }

    /// True while the table is being read: [`Self::read_rows`] has more to do.
    pub fn is_reading(&self) -> bool {
        self.dump.is_some() || self.is_read
    }

    /// Begins to read the table if the core wants it, or reads on.
    ///
    /// It does not begin before all events were read: after an overrun the kernel queues none until the queue was empty
    /// once (`netlink_overrun`), so that the table could change unheard.
    pub fn read_rows(
        &mut self,
        core: &mut Core,
        addresses: &mut LocalAddresses,
    ) -> Result<(), DumpError> {
        if self.is_read {
            return self.end_pass(core, addresses).map_err(DumpError::Io);
        }
        if core.wants_pass() && self.dump.is_none() && !self.behind {
            self.dump = Some(Dump::open().inspect_err(|_| core.fail_pass())?);
            core.set_wall_clock(wall_clock_nanos());
            core.begin_pass();
        }
        let Some(dump) = self.dump.as_mut().filter(|_| core.may_read_rows()) else {
            return Ok(());
        };
        for _ in 0..ROWS_AT_A_TIME {
            match dump.next() {
                Some(Ok(DumpItem::Flow(flow))) => core.handle_row(&flow),
                Some(Ok(DumpItem::Restarted)) => core.begin_pass(),
                Some(Err(DumpError::Malformed(_))) => core.handle_malformed_event(),
                // Too much changes for a whole view: what is missing from this one proves nothing.
                Some(Ok(DumpItem::Interrupted)) => {
                    self.dump = None;
                    core.fail_pass();
                    return Ok(());
                }
                Some(Err(error)) => {
                    self.dump = None;
                    core.fail_pass();
                    return Err(error);
                }
                None => {
                    self.dump = None;
                    self.is_read = true;
                    return self.end_pass(core, addresses).map_err(DumpError::Io);
                }
            }
        }
        Ok(())
    }

    /// Ends the pass, if every event is handed over that was made before the last row was read.
    fn end_pass(&mut self, core: &mut Core, addresses: &mut LocalAddresses) -> io::Result<()> {
        let drained = self.drain_events(core, addresses);
        match (&drained, self.behind) {
            (Ok(_), true) => return Ok(()),
            (Ok(_), false) => core.end_pass(),
            (Err(_), _) => core.fail_pass(),
        }
        self.is_read = false;
        drained.map(|_| ())
    }

    /// Asks the kernel for the flows that the core wants to know of now.
    pub fn look_up(&mut self, core: &mut Core) -> Result<(), DumpError> {
        for _ in 0..LOOKUPS_AT_A_TIME {
            let Some(wanted) = core.poll_lookup() else {
                break;
            };
            let found = self.lookup.get(&wanted.orig, wanted.zone);
            // One that could not be looked up is told at the next change of it, or found by the next reading of the table.
            core.handle_lookup(&wanted.key, found.as_ref().ok().and_then(Option::as_ref));
            found?;
        }
        Ok(())
    }

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
            if !core.has_read_table() {
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
            "a flow of a peer was not put in: another flow here has its tuple, or that of its answers"
        );
    }

    fn take_batch(batch: &mut Vec<Try>, core: &mut Core, max: usize) {
        while batch.len() < max
            && let Some(apply) = core.poll_apply()
        {
            let step = match apply.action {
                Action::Create => Step::Create,
                Action::Update | Action::LookAndUpdate => Step::Update,
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
        let is_look = |tried: &&mut Try| tried.apply.action == Action::LookAndUpdate;
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

/// What the kernel dates flows by.
pub fn wall_clock_nanos() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
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

/// Both directions of a flow.
fn words(flow: &Flow) -> String {
    let Flow { orig, reply, .. } = flow;
    let l4 = |tuple: &Tuple| match tuple.l4 {
        L4::Ports { src, dst } => format!(" ports {src} > {dst}"),
        L4::Icmp { id, .. } => format!(" id {id}"),
        L4::None => String::new(),
    };
    format!(
        "protocol {} {} > {}{}, replies {} > {}{}",
        orig.proto,
        orig.src,
        orig.dst,
        l4(orig),
        reply.src,
        reply.dst,
        l4(reply)
    )
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
    use super::{Next, Outcome, Step, next};
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
}
