//! Which flows are replicated at all: those that the cluster forwards.
//!
//! Never: flows of the gateway itself, broadcast, multicast, loopback, link-local. Protocols are the policy's concern.

use crate::addresses::AddressSet;
use crate::convert::ip;
use ccp::record::{FlowKey, Nat};
use hashbrown::HashMap;
use std::net::IpAddr;

/// Addresses that left the machine are remembered, so many at most: the first.
const LEFT_MAX: usize = 1024;

/// Decides by the addresses that this machine has now, and by those that it had while flows of theirs are in its table.
#[derive(Debug)]
pub struct Scope {
    addresses: AddressSet,
    left: HashMap<IpAddr, Left>,
}

/// An address that this machine had.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// It was given to this machine alone.
    is_lent: bool,
    /// The pass over the kernel's table that goes on has shown a flow of it, or began before it left.
    is_named: bool,
}

impl Scope {
    /// Decides by these addresses.
    pub fn new(addresses: AddressSet) -> Self {
        Self {
            addresses,
            left: HashMap::new(),
        }
    }

    /// The machine's addresses are others now.
    pub fn set_addresses(&mut self, addresses: AddressSet) {
        self.left.retain(|address, _| !addresses.is_local(*address));
        let old = std::mem::replace(&mut self.addresses, addresses);
        for address in old.iter().filter(|it| !self.addresses.is_local(*it)) {
            if self.left.len() < LEFT_MAX {
                let is_lent = old.is_lent(address);
                let left = Left {
                    is_lent,
                    is_named: true,
                };
                self.left.insert(address, left);
            }
        }
    }

    /// True if the flow passes through this machine from one host to another.
    ///
    /// The end of a flow is its destination after translation: one that comes to an address of ours and is translated
    /// to a host behind us is forwarded.
    ///
    /// A flow of the machine itself stays one when its address leaves, perhaps to another gateway.
    pub fn is_forwarded(&self, key: &FlowKey, nat: &Nat) -> bool {
        let [src, _, end] = hosts(key, nat);
        self.may_pass(key, nat) && !self.left.contains_key(&src) && !self.left.contains_key(&end)
    }

    /// True if a flow that a peer forwards may be forwarded here as well: none can that begins or ends at an address of this
    /// machine.
    pub fn may_pass(&self, key: &FlowKey, nat: &Nat) -> bool {
        let [src, dst, end] = hosts(key, nat);
        !(self.is_ours(src) || self.is_ours(end) || self.is_for_many(dst) || self.is_for_many(end))
    }

    /// The kernel's table is read from its start.
    pub fn begin_pass(&mut self) {
        self.left
            .values_mut()
            .for_each(|left| left.is_named = false);
    }

    /// The kernel's table has a flow that is not forwarded.
    pub fn note_row(&mut self, key: &FlowKey, nat: &Nat) {
        let [src, _, end] = hosts(key, nat);
        for address in [src, end] {
            if let Some(left) = self.left.get_mut(&address) {
                left.is_named = true;
            }
        }
    }

    /// The kernel's table was read to its end: addresses that left, and of which no flow is left, are forgotten.
    pub fn end_pass(&mut self) {
        self.left.retain(|_, left| left.is_named);
    }

    /// True if a flow that is translated to this address has no other gateway to go on through: the address is in use here, or
    /// was given to this machine alone.
    pub fn stays_here(&self, address: IpAddr) -> bool {
        let was_lent = || self.left.get(&address).is_some_and(|left| left.is_lent);
        self.addresses.is_in_use(address) || self.addresses.is_lent(address) || was_lent()
    }

    fn is_ours(&self, ip: IpAddr) -> bool {
        let link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        link_local || ip.is_loopback() || ip.is_unspecified() || self.addresses.is_local(ip)
    }

    fn is_for_many(&self, ip: IpAddr) -> bool {
        let limited = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        limited || ip.is_multicast() || self.addresses.is_broadcast(ip)
    }
}

/// Where a flow comes from, what it is sent to, and where that leads.
fn hosts(key: &FlowKey, nat: &Nat) -> [IpAddr; 3] {
    let dst = ip(key.family, &key.dst);
    let end = nat
        .dst
        .map_or(dst, |endpoint| ip(key.family, &endpoint.address));
    [ip(key.family, &key.src), dst, end]
}

