//! Destinations whose flows were seen to pass two gateways: the first packets of others to them are held (`hold: auto`).
//!
//! What is learnt is a prefix, since routes are: 24 bits of IPv4, 64 of IPv6; and the interface towards it, as held packets
//! show it. The rules steer by the prefix alone; what goes out by another interface than flows that were seen on two gateways is
//! let pass. Of a flow of which no packet was held the interface is not known: then any is suspected, until one is learnt. Both
//! are forgotten when no such flow was seen for a while; as long as there are some, each of them renews it.

use crate::control::answer::{Endpoints, SplitDestination, SplitDestinations};
use crate::convert::ip;
use crate::protocols;
use crate::ruleset::hold::Prefix;
use ccp::record::FlowKey;
use ccp::time::Instant;
use ccp::wire::flow::has_l4;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// How long a destination is suspected after the last flow that was seen on two gateways.
const DECAY: Duration = Duration::from_secs(600);
/// Destinations suspected at a time; more are not learnt until one is forgotten.
const PREFIXES_MAX: usize = 256;
/// Interfaces towards a prefix that are told apart; with more, any is suspected.
const INTERFACES_MAX: usize = 8;
/// Flows of held packets whose interfaces are remembered: these, and as many before them.
const WAYS_MAX: usize = 4096;
/// From one change of the rules to the next at least: each runs a program.
const CHANGE_INTERVAL: Duration = Duration::from_secs(1);

/// Every suspected destination.
#[derive(Debug, Default)]
pub struct Splits {
    seen: BTreeMap<Prefix, Split>,
    /// By which interfaces flows of held packets go to their destinations: of late, and before.
    ways: [HashMap<FlowKey, u32>; 2],
    /// Flows whose destinations were not learnt, as there were [`PREFIXES_MAX`].
    not_learnt: u64,
    changed: bool,
    changed_at: Option<Instant>,
}

/// A suspected destination.
#[derive(Debug)]
struct Split {
    since: Instant,
    /// When a flow was seen on two gateways last.
    seen: Instant,
    /// How many were.
    flows: u64,
    /// The last one.
    last: FlowKey,
    /// The interfaces towards it, each with when a flow was seen last.
    interfaces: BTreeMap<u32, Instant>,
    /// When one was seen of which the interface is not known, unless one was learnt since.
    anywhere: Option<Instant>,
}

impl Split {
    fn see(&mut self, interface: Option<u32>, now: Instant) {
        let known = &mut self.interfaces;
        match interface {
            Some(interface) if known.contains_key(&interface) => {
                known.insert(interface, now);
            }
            Some(interface) if known.len() < INTERFACES_MAX => {
                known.insert(interface, now);
                self.anywhere = None;
            }
            Some(_) | None => self.anywhere = Some(now),
        }
    }

    fn forget_old(&mut self, now: Instant) {
        let is_recent = |seen: &Instant| now.since(*seen) < DECAY;
        self.interfaces.retain(|_, seen| is_recent(seen));
        self.anywhere = self.anywhere.filter(is_recent);
    }
}

impl Splits {
    /// A flow was seen to pass two gateways. Returns the prefix of its destination if it was not suspected before.
    pub fn learn(&mut self, key: &FlowKey, now: Instant) -> Option<Prefix> {
        let prefix = prefix_of(ip(key.family, &key.dst));
        let way = self.ways.iter().find_map(|ways| ways.get(key).copied());
        if let Some(split) = self.seen.get_mut(&prefix) {
            (split.seen, split.last) = (now, *key);
            split.flows += 1;
            split.see(way, now);
            return None;
        }
        if self.seen.len() >= PREFIXES_MAX {
            self.not_learnt += 1;
            return None;
        }
        let mut split = Split {
            since: now,
            seen: now,
            flows: 1,
            last: *key,
            interfaces: BTreeMap::new(),
            anywhere: None,
        };
        split.see(way, now);
        self.seen.insert(prefix, split);
        self.changed = true;
        Some(prefix)
    }

