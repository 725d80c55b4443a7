//! The kernel's connection tracking as the driver works it: events and table in, changes out.

mod apply;

use crate::addresses::LocalAddresses;
use crate::core::Core;
use apply::Try;
use ccp::time::Instant;
use conntrack::{
    Dump, DumpError, DumpItem, EventKind, EventSocket, EventSocketOptions, Expectation, Injector,
    InjectorOptions, Item, Lookup, Own, SocketError, Unwanted,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::SystemTime;

/// Events handed to the core at a time, before datagrams and timers get their turn.
const EVENTS_AT_A_TIME: usize = 4096;
/// Flows looked up at a time, at 2 us each: those whose delay ended in one second are many.
const LOOKUPS_AT_A_TIME: usize = 64;
/// Rows of the kernel's table handed to the core at a time.
const ROWS_AT_A_TIME: usize = 256;

/// Sockets to the kernel's connection tracking.
pub struct Kernel {
    events: EventSocket,
    injector: Injector,
    dump: Option<Dump>,
    /// The table was read to its end, but not all is concluded from that yet.
    is_read: bool,
    /// The last drain left events in the queue.
    behind: bool,
    batch: Vec<Try>,
    /// The core may have more changes than the last batch took.
    has_changes: bool,
    conflict_said: Option<Instant>,
    lookup: Lookup,
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
        if core.wants_pass() && self.dump.is_none() && !self.behind {
            self.dump = Some(Dump::open().inspect_err(|_| core.fail_pass())?);
            core.set_wall_clock(wall_clock_nanos());
            core.begin_pass();
        }
        if !core.may_read_rows() {
            return Ok(());
        }
        if self.is_read {
            return self.end_pass(core, addresses).map_err(DumpError::Io);
        }
        let Some(dump) = &mut self.dump else {
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

    /// Brings the pass nearer to its end, if every event is handed over that was made before the last row was read.
    fn end_pass(&mut self, core: &mut Core, addresses: &mut LocalAddresses) -> io::Result<()> {
        let drained = self.drain_events(core, addresses);
        let is_over = match (&drained, self.behind) {
            (Ok(_), true) => false,
            (Ok(_), false) => core.end_pass(),
            (Err(_), _) => {
                core.fail_pass();
                true
            }
        };
        self.is_read = !is_over;
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
}

/// What the kernel dates flows by.
pub fn wall_clock_nanos() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}
