//! What has passed, by service: packets and bytes, as this kernel counts them (`net.netfilter.nf_conntrack_acct`).
//!
//! The kernel tells what it has counted of a flow in its table, which is read once an interval, and at the flow's end. What
//! grew since it told last is added to the flow's service. A copy begins at zero: each member counts what passed through
//! itself, and the sum over the members is what passed.
//!
//! Members tell each other their totals at the end of each interval ([`message`]), so that those of a member that died are
//! whole but for its last interval; when it is back it hears from the others what its earlier runs had told, and goes on from
//! there. What was there when the daemon began was counted by an earlier run, or by nobody: only what is added later counts.

use ccp::record::{FlowKey, MemberId, MemberSet};
use ccp::time::Instant;
use conntrack::Counters;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use message::{TotalsMessage, Whose};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

pub mod message;
pub mod writer;

/// Flows that are followed, in places of 49 bytes; of more than so many what passes counts at their end.
const FLOWS_MAX: usize = 1 << 24;
/// Services that there are totals of: those of the longest policy there can be, and built-in ones. What is of more counts as of
/// none.
const SERVICES_MAX: usize = 4_352;

/// What passed: packets of the original direction, and replies.
pub type Traffic = [Counters; 2];

/// What passed, by the name of the service; empty for what is of none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals(BTreeMap<String, Traffic>);

/// The books of a member.
#[derive(Debug)]
pub struct Accounting {
    /// What this member counts; `None` if it only hears what the others have counted.
    books: Option<Books>,
    incarnation: u64,
    /// What earlier runs of this member had told the peers, as these remember it.
    before: Totals,
    peers: [Peer; MemberId::MAX],
    linked: MemberSet,
    /// Peers that are to be told what was counted here.
    owed: MemberSet,
    /// Peers that are to be told what they had told in earlier runs.
    owed_theirs: MemberSet,
}

/// What a member counts.
#[derive(Debug)]
struct Books {
    interval: Duration,
    due: Instant,
    /// By a digest of the key: of two flows with the same one, one in millions of tables, some is counted twice.
    flows: HashMap<u64, Seen, RandomState>,
    hasher: RandomState,
    /// Number of the reading of the table.
    pass: u64,
    /// It was read to its end once.
    has_begun: bool,
    totals: Totals,
    /// Flows that were not followed, as there were too many.
    left_out: u64,
}

/// What the kernel had counted of a flow when it told last.
#[derive(Clone, Copy, Debug)]
struct Seen {
    counted: Traffic,
    pass: u64,
}

/// What a peer has told.
#[derive(Clone, Debug, Default)]
struct Peer {
    /// The run that told last, and when.
    run: Option<(u64, Instant)>,
    totals: Totals,
    /// The most that its earlier runs had told.
    before: Totals,
}

impl Totals {
    /// All of them, by the name of the service.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Traffic)> {
        self.0.iter().map(|(name, traffic)| (&**name, traffic))
    }

    /// In all.
    pub fn sum(&self) -> Traffic {
        self.0.values().fold(Traffic::default(), joined(add))
    }

    /// For each service what `of` makes of both.
    fn join(&mut self, other: &Self, of: fn(u64, u64) -> u64) {
        for (service, traffic) in other.iter() {
            self.change(service, traffic, of);
        }
    }

    fn change(&mut self, service: &str, traffic: &Traffic, of: fn(u64, u64) -> u64) {
        let has_room = self.0.len() < SERVICES_MAX;
        if let Some(known) = self.0.get_mut(service) {
            *known = joined(of)(*known, traffic);
        } else if has_room || service.is_empty() {
            self.0.insert(service.to_owned(), *traffic);
        } else {
            self.change("", traffic, of);
        }
    }
}

fn add(a: u64, b: u64) -> u64 {
    a.saturating_add(b)
}

/// What `of` makes of each number of both.
fn joined(of: fn(u64, u64) -> u64) -> impl Fn(Traffic, &Traffic) -> Traffic {
    move |a, b| {
        [0, 1].map(|at| Counters {
            packets: of(a[at].packets, b[at].packets),
            bytes: of(a[at].bytes, b[at].bytes),
        })
    }
}

impl Accounting {
    /// Counts, if there is an interval; what a peer tells is kept in either case.
    pub fn new(interval: Option<Duration>, incarnation: u64, now: Instant) -> Self {
        Self {
            books: interval.map(|interval| Books {
                interval,
                due: now + interval,
                flows: HashMap::default(),
                hasher: RandomState::new(),
                pass: 0,
                has_begun: false,
                totals: Totals::default(),
                left_out: 0,
            }),
            incarnation,
            before: Totals::default(),
            peers: std::array::from_fn(|_| Peer::default()),
            linked: MemberSet::default(),
            owed: MemberSet::default(),
            owed_theirs: MemberSet::default(),
        }
    }

    /// From one reading of the table to the next, if anything is counted here.
    pub fn interval(&self) -> Option<Duration> {
        self.books.as_ref().map(|books| books.interval)
    }

    /// When the table has to be read again.
    pub fn due(&self) -> Option<Instant> {
        self.books.as_ref().map(|books| books.due)
    }