    /// A packet of a flow is held that goes to its destination, or comes from there, by this interface.
    pub fn note_way(&mut self, key: &FlowKey, interface: u32) {
        let [of_late, before] = &mut self.ways;
        if of_late.len() >= WAYS_MAX {
            *before = std::mem::take(of_late);
        }
        of_late.insert(*key, interface);
    }

    /// True if first packets to where this flow goes are held that go out by this interface.
    pub fn includes(&self, key: &FlowKey, interface: Option<u32>) -> bool {
        let split = self.seen.get(&prefix_of(ip(key.family, &key.dst)));
        split.is_some_and(|split| {
            split.anywhere.is_some()
                || interface.is_none_or(|it| split.interfaces.contains_key(&it))
        })
    }

    /// Forgets what was not seen for long.
    pub fn forget_old(&mut self, now: Instant) {
        let before = self.seen.len();
        for split in self.seen.values_mut() {
            split.forget_old(now);
        }
        self.seen.retain(|_, split| now.since(split.seen) < DECAY);
        self.changed |= self.seen.len() != before;
    }

    /// The rules may be other ones than now: learnt again.
    pub fn renew(&mut self) {
        self.changed = !self.seen.is_empty();
    }

    /// What is suspected, if it has changed and the last change is long enough ago.
    pub fn poll_change(&mut self, now: Instant) -> Option<BTreeSet<Prefix>> {
        let is_due = self
            .changed_at
            .is_none_or(|at| now.since(at) >= CHANGE_INTERVAL);
        if !self.changed || !is_due {
            return None;
        }
        self.changed = false;
        self.changed_at = Some(now);
        Some(self.seen.keys().copied().collect())
    }

    /// The answer to `paths`; `used` says whether first packets are held because of it, `name_of` how interfaces are called.
    pub fn answer(
        &self,
        used: bool,
        name_of: impl Fn(u32) -> String,
        now: Instant,
    ) -> SplitDestinations {
        let destinations = self.seen.iter().map(|((address, bits), split)| {
            let Split {
                since,
                seen,
                flows,
                last,
                interfaces,
                anywhere,
            } = split;
            let interfaces = match anywhere {
                Some(_) => Vec::new(),
                None => interfaces.keys().copied().map(&name_of).collect(),
            };
            let unseen = now.since(*seen);
            let port = |number: u16| has_l4(last.proto).then_some(number);
            SplitDestination {
                destination: format!("{address}/{bits}"),
                interfaces,
                seconds: now.since(*since).as_secs(),
                seen_seconds_ago: unseen.as_secs(),
                forgotten_in_seconds: DECAY.saturating_sub(unseen).as_secs(),
                flows: *flows,
                proto: protocols::name(last.proto).into_owned(),
                orig: Endpoints {
                    src: ip(last.family, &last.src),
                    dst: ip(last.family, &last.dst),
                    sport: port(last.l4[0]),
                    dport: port(last.l4[1]),
                },
            }
        });
        SplitDestinations {
            used,
            forgotten_after_seconds: DECAY.as_secs(),
            not_learnt: self.not_learnt,
            destinations: destinations.collect(),
        }
    }
}

