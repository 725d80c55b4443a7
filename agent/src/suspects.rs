//! Destinations whose flows were seen to pass two gateways: the first packets of others to them are held (`hold: auto`).
//!
//! What is learnt is a prefix, since routes are: 24 bits of IPv4, 64 of IPv6. It is forgotten when no such flow was seen for
//! a while; as long as there are some, each of them renews it.

use crate::convert::ip;
use crate::ruleset::hold::Prefix;
use ccp::record::FlowKey;
use ccp::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// How long a destination is suspected after the last flow that was seen on two gateways.
const DECAY: Duration = Duration::from_secs(600);
/// Destinations suspected at a time; more are not learnt until one is forgotten.
const PREFIXES_MAX: usize = 256;
/// From one change of the rules to the next at least: each runs a program.
const CHANGE_INTERVAL: Duration = Duration::from_secs(1);

/// What was learnt.
#[derive(Debug, Default)]
pub struct Suspects {
    seen: BTreeMap<Prefix, Instant>,
    changed: bool,
    changed_at: Option<Instant>,
}

impl Suspects {
    /// A flow was seen to pass two gateways. True if its destination was not suspected before.
    pub fn learn(&mut self, key: &FlowKey, now: Instant) -> Option<Prefix> {
        let prefix = prefix_of(ip(key.family, &key.dst));
        if let Some(seen) = self.seen.get_mut(&prefix) {
            *seen = now;
            return None;
        }
        if self.seen.len() >= PREFIXES_MAX {
            return None;
        }
        self.seen.insert(prefix, now);
        self.changed = true;
        Some(prefix)
    }

    /// Forgets what was not seen for long.
    pub fn forget_old(&mut self, now: Instant) {
        let before = self.seen.len();
        self.seen.retain(|_, seen| now.since(*seen) < DECAY);
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
    use super::{DECAY, PREFIXES_MAX, Suspects, prefix_of};
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

    #[test]
    fn a_destination_is_suspected_with_its_prefix_until_no_flow_was_seen_for_long() {
        let mut suspects = Suspects::default();
        let start = Instant::from_micros(1);
        let address = |host| IpAddr::from([203, 0, 113, host]);
        assert!(suspects.learn(&key(address(7)), start).is_some());
        assert!(
            suspects
                .learn(&key(address(8)), start + DECAY / 2)
                .is_none()
        );
        let learnt = suspects.poll_change(start).unwrap();
        assert_eq!(learnt, [(IpAddr::from([203, 0, 113, 0]), 24)].into());
        assert_eq!(suspects.poll_change(start), None);
        suspects.forget_old(start + DECAY);
        assert_eq!(suspects.poll_change(start + DECAY), None, "it was renewed");
        suspects.forget_old(start + DECAY * 2);
        assert_eq!(suspects.poll_change(start + DECAY * 2), Some([].into()));
    }

    #[test]
    fn many_destinations_at_once_change_the_rules_once_and_are_bounded() {
        let mut suspects = Suspects::default();
        let now = Instant::from_micros(1);
        for n in 0..1000_u16 {
            let [a, b] = n.to_be_bytes();
            suspects.learn(&key(IpAddr::from([10, a, b, 1])), now);
        }
        assert_eq!(suspects.poll_change(now).unwrap().len(), PREFIXES_MAX);
        suspects.forget_old(now + DECAY);
        let soon = now + Duration::from_millis(999);
        assert_eq!(suspects.poll_change(soon), None);
        assert_eq!(suspects.poll_change(now + DECAY), Some([].into()));
    }

    #[test]
    fn a_prefix_of_ipv6_is_a_network_of_hosts() {
        let address: IpAddr = "2001:db8:1:2:3::4".parse().unwrap();
        assert_eq!(prefix_of(address), ("2001:db8:1:2::".parse().unwrap(), 64));
    }
}
