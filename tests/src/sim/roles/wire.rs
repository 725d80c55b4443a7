//! What the machines' daemons say and hear, and the passing of time.

use std::time::Duration;

use ccp::network::NetworkId;
use ccp::node::Event;
use ccp::record::MemberId;
use ccp::wire::header::Header;

use super::machine::{Machine, member};
use super::{DEAD_AFTER, MEDIA, NAMES, World};

/// Of what comes to a lossy interface, so much is lost.
const LOST_PERCENT: u64 = 10;

/// From, to, and of which runs.
pub type Sent = ([usize; 2], [u64; 2], Parcel);

/// What comes to a daemon.
pub enum Parcel {
    /// Over a medium.
    Datagram(usize, Vec<u8>),
    /// Over the link between two.
    Frame(u8, Vec<u8>),
    /// There is a link to who sent it.
    Linked,
    /// There is none any longer.
    Unlinked,
    /// From its own machine.
    Look,
}

impl World {
    /// Whether what one sends over a medium comes to the other.
    pub fn carries(&self, [from, to]: [usize; 2], medium: usize) -> bool {
        let [from, to] = [&self.machines[from], &self.machines[to]];
        let works = |it: &Machine| !it.link_down[medium];
        works(from) && works(to) && !from.mute[medium] && !to.deaf[medium]
    }

    /// The same, both ways.
    pub fn carries_both(&self, [one, two]: [usize; 2], medium: usize) -> bool {
        self.carries([one, two], medium) && self.carries([two, one], medium)
    }

    /// Sends something on its way.
    pub fn post(&mut self, [from, to]: [usize; 2], pause: Duration, parcel: Parcel) {
        self.count += 1;
        let runs = [from, to].map(|it| self.machines[it].run);
        let at = self.now + pause;
        (self.wire).insert((at, self.count), ([from, to], runs, parcel));
    }

    /// Takes what a node has to say.
    pub fn drain(&mut self, at: usize) {
        let now = self.now;
        let mut said = Vec::new();
        let hosts_answer: [bool; 2] = [1, 2].map(|medium| {
            let machine = &self.machines[at];
            self.hosts && !(machine.deaf[medium] || machine.mute[medium])
        });
        let peers: Vec<_> = (0..self.machines.len()).filter(|it| *it != at).collect();
        let machine = &mut self.machines[at];
        let Some(node) = &mut machine.node else {
            return;
        };
        while let Some(event) = node.poll_event() {
            machine.changes += u32::from(matches!(event, Event::Role(_)));
        }
        let mut out = Vec::new();
        while let Some(transmit) = node.poll_transmit(now, &mut out) {
            for (_, members) in transmit.routes.iter() {
                let to = members.iter().map(MemberId::index);
                said.extend(to.map(|to| (to, 0, out.clone())));
            }
            out.clear();
        }
        while let Some((_, interface)) = node.poll_probe(now, &mut out) {
            said.extend(peers.iter().map(|to| (*to, interface + 1, out.clone())));
            out.clear();
        }
        for name in node.poll_doubtful(now) {
            let interface = NAMES.iter().position(|it| *it == name);
            if hosts_answer[interface.expect("one of them")] {
                node.handle_answered(&name, now);
            }
        }
        let mut frames = Vec::new();
        for to in &peers {
            while let Some(kind) = node.poll_link_message(member(*to), &mut out) {
                frames.push((*to, kind, std::mem::take(&mut out)));
            }
        }
        for (to, medium, bytes) in said {
            let is_lost = self.machines[to].lossy[medium] && self.random.percent(LOST_PERCENT);
            if self.carries([at, to], medium) && !is_lost {
                let pause = Duration::from_micros(100)..Duration::from_millis(2);
                let pause = self.random.pause(pause);
                self.post([at, to], pause, Parcel::Datagram(medium, bytes));
            }
        }
        for (to, kind, body) in frames {
            let pause = Duration::from_millis(1);
            self.post([at, to], pause, Parcel::Frame(kind, body));
        }
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let arrival = self.wire.keys().next().map(|(at, _)| *at);
            let due = self.machines.iter().enumerate().filter_map(|(at, it)| {
                let (due, _) = it.node.as_ref()?.poll_timeout();
                Some((due.max(self.now).max(it.asleep_until), at))
            });
            let due = due.min();
            let next = due.map(|(at, _)| at).into_iter().chain(arrival).min();
            match next.filter(|next| *next < until) {
                None => break,
                Some(next) => self.now = next,
            }
            if arrival == next {
                self.deliver();
            } else if let Some((_, at)) = due {
                self.turn(at);
            }
        }
        self.now = self.now.max(until);
    }

    /// The loop of a daemon turns.
    fn turn(&mut self, at: usize) {
        let now = self.now + Duration::from_micros(50);
        self.now = now;
        let machine = &mut self.machines[at];
        if let Some(node) = &mut machine.node {
            node.handle_timeout(now);
        }
        if machine.hungry {
            let pause = self.random.pause(DEAD_AFTER / 10..DEAD_AFTER * 2 / 3);
            self.machines[at].asleep_until = now + pause;
        }
        self.drain(at);
    }

    fn deliver(&mut self) {
        let Some(((_, number), sent)) = self.wire.pop_first() else {
            return;
        };
        let ([from, to], runs, parcel) = &sent;
        let (from, to, now) = (*from, *to, self.now);
        let waits = self.machines[to].asleep_until;
        if waits > now {
            self.wire.insert((waits, number), sent);
            return;
        }
        let is_of_both = runs[0] == self.machines[from].run || matches!(parcel, Parcel::Unlinked);
        if !is_of_both || runs[1] != self.machines[to].run {
            return;
        }
        let is_link = self.carries_both([from, to], 0);
        let machine = &mut self.machines[to];
        let Some(node) = &mut machine.node else {
            return;
        };
        match sent.2 {
            // TCP tries until it is through.
            Parcel::Frame(..) if !is_link => {
                self.post([from, to], Duration::from_millis(200), sent.2);
                return;
            }
            Parcel::Frame(kind, body) => node
                .handle_link_message(member(from), kind, &body, now)
                .expect("nodes say what can be read"),
            Parcel::Datagram(medium, bytes) => {
                let (header, body) = Header::decode(&bytes).expect("nodes say what can be read");
                let taken = match medium.checked_sub(1) {
                    None => node.handle_datagram(&header, body, NetworkId::FIRST, now),
                    Some(it) => node.handle_probe(&header, body, NAMES[it], now),
                };
                taken.expect("nodes say what can be read");
            }
            Parcel::Linked => node.handle_link_up(member(from), now),
            Parcel::Unlinked => node.handle_link_down(member(from), now),
            Parcel::Look => machine.look(now),
        }
        self.drain(to);
    }

    /// Whether two can talk, over the sync network or by probes alone.
    pub fn talk(&self, pair: [usize; 2]) -> Talk {
        if self.carries_both(pair, 0) {
            Talk::BySync
        } else if self.have_met(pair) && (1..MEDIA).any(|it| self.carries_both(pair, it)) {
            Talk::ByProbes
        } else {
            Talk::Not
        }
    }

    /// True if each has heard the other's present run prove itself, over the sync network.
    fn have_met(&self, pair: [usize; 2]) -> bool {
        [pair, [pair[1], pair[0]]].iter().all(|[one, two]| {
            let node = self.machines[*one].node.as_ref();
            let peer = node.and_then(|it| it.membership().peer(member(*two)));
            peer.is_some_and(|it| it.is_run(self.machines[*two].incarnation))
        })
    }
}

/// How two talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    BySync,
    ByProbes,
    Not,
}
