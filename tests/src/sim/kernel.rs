//! Connection tracking of one machine: what ctnetlink does with requests, and what it tells a listener.
//!
//! As the kernel: NAT is taken at creation only; status bits can't be taken away (EBUSY, with the timeout written);
//! tuples are looked up in both directions; an event of an update is a patch; the listener's own changes make no event;
//! a queue that overflows reports it once, in front of what is queued, and takes nothing more until it was read empty
//! (`netlink_overrun`, `netlink_rcv_wake`).
//!
//! Not as the kernel: timeouts don't run. A flow ends when the workload ends it, so a copy never expires before its
//! carrier's entry does.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;

use agent::convert;
use agent::policy::push::Plan;
use ccp::record::FlowKey;
use conntrack::consts::{
    IP_CT_TCP_FLAG_BE_LIBERAL, IPS_ASSURED, IPS_CONFIRMED, IPS_SEEN_REPLY, TCP_CONNTRACK_CLOSE,
    TCP_CONNTRACK_ESTABLISHED, TCP_CONNTRACK_SYN_RECV, TCP_CONNTRACK_SYN_SENT,
    TCP_CONNTRACK_TIME_WAIT,
};
use conntrack::{Errno, Event, EventKind, Flow, Item, ProtoInfo, TcpInfo, Tuple};

use super::policies::keeps_quiet;

/// Bits of the mark that are replicated; the highest is the operator's own on each machine.
pub const MARK_MASK: u32 = 0x3fff_ffff;
/// The bit that marks copies, where it is used.
pub const COPY_BIT: u8 = 30;
/// Rows that the kernel puts into one datagram of a dump.
const DUMP_ROWS: usize = 12;

/// The connection table of a machine.
#[derive(Debug)]
pub struct Kernel {
    entries: BTreeMap<FlowKey, Flow>,
    /// Both directions of every entry. Looked up only: its order is not the seed's.
    tuples: HashMap<Tuple, FlowKey>,
    /// Entries it holds at most.
    pub entries_max: usize,
    /// The copy bit, if a rule clears it with the first packet that passes; else no bit.
    pub copy_bit: u32,
    /// Flows of which rules let no event be made.
    pub quiet: Option<Plan>,
    /// Entries of which none is made.
    masked: HashSet<FlowKey>,
    listener: Option<Listener>,
    table_id: u64,
    refusals: Vec<FlowKey>,
}

/// The event socket of a daemon.
#[derive(Debug)]
struct Listener {
    queue: VecDeque<Event>,
    queue_max: usize,
    congested: bool,
    overrun: bool,
}

/// A dump that goes on.
#[derive(Debug, Default)]
pub struct Dump {
    after: Option<FlowKey>,
    rows: VecDeque<Flow>,
    ended: bool,
}

/// What a packet does to an entry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passing {
    /// State that TCP comes to.
    pub tcp_state: Option<u8>,
    /// Status bits that are set from now on.
    pub status: u32,
    /// Mark that a rule writes.
    pub mark: Option<u32>,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It passed, and something of the entry is another now.
    Changed,
    /// It passed and changed nothing that makes an event.
    Unchanged,
    /// It was dropped: invalid, or the table is full.
    Dropped,
}

impl Kernel {
    /// An empty table.
    pub fn new(table_id: u64) -> Self {
        Self {
            entries: BTreeMap::new(),
            tuples: HashMap::new(),
            entries_max: usize::MAX,
            copy_bit: 0,
            quiet: None,
            masked: HashSet::new(),
            listener: None,
            table_id,
            refusals: Vec::new(),
        }
    }

    /// What `conntrack::table_id` says.
    pub fn table_id(&self) -> u64 {
        self.table_id
    }

    /// The entry of an original tuple.
    pub fn entry(&self, key: &FlowKey) -> Option<&Flow> {
        self.entries.get(key)
    }

    /// All entries in order.
    pub fn entries(&self) -> impl Iterator<Item = (&FlowKey, &Flow)> {
        self.entries.iter()
    }

    /// Opens an event socket with room for so many events; another one is closed.
    pub fn listen(&mut self, queue_max: usize) {
        self.listener = Some(Listener {
            queue: VecDeque::new(),
            queue_max,
            congested: false,
            overrun: false,
        });
    }

    /// Closes the event socket.
    pub fn close_listener(&mut self) {
        self.listener = None;
    }

    /// True if the event socket is readable.
    pub fn has_events(&self) -> bool {
        self.listener
            .as_ref()
            .is_some_and(|listener| listener.overrun || !listener.queue.is_empty())
    }

    /// True if the listener has not read all that happened to the flow, or missed something.
    pub fn has_unread(&self, key: &FlowKey) -> bool {
        self.listener.as_ref().is_none_or(|listener| {
            listener.congested
                || listener
                    .queue
                    .iter()
                    .any(|event| convert::key(&event.flow) == *key)
        })
    }

