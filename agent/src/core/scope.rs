//! Which flows are replicated at all: those that the cluster forwards.
//!
//! Never: flows of the gateway itself, broadcast, multicast, loopback, link-local, and what members say to each other.

use crate::addresses::AddressSet;
use crate::convert::ip;
use ccp::record::{FlowKey, Nat};
use std::net::IpAddr;

const IGMP: u8 = 2;
const UDP: u8 = 17;
const VRRP: u8 = 112;

/// Decides by the addresses that this machine has now.
#[derive(Debug)]
pub struct Scope {
    addresses: AddressSet,
    ccp_port: u16,
}

impl Scope {
    /// `ccp_port` is the UDP port of the cluster's own datagrams.
    pub fn new(addresses: AddressSet, ccp_port: u16) -> Self {
        Self {
            addresses,
            ccp_port,
        }
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
        !(self.is_members_own(key)
            || self.is_ours(src)
            || self.is_ours(end)
            || self.is_for_many(dst)
            || self.is_for_many(end))
    }

    fn is_members_own(&self, key: &FlowKey) -> bool {
        matches!(key.proto, VRRP | IGMP) || key.proto == UDP && key.l4[1] == self.ccp_port
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
