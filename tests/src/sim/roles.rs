//! The election under faults: nodes of the protocol without any flows, one sync network and two monitored interfaces.
//!
//! Members start in any order. Then, period after period, something breaks or heals: cables one way or both, links, daemons,
//! whole networks, the operator's will. A while after each, among those that can talk there has to be one with the role, and
//! no two of those that can talk to each other directly have it; and nobody changed more often than the fault explains.

use std::collections::BTreeMap;
use std::time::Duration;

use ccp::election::{self, Mode, Problem, Problems, State};
use ccp::network::NetworkId;
use ccp::node::{Config, Event, Node};
use ccp::paths::Spread;
use ccp::probe::{Link, Timers, Watched};
use ccp::record::MemberId;
use ccp::time::Instant;
use ccp::wire::header::Header;

use super::random::Random;

/// The sync network, then the monitored interfaces.
const MEDIA: usize = 3;
const NAMES: [&str; 2] = ["lan", "wan"];
const DEAD_AFTER: Duration = Duration::from_secs(1);
/// After it everybody has to agree: what is silent is dead, what is heard again good, each told and judged, twice over.
const SETTLED: Duration = Duration::from_secs(6);
/// Of one member's state in a period, by one or two faults: away, ready, active and back, for each of what a fault breaks.
const CHANGES_MAX: u32 = 8;
const PERIODS: u32 = 8;

/// What a run had in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Changes of state.
    pub changes: u32,
    /// Checks of who has the role.
    pub checks: u32,
    /// Of those, how many found members with no sync network between them that talk by probes.
    pub by_probes: u32,
}

struct Machine {
    node: Option<Node>,
    /// Counts daemons, so that what was for one is not for the next.
    run: u64,
    incarnation: u64,
    deaf: [bool; MEDIA],
    mute: [bool; MEDIA],
    link_down: [bool; MEDIA],
    asked_down: bool,
    changes: u32,
}

type Sent = ([usize; 2], [u64; 2], Parcel);

enum Parcel {
    Datagram(usize, Vec<u8>),
    Frame(u8, Vec<u8>),
}

struct World {
    random: Random,
    now: Instant,
    machines: Vec<Machine>,
    /// By when they arrive: from, to, and of which runs.
    wire: BTreeMap<(Instant, u64), Sent>,
    count: u64,
    preempt: bool,
    /// Whether hosts on the monitored interfaces answer.
    hosts: bool,
    report: Report,
}

/// Runs a seed; an error says what was not as it should be.
pub fn run(seed: u64) -> Result<Report, String> {
    let mut random = Random::new(seed ^ 0x00e1_ec70);
    let members = random.within(2..6);
    let (preempt, hosts) = (random.percent(25), random.percent(50));
    let machine = |_| Machine {
        node: None,
        run: 0,
        incarnation: 0,
        deaf: [false; MEDIA],
        mute: [false; MEDIA],
        link_down: [false; MEDIA],
        asked_down: false,
        changes: 0,
    };
    let mut world = World {
        random,
        now: Instant::default(),
        machines: (0..members).map(machine).collect(),
        wire: BTreeMap::new(),
        count: 0,
        preempt,
        hosts,
        report: Report::default(),
    };
    let mut order: Vec<usize> = (0..world.machines.len()).collect();
    while !order.is_empty() {
        let at = world.pick(order.len());
        let member = order.swap_remove(at);
        world.start(member);
        let pause = world.random.pause(Duration::ZERO..Duration::from_secs(2));
        world.pass(pause);
    }
    let mut what = "start".to_owned();
    for period in 0..PERIODS {
        world.pass(SETTLED);
        let problem = world.check();
        problem.map_err(|problem| format!("seed {seed}, period {period}, {what}: {problem}"))?;
        what = (0..=world.pick(2)).map(|_| world.disturb()).collect();
    }
    Ok(world.report)
}