    /// True if the listener missed something and has not been told yet.
    pub fn is_congested(&self) -> bool {
        self.listener
            .as_ref()
            .is_some_and(|listener| listener.congested)
    }

    /// As `EventSocket::drain` does: what is queued, at most `max` items; true if there may be more.
    pub fn drain(&mut self, max: usize, sink: &mut impl FnMut(Item)) -> bool {
        let Some(listener) = &mut self.listener else {
            return false;
        };
        let mut left = max;
        if std::mem::take(&mut listener.overrun) {
            sink(Item::Overrun);
            left -= 1;
        }
        while left > 0 {
            let Some(event) = listener.queue.pop_front() else {
                return false;
            };
            if listener.queue.is_empty() {
                listener.congested = false;
            }
            sink(Item::Event(event));
            left -= 1;
        }
        true
    }

    /// The next row; `None` at the end. Rows are as they were when their datagram was made.
    pub fn next_row(&self, dump: &mut Dump) -> Option<Flow> {
        if dump.rows.is_empty() && !dump.ended {
            let from = dump.after.map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.entries.range((from, Bound::Unbounded)).take(DUMP_ROWS);
            for (key, flow) in next {
                dump.after = Some(*key);
                dump.rows.push_back(*flow);
            }
            dump.ended = dump.rows.len() < DUMP_ROWS;
        }
        dump.rows.pop_front()
    }

    /// The first packet of a flow. A finished connection gives way to a new one of the same tuple, as in
    /// `nf_conntrack_tcp_packet`.
    pub fn open(&mut self, flow: Flow) -> Passed {
        let key = convert::key(&flow);
        if let Some(old) = self.entries.get(&key) {
            if tcp_state(old).is_none_or(|state| state < TCP_CONNTRACK_TIME_WAIT) {
                return Passed::Dropped;
            }
            self.end(&key);
        }
        if self.entries.len() >= self.entries_max || self.tuples.contains_key(&flow.reply) {
            return Passed::Dropped;
        }
        let flow = Flow {
            status: Some(flow.status.unwrap_or(0) | IPS_CONFIRMED),
            ..flow
        };
        self.put(key, flow);
        if self.keeps_quiet(&key) {
            self.masked.insert(key);
        }
        self.tell(EventKind::New, flow);
        Passed::Changed
    }

    /// A later packet of a flow. TCP is strict: a packet that begins nothing has no entry made for it, and the answer to
    /// one that this gateway did not see is invalid.
    pub fn pass(&mut self, key: &FlowKey, packet: Passing) -> Passed {
        let Some(entry) = self.entries.get_mut(key) else {
            return Passed::Dropped;
        };
        let before = *entry;
        if let (Some(ProtoInfo::Tcp(tcp)), Some(state)) = (&mut entry.protoinfo, packet.tcp_state) {
            let answers = matches!(
                state,
                TCP_CONNTRACK_SYN_SENT | TCP_CONNTRACK_SYN_RECV | TCP_CONNTRACK_CLOSE
            );
            if tcp.state == TCP_CONNTRACK_SYN_SENT && !answers {
                return Passed::Dropped;
            }
            tcp.state = tcp.state.max(state);
        }
        let mut status = entry.status.unwrap_or(0) | packet.status;
        if status & IPS_SEEN_REPLY == 0 {
            status &= !IPS_ASSURED;
        }
        entry.status = Some(status);
        let kept = entry.mark.unwrap_or(0) & self.copy_bit;
        entry.mark = packet.mark.map(|mark| mark | kept).or(entry.mark);
        // The rule stands after the operator's.
        entry.mark = entry.mark.map(|mark| mark & !self.copy_bit);
        let after = *entry;
        if after == before {
            return Passed::Unchanged;
        }
        if tcp_state(&after) > tcp_state(&before)
            && tcp_state(&after).is_some_and(|it| it > TCP_CONNTRACK_ESTABLISHED)
        {
            // It closes: the mask is lifted, unless the rules want it.
            if !self.keeps_quiet(key) {
                self.masked.remove(key);
            }
        }
        let mut patch = after;
        if after.protoinfo == before.protoinfo {
            patch.protoinfo = None;
        }
        if after.mark == before.mark {
            patch.mark = after.mark.filter(|mark| *mark != 0);
        }
        self.tell(EventKind::Update, patch);
        Passed::Changed
    }

    /// The entry's timeout ran out, or a packet or an operator ended it.
    pub fn end(&mut self, key: &FlowKey) {
        if let Some(flow) = self.take(key) {
            let told = Flow {
                status: None,
                timeout: None,
                mark: None,
                protoinfo: None,
                ..flow
            };
            self.tell(EventKind::Destroy, told);
            self.masked.remove(key);
        }
    }