#[cfg(test)]
mod tests {
    use super::Scope;
    use crate::addresses::AddressSet;
    use crate::convert;
    use ccp::record::{Endpoint, Nat};
    use conntrack::{Flow, L4, Tuple};
    use std::net::{IpAddr, Ipv4Addr};

    fn forwarded(src: &str, dst: &str, proto: u8, end: Option<&str>) -> bool {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let addresses = AddressSet::new(
            [ip("192.0.2.1"), ip("2001:db8::1")],
            [Ipv4Addr::new(192, 0, 2, 255)],
        );
        let l4 = if matches!(proto, 6 | 17) {
            L4::Ports {
                src: 1000,
                dst: 8116,
            }
        } else {
            L4::None
        };
        let orig = Tuple {
            src: ip(src),
            dst: ip(dst),
            proto,
            l4,
            zone: 0,
        };
        let dst = end.map(|end| {
            let reply = Tuple {
                src: ip(end),
                dst: ip(src),
                proto,
                l4,
                zone: 0,
            };
            let key = convert::key(&Flow::new(reply));
            Endpoint {
                address: key.src,
                port: 80,
            }
        });
        Scope::new(addresses).is_forwarded(&convert::key(&Flow::new(orig)), &Nat { src: None, dst })
    }

    #[test]
    fn a_flow_may_go_on_elsewhere_when_its_address_has_left_unless_that_was_lent() {
        let ip = |host| IpAddr::from([192, 0, 2, host]);
        let mut scope = Scope::new(AddressSet::new([ip(1), ip(2)], []).lend([ip(2)]));
        assert!(scope.stays_here(ip(1)) && scope.stays_here(ip(2)));
        scope.set_addresses(AddressSet::new([ip(3)], []));
        assert!(!scope.stays_here(ip(1)) && scope.stays_here(ip(2)));
    }

    #[test]
    fn flows_of_an_address_that_has_left_are_the_machines_own_while_its_table_has_one() {
        let ip = |host| IpAddr::from([192, 0, 2, host]);
        let mut scope = Scope::new(AddressSet::new([ip(1)], []));
        let tuple = Tuple {
            src: ip(1),
            dst: [10, 0, 0, 1].into(),
            proto: 17,
            l4: L4::Ports { src: 1, dst: 2 },
            zone: 0,
        };
        let (key, nat) = (convert::key(&Flow::new(tuple)), Nat::default());
        // It leaves while the table is read.
        scope.begin_pass();
        scope.set_addresses(AddressSet::default());
        scope.end_pass();
        assert!(!scope.is_forwarded(&key, &nat), "it is no flow to tell of");
        assert!(scope.may_pass(&key, &nat), "a peer's may be put in");
        scope.begin_pass();
        scope.note_row(&key, &nat);
        scope.end_pass();
        assert!(!scope.is_forwarded(&key, &nat));
        scope.begin_pass();
        scope.end_pass();
        assert!(scope.is_forwarded(&key, &nat), "its last flow is gone");
        scope.set_addresses(AddressSet::new([ip(1)], []));
        assert!(!scope.may_pass(&key, &nat));
    }

    #[test]
    fn only_what_passes_from_one_host_to_another_is_replicated() {
        for (src, dst, proto, end, expected) in [
            ("10.0.0.1", "10.0.1.1", 6, None, true),
            ("2001:db8:1::1", "2001:db8:2::1", 6, None, true),
            ("192.0.2.1", "10.0.1.1", 6, None, false),
            ("10.0.0.1", "192.0.2.1", 6, None, false),
            ("2001:db8:1::1", "2001:db8::1", 6, None, false),
            ("10.0.0.1", "192.0.2.1", 6, Some("10.0.1.1"), true),
            ("10.0.0.1", "10.0.1.1", 6, Some("192.0.2.1"), false),
            ("127.0.0.1", "127.0.0.1", 6, None, false),
            ("fe80::1", "fe80::2", 58, None, false),
            ("10.0.0.1", "224.0.0.5", 89, None, false),
            ("10.0.0.1", "255.255.255.255", 6, None, false),
            ("10.0.0.1", "192.0.2.255", 6, None, false),
            ("0.0.0.0", "10.0.0.1", 6, None, false),
            ("10.0.0.1", "10.0.1.1", 17, None, true),
            ("10.0.0.1", "10.0.1.1", 47, None, true),
        ] {
            assert_eq!(
                forwarded(src, dst, proto, end),
                expected,
                "{src} {dst} {proto} {end:?}"
            );
        }
    }
}