    /// Flows that were not followed, as there were too many.
    pub fn left_out(&self) -> u64 {
        self.books.as_ref().map_or(0, |books| books.left_out)
    }

    /// The table is read from its start.
    pub fn begin_pass(&mut self) {
        if let Some(books) = &mut self.books {
            books.pass += 1;
        }
    }

    /// A row of the table: what the kernel has counted of a flow so far.
    pub fn note_row(&mut self, key: &FlowKey, service: &str, counted: &Traffic) {
        let Some(books) = &mut self.books else {
            return;
        };
        let now = Seen {
            counted: *counted,
            pass: books.pass,
        };
        let has_room = books.flows.len() < FLOWS_MAX;
        let digest = books.hasher.hash_one(key);
        let grown = match books.flows.entry(digest) {
            Entry::Occupied(mut known) => grown(&known.insert(now).counted, counted),
            Entry::Vacant(_) if !has_room => {
                books.left_out += 1;
                return;
            }
            Entry::Vacant(place) => {
                place.insert(now);
                match books.has_begun {
                    true => *counted,
                    false => Traffic::default(),
                }
            }
        };
        if grown != Traffic::default() {
            books.totals.change(service, &grown, add);
        }
    }

    /// The end of a flow: all that the kernel had counted of it.
    pub fn note_end(&mut self, key: &FlowKey, service: &str, counted: &Traffic) {
        let Some(books) = &mut self.books else {
            return;
        };
        let known = books.flows.remove(&books.hasher.hash_one(key));
        let grown = match known {
            Some(known) => grown(&known.counted, counted),
            None if books.has_begun => *counted,
            None => return,
        };
        books.totals.change(service, &grown, add);
    }

    /// The table was read to its end. True if an interval is over with it: the totals are to be written, and the peers are told.
    pub fn end_pass(&mut self, now: Instant) -> bool {
        let Some(books) = &mut self.books else {
            return false;
        };
        let pass = books.pass;
        // Flows whose end was lost.
        books.flows.retain(|_, seen| seen.pass == pass);
        books.has_begun = true;
        if now < books.due {
            return false;
        }
        books.due = now + books.interval;
        self.owed = self.linked;
        true
    }

    /// There is a link to a peer: it may have heard nothing yet.
    pub fn handle_link_up(&mut self, member: MemberId) {
        self.linked.insert(member);
        self.owed.insert(member);
        self.owed_theirs.insert(member);
    }

    /// The link to a peer is gone.
    pub fn handle_link_down(&mut self, member: MemberId) {
        self.linked.remove(member);
        self.owed.remove(member);
        self.owed_theirs.remove(member);
    }

    /// The next thing to tell a peer.
    pub fn poll(&mut self, to: MemberId) -> Option<TotalsMessage> {
        let (whose, totals) = if self.books.is_some() && self.owed.contains(to) {
            self.owed.remove(to);
            (Whose::Mine(self.incarnation), self.own())
        } else if self.owed_theirs.contains(to) {
            self.owed_theirs.remove(to);
            let before = &self.peers.get(to.index())?.before;
            (Whose::Yours, before.clone())
        } else {
            return None;
        };
        let is_news = whose != Whose::Yours || totals != Totals::default();
        is_news.then_some(TotalsMessage { whose, totals })
    }

    /// A peer told something.
    pub fn handle(&mut self, from: MemberId, told: TotalsMessage, now: Instant) {
        let Some(peer) = self.peers.get_mut(from.index()) else {
            return;
        };
        match told.whose {
            Whose::Mine(run) => {
                if peer.run.is_some_and(|(known, _)| known != run) {
                    peer.before.join(&peer.totals, u64::max);
                    peer.totals = Totals::default();
                    if self.linked.contains(from) {
                        self.owed_theirs.insert(from);
                    }
                }
                peer.run = Some((run, now));
                peer.totals.join(&told.totals, u64::max);
            }
            Whose::Yours => self.before.join(&told.totals, u64::max),
        }
    }

    /// What passed here, earlier runs included.
    pub fn own(&self) -> Totals {
        let mut own = self.before.clone();
        own.join(self.since_start(), add);
        own
    }

    /// What passed here since the start of this run.
    pub fn since_start(&self) -> &Totals {
        const NONE: &Totals = &Totals(BTreeMap::new());
        self.books.as_ref().map_or(NONE, |books| &books.totals)
    }

    /// What a peer has told last, and when; nothing if it has not.
    pub fn of_peer(&self, member: MemberId) -> Option<(Totals, Instant)> {
        let peer = self.peers.get(member.index())?;
        let (_, at) = peer.run?;
        let mut totals = peer.before.clone();
        totals.join(&peer.totals, u64::max);
        Some((totals, at))
    }
}

/// What was counted since; an entry that shows less than before is another, in the place of one whose end was lost.
fn grown(before: &Traffic, now: &Traffic) -> Traffic {
    let is_same =
        |at: usize| before[at].packets <= now[at].packets && before[at].bytes <= now[at].bytes;
    match is_same(0) && is_same(1) {
        true => joined(u64::wrapping_sub)(*now, before),
        false => *now,
    }
}

#[cfg(test)]
mod tests;