impl World {
    fn pick(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).expect("few");
        usize::try_from(self.random.within(0..count)).expect("few")
    }

    /// Something breaks, or heals.
    fn disturb(&mut self) -> String {
        let at = self.pick(self.machines.len());
        let medium = self.pick(MEDIA);
        let broken = self.random.percent(70);
        let machine = &mut self.machines[at];
        let what = match self.random.within(0..9) {
            0 => {
                machine.deaf[medium] = broken;
                "deaf"
            }
            1 => {
                machine.mute[medium] = broken;
                "mute"
            }
            2 | 3 => {
                machine.deaf[medium] = broken;
                machine.mute[medium] = broken;
                "cut"
            }
            4 => {
                machine.link_down[medium] = broken;
                self.look_at_links(at);
                "link"
            }
            5 => {
                match broken {
                    true => self.kill(at),
                    false => self.start(at),
                }
                "daemon"
            }
            6 => {
                machine.asked_down = broken;
                self.tell_problems(at);
                "asked"
            }
            7 => {
                for machine in &mut self.machines {
                    machine.deaf[medium] = broken;
                }
                "network"
            }
            _ => {
                self.heal();
                "all"
            }
        };
        format!("{what} {at}/{medium} {broken}; ")
    }

    fn heal(&mut self) {
        for at in 0..self.machines.len() {
            let machine = &mut self.machines[at];
            (machine.deaf, machine.mute) = ([false; MEDIA], [false; MEDIA]);
            (machine.link_down, machine.asked_down) = ([false; MEDIA], false);
            match machine.node {
                Some(_) => {
                    self.look_at_links(at);
                    self.tell_problems(at);
                }
                None => self.start(at),
            }
        }
    }

    fn start(&mut self, at: usize) {
        self.kill(at);
        let members = u8::try_from(self.machines.len()).expect("few");
        let peers = (1..=members).filter(|it| usize::from(*it) != at + 1);
        let incarnation = self.random.number();
        let config = Config {
            cluster: 7,
            member: member(at),
            peers: peers.filter_map(MemberId::new).collect(),
            incarnation,
            table: 1 + at as u64,
            hash_seed: [1, 2],
            datagram_bytes_max: 1400,
            flows_max: 16,
            flush: Duration::from_millis(1),
            hello: DEAD_AFTER / 10,
            dead_after: DEAD_AFTER,
            networks: 1,
            spread: Spread::One,
            roles: election::Config {
                mode: Mode::HighAvailability,
                priority: [50, 100, 100, 200][at % 4],
                preempt: self.preempt,
                settle: Duration::from_secs(3),
            },
            probes: Timers {
                interval: DEAD_AFTER / 5,
                dead_after: DEAD_AFTER,
            },
            hold: ccp::hold::Config::default(),
        };
        let mut node = Node::new(config, self.now);
        node.begin_pass();
        node.end_pass();
        let machine = &mut self.machines[at];
        (machine.node, machine.incarnation) = (Some(node), incarnation);
        machine.run += 1;
        self.look_at_links(at);
        self.tell_problems(at);
        for other in (0..self.machines.len()).filter(|it| *it != at) {
            let now = self.now;
            if self.machines[other].node.is_some() {
                for [one, two] in [[at, other], [other, at]] {
                    if let Some(node) = &mut self.machines[one].node {
                        node.handle_link_up(member(two), now);
                    }
                }
            }
        }
        self.drain(at);
    }

    fn kill(&mut self, at: usize) {
        self.machines[at].node = None;
        let now = self.now;
        for node in self.machines.iter_mut().filter_map(|it| it.node.as_mut()) {
            node.handle_link_down(member(at), now);
        }
    }

    fn look_at_links(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let watched = NAMES.iter().zip(&machine.link_down[1..]);
        let watched = watched.map(|(name, down)| Watched {
            name: (*name).into(),
            link: if *down { Link::Down } else { Link::Up },
            network: None,
        });
        let watched = watched.collect();
        if let Some(node) = &mut machine.node {
            node.set_interfaces(watched, self.now);
        }
        self.drain(at);
    }

    fn tell_problems(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let mut problems = Problems::default();
        if machine.asked_down {
            problems.add(Problem::Asked);
        }
        if let Some(node) = &mut machine.node {
            node.set_problems(problems, self.now);
        }
        self.drain(at);
    }

    fn carries(&self, [from, to]: [usize; 2], medium: usize) -> bool {
        let [from, to] = [&self.machines[from], &self.machines[to]];
        let works = |it: &Machine| !it.link_down[medium];
        works(from) && works(to) && !from.mute[medium] && !to.deaf[medium]
    }

    fn carries_both(&self, [one, two]: [usize; 2], medium: usize) -> bool {
        self.carries([one, two], medium) && self.carries([two, one], medium)
    }

    fn post(&mut self, [from, to]: [usize; 2], pause: Duration, parcel: Parcel) {
        self.count += 1;
        let runs = [from, to].map(|it| self.machines[it].run);
        let at = self.now + pause;
        (self.wire).insert((at, self.count), ([from, to], runs, parcel));
    }

    /// Takes what a node has to say.
    fn drain(&mut self, at: usize) {
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
            let interface = NAMES
                .iter()
                .position(|it| *it == name)
                .expect("one of them");
            if hosts_answer[interface] {
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
            if self.carries([at, to], medium) {
                let pause = self
                    .random
                    .pause(Duration::from_micros(100)..Duration::from_millis(2));
                self.post([at, to], pause, Parcel::Datagram(medium, bytes));
            }
        }
        for (to, kind, body) in frames {
            self.post(
                [at, to],
                Duration::from_millis(1),
                Parcel::Frame(kind, body),
            );
        }
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let arrival = self.wire.keys().next().map(|(at, _)| *at);
            let due = self.machines.iter().enumerate().filter_map(|(at, it)| {
                let (due, _) = it.node.as_ref()?.poll_timeout();
                Some((due.max(self.now), at))
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
                let now = self.now + Duration::from_micros(50);
                self.now = now;
                if let Some(node) = &mut self.machines[at].node {
                    node.handle_timeout(now);
                }
                self.drain(at);
            }
        }
        self.now = self.now.max(until);
    }

    fn deliver(&mut self) {
        let Some((_, ([from, to], runs, parcel))) = self.wire.pop_first() else {
            return;
        };
        let is_link = self.carries_both([from, to], 0);
        let now = self.now;
        if runs != [from, to].map(|it| self.machines[it].run) {
            return;
        }
        let Some(node) = &mut self.machines[to].node else {
            return;
        };
        match parcel {
            // TCP tries until it is through.
            Parcel::Frame(..) if !is_link => {
                self.post([from, to], Duration::from_millis(200), parcel);
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
        }
        self.drain(to);
    }

    fn check(&mut self) -> Result<(), String> {
        self.report.checks += 1;
        let count = self.machines.len();
        let running: Vec<_> = (0..count)
            .filter(|it| self.machines[*it].node.is_some())
            .collect();
        let state = |at: usize| {
            self.machines[at]
                .node
                .as_ref()
                .map(|it| it.election().standing(self.now).state)
        };
        let states: Vec<_> = (0..count).map(state).collect();
        let has_role = |at: usize| states[at].is_some_and(State::is_active);
        let mut group: Vec<usize> = (0..count).collect();
        let mut by_probes = 0;
        for (at, one) in running.iter().enumerate() {
            for two in &running[at + 1..] {
                let pair = [*one, *two];
                let by_sync = self.carries_both(pair, 0);
                let by_probe =
                    self.have_met(pair) && (1..MEDIA).any(|it| self.carries_both(pair, it));
                by_probes += u32::from(by_probe && !by_sync);
                if !by_sync && !by_probe {
                    continue;
                }
                if has_role(*one) && has_role(*two) {
                    return Err(format!("{one} and {two} have the role: {states:?}"));
                }
                let (from, to) = (group[*one], group[*two]);
                group
                    .iter_mut()
                    .filter(|it| **it == from)
                    .for_each(|it| *it = to);
            }
        }
        self.report.by_probes += by_probes;
        for at in &running {
            let mut mates = running.iter().filter(|it| group[**it] == group[*at]);
            if !mates.any(|it| has_role(*it)) {
                return Err(format!(
                    "nobody of those with {at} has the role: {states:?}"
                ));
            }
        }
        for (at, machine) in self.machines.iter_mut().enumerate() {
            let changes = std::mem::take(&mut machine.changes);
            self.report.changes += changes;
            if changes > CHANGES_MAX {
                return Err(format!("{at} changed {changes} times"));
            }
        }
        Ok(())
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

fn member(at: usize) -> MemberId {
    let number = u8::try_from(at + 1).expect("few");
    MemberId::new(number).expect("few")
}