fn prefix_of(address: IpAddr) -> Prefix {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            (Ipv4Addr::new(a, b, c, 0).into(), 24)
        }
        IpAddr::V6(address) => {
            let bits = u128::from(address) >> 64 << 64;
            (Ipv6Addr::from(bits).into(), 64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DECAY, PREFIXES_MAX, Splits, prefix_of};
    use crate::convert;
    use ccp::record::FlowKey;
    use ccp::time::Instant;
    use conntrack::{Flow, L4, Tuple};
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    fn key(dst: IpAddr) -> FlowKey {
        convert::key(&Flow::new(Tuple {
            src: Ipv4Addr::LOCALHOST.into(),
            dst,
            proto: 6,
            l4: L4::Ports { src: 1, dst: 2 },
            zone: 0,
        }))
    }

    fn name(interface: u32) -> String {
        format!("eth{interface}")
    }

    #[test]
    fn of_a_destination_those_interfaces_are_suspected_that_held_packets_showed() {
        let mut splits = Splits::default();
        let start = Instant::from_micros(1);
        let flow = |host| key(IpAddr::from([203, 0, 113, host]));
        let includes = |splits: &Splits| {
            [Some(1), Some(2), None].map(|interface| splits.includes(&flow(9), interface))
        };
        assert_eq!(includes(&splits), [false; 3]);
        splits.learn(&flow(1), start);
        assert_eq!(includes(&splits), [true; 3], "it is not known yet");
        splits.note_way(&flow(2), 1);
        splits.learn(&flow(2), start);
        assert_eq!(includes(&splits), [true, false, true]);
        let answer = splits.answer(true, name, start);
        assert_eq!(answer.destinations[0].interfaces, ["eth1"]);
        // One that went out by the other was not held.
        splits.learn(&flow(3), start + DECAY / 2);
        assert_eq!(includes(&splits), [true; 3]);
        splits.note_way(&flow(4), 2);
        splits.learn(&flow(4), start + DECAY / 2);
        assert_eq!(includes(&splits), [true; 3]);
        let answer = splits.answer(true, name, start);
        assert_eq!(answer.destinations[0].interfaces, ["eth1", "eth2"]);
        splits.forget_old(start + DECAY);
        assert_eq!(includes(&splits), [false, true, true]);
    }

    #[test]
    fn a_destination_is_suspected_with_its_prefix_until_no_flow_was_seen_for_long() {
        let mut splits = Splits::default();
        let start = Instant::from_micros(1);
        let address = |host| IpAddr::from([203, 0, 113, host]);
        assert!(splits.learn(&key(address(7)), start).is_some());
        assert!(splits.learn(&key(address(8)), start + DECAY / 2).is_none());
        let learnt = splits.poll_change(start).unwrap();
        assert_eq!(learnt, [(IpAddr::from([203, 0, 113, 0]), 24)].into());
        assert_eq!(splits.poll_change(start), None);
        let answer = splits.answer(true, name, start + DECAY);
        let [split] = &answer.destinations[..] else {
            panic!("{answer:?}");
        };
        assert_eq!(split.destination, "203.0.113.0/24");
        assert_eq!(
            (split.seconds, split.seen_seconds_ago, split.flows),
            (600, 300, 2)
        );
        assert_eq!(split.forgotten_in_seconds, 300);
        assert_eq!((split.orig.dst, split.orig.dport), (address(8), Some(2)));
        splits.forget_old(start + DECAY);
        assert_eq!(splits.poll_change(start + DECAY), None, "it was renewed");
        splits.forget_old(start + DECAY * 2);
        assert_eq!(splits.poll_change(start + DECAY * 2), Some([].into()));
    }

    #[test]
    fn many_destinations_at_once_change_the_rules_once_and_are_bounded() {
        let mut splits = Splits::default();
        let now = Instant::from_micros(1);
        for n in 0..1000_u16 {
            let [a, b] = n.to_be_bytes();
            splits.learn(&key(IpAddr::from([10, a, b, 1])), now);
        }
        assert_eq!(splits.poll_change(now).unwrap().len(), PREFIXES_MAX);
        assert_eq!(splits.answer(true, name, now).not_learnt, 1000 - 256);
        splits.forget_old(now + DECAY);
        let soon = now + Duration::from_millis(999);
        assert_eq!(splits.poll_change(soon), None);
        assert_eq!(splits.poll_change(now + DECAY), Some([].into()));
    }

    #[test]
    fn a_prefix_of_ipv6_is_a_network_of_hosts() {
        let address: IpAddr = "2001:db8:1:2:3::4".parse().unwrap();
        assert_eq!(prefix_of(address), ("2001:db8:1:2::".parse().unwrap(), 64));
    }
}
