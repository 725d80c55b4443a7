//! Which flows are replicated at all: those that the cluster forwards.
//!
//! Never: flows of the gateway itself, broadcast, multicast, loopback, link-local. Protocols are the policy's concern.

use crate::addresses::AddressSet;
use crate::convert::ip;
use ccp::record::{FlowKey, Nat};
use std::net::IpAddr;

/// Decides by the addresses that this machine has now.
#[derive(Debug)]
pub struct Scope {
    addresses: AddressSet,
}

impl Scope {
    /// Decides by these addresses.
    pub fn new(addresses: AddressSet) -> Self {
        Self { addresses }
    }

    /// The machine's addresses are others now.
    pub fn set_addresses(&mut self, addresses: AddressSet) {
        self.addresses = addresses;
    }

    /// True if the flow passes through this machine from one host to another.
    ///
    /// The end of a flow is its destination after translation: one that comes to an address of ours and is translated
    /// to a host behind us is forwarded.
    pub fn is_forwarded(&self, key: &FlowKey, nat: &Nat) -> bool {
        let src = ip(key.family, &key.src);
        let dst = ip(key.family, &key.dst);
        let end = nat
            .dst
            .map_or(dst, |endpoint| ip(key.family, &endpoint.address));
        !(self.is_ours(src) || self.is_ours(end) || self.is_for_many(dst) || self.is_for_many(end))
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