    /// True if no event is made of an entry.
    pub fn is_masked(&self, key: &FlowKey) -> bool {
        self.masked.contains(key)
    }

    fn keeps_quiet(&self, key: &FlowKey) -> bool {
        (self.quiet.as_ref()).is_some_and(|plan| keeps_quiet(plan, key))
    }

    /// Request: create.
    pub fn create(&mut self, flow: &Flow) -> Result<(), Errno> {
        if flow.timeout.is_none() {
            return Err(Errno::INVAL);
        }
        if self.tuples.contains_key(&flow.orig) || self.tuples.contains_key(&flow.reply) {
            return Err(Errno::EXIST);
        }
        let key = convert::key(flow);
        if self.entries.len() >= self.entries_max {
            self.refusals.push(key);
            return Err(Errno::NOMEM);
        }
        let status = flow.status.unwrap_or(0) & (IPS_SEEN_REPLY | IPS_ASSURED) | IPS_CONFIRMED;
        let made = Flow {
            status: Some(status),
            protoinfo: liberal(flow.protoinfo),
            mark: flow.mark.map(|mark| mark & (MARK_MASK | self.copy_bit)),
            ..*flow
        };
        self.put(key, made);
        Ok(())
    }

    /// Request: update.
    pub fn update(&mut self, flow: &Flow) -> Result<(), Errno> {
        let key = self.tuples.get(&flow.orig).ok_or(Errno::NOENT)?;
        let entry = self
            .entries
            .get_mut(key)
            .expect("tuples are those of entries");
        entry.timeout = flow.timeout.or(entry.timeout);
        if let Some(status) = flow.status {
            let before = entry.status.unwrap_or(0);
            if before & !status & (IPS_SEEN_REPLY | IPS_ASSURED) != 0 {
                return Err(Errno::BUSY);
            }
            entry.status = Some(before | status);
        }
        entry.protoinfo = liberal(flow.protoinfo).or(entry.protoinfo);
        let mask = MARK_MASK | self.copy_bit;
        let own = entry.mark.unwrap_or(0) & !mask;
        entry.mark = flow.mark.map(|mark| own | mark & mask).or(entry.mark);
        Ok(())
    }

    /// Request: delete.
    pub fn delete(&mut self, flow: &Flow) -> Result<(), Errno> {
        let key = *self.tuples.get(&flow.orig).ok_or(Errno::NOENT)?;
        self.take(&key);
        self.masked.remove(&key);
        Ok(())
    }

    /// Flows whose creation was refused since this was asked last.
    pub fn take_refusals(&mut self) -> Vec<FlowKey> {
        std::mem::take(&mut self.refusals)
    }

    fn put(&mut self, key: FlowKey, flow: Flow) {
        self.tuples.insert(flow.orig, key);
        self.tuples.insert(flow.reply, key);
        self.entries.insert(key, flow);
    }

    fn take(&mut self, key: &FlowKey) -> Option<Flow> {
        let flow = self.entries.remove(key)?;
        self.tuples.remove(&flow.orig);
        self.tuples.remove(&flow.reply);
        Some(flow)
    }

    fn tell(&mut self, kind: EventKind, flow: Flow) {
        if self.is_masked(&convert::key(&flow)) {
            return;
        }
        let Some(listener) = &mut self.listener else {
            return;
        };
        if listener.congested || listener.queue.len() >= listener.queue_max {
            listener.overrun |= !listener.congested;
            listener.congested = true;
            return;
        }
        listener.queue.push_back(Event {
            kind,
            portid: 0,
            flow,
        });
    }
}

/// State of a TCP entry.
pub fn tcp_state(flow: &Flow) -> Option<u8> {
    match flow.protoinfo {
        Some(ProtoInfo::Tcp(tcp)) => Some(tcp.state),
        Some(ProtoInfo::Sctp(_) | ProtoInfo::Dccp(_)) | None => None,
    }
}

/// What a request with this makes of an entry: windows can't be set, so both directions are made liberal.
fn liberal(protoinfo: Option<ProtoInfo>) -> Option<ProtoInfo> {
    match protoinfo {
        Some(ProtoInfo::Tcp(TcpInfo {
            state,
            wscale,
            flags,
        })) => {
            let flags = flags.map(|both| both.map(|flags| flags | IP_CT_TCP_FLAG_BE_LIBERAL));
            Some(ProtoInfo::Tcp(TcpInfo {
                state,
                wscale,
                flags,
            }))
        }
        Some(ProtoInfo::Sctp(_) | ProtoInfo::Dccp(_)) | None => protoinfo,
    }
}
