//! Services that a cluster speaks itself, or that its routers do: never synchronised unless turned on by name.
//!
//! They stand before every rule. One that is turned on is judged by the rules as any other flow is.

use super::service::{Flows, Hold, Kind, Service, Sync, UDP};
use ccp::wire::flow::TCP;

/// A built-in service: its name, its protocols, its destination ports.
type Builtin = (&'static str, &'static [u8], &'static [u16]);

/// All but `ccp`, whose port is configured.
const BUILTINS: [Builtin; 15] = [
    ("babel", &[UDP], &[6696]),
    ("bfd", &[UDP], &[3784, 3785, 4784, 6784]),
    ("bgp", &[TCP], &[179]),
    ("conntrackd", &[UDP], &[3780]),
    ("eigrp", &[88], &[]),
    ("hsrp", &[UDP], &[1985, 2029]),
    ("igmp", &[2], &[]),
    // The synchronisation daemon of IPVS, which keepalived starts.
    ("keepalived", &[UDP], &[8848]),
    ("ldp", &[TCP, UDP], &[646]),
    ("msdp", &[TCP], &[639]),
    ("ospf", &[89], &[]),
    ("pim", &[103], &[]),
    ("rip", &[UDP], &[520]),
    ("ripng", &[UDP], &[521]),
    ("vrrp", &[112], &[]),
];

/// What no configuration can turn on.
pub const NEVER: [&str; 2] = ["broadcast", "multicast"];

/// Every built-in service, by name. `ccp_port` is the port of the cluster's own datagrams.
pub fn all(ccp_port: u16) -> Vec<Service> {
    let ccp_ports = [ccp_port];
    let ccp: (&str, &[u8], &[u16]) = ("ccp", &[UDP], &ccp_ports);
    let mut services: Vec<_> = BUILTINS
        .into_iter()
        .map(|it| service(it.0, it.1, it.2))
        .chain([service(ccp.0, ccp.1, ccp.2)])
        .collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    services
}

/// The names of all.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = BUILTINS
        .iter()
        .map(|(name, ..)| *name)
        .chain(["ccp"])
        .collect();
    names.sort_unstable();
    names
}

fn service(name: &str, protocols: &[u8], ports: &[u16]) -> Service {
    let mut selectors: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match selectors.last_mut() {
            Some(last) if last.1 + 1 == *port => last.1 = *port,
            Some(_) | None => selectors.push((*port, *port)),
        }
    }
    Service {
        name: name.to_owned(),
        flows: Flows {
            protocols: protocols.to_vec(),
            selectors,
        },
        kind: Kind::None,
        sync: Sync::Never,
        hold: Hold::Never,
    }
}
