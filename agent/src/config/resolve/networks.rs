//! The networks that members talk over, and the address of each member on each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use ccp::network::NetworkId;

use super::super::error::{Fault, Problem};
use super::super::file::{self, File, TransportWord};
use super::super::{Member, Network, Transport};
use super::members;
use super::values::{address, fault, interface, name, nonzero, number, place};

pub const DEFAULT_PORT: NonZeroU16 = NonZeroU16::new(8116).unwrap();
/// Administratively scoped (RFC 2365): no router forwards it out of the site.
const DEFAULT_GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 81, 16);
/// Transient, link-local scope (RFC 4291 2.7).
const DEFAULT_GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0, 0x8116);

/// The networks in the order of the file, at least one; and all members.
pub fn networks_and_members(file: &File) -> Result<(Vec<Network>, Vec<Member>), Fault> {
    let written = file.networks.value.as_slice();
    if written.is_empty() {
        return Err(fault(&file.networks, Problem::NoNetwork));
    }
    if let Some(surplus) = written.get(NetworkId::MAX) {
        let count = written.len();
        return Err(fault(&surplus.name, Problem::TooManyNetworks { count }));
    }
    let names = written
        .iter()
        .map(|network| name(&network.name, "network name"))
        .collect::<Result<Vec<_>, _>>()?;
    let port = match &written[0].port {
        Some(port) => nonzero(number(port, "port", 1, u16::MAX)?),
        None => DEFAULT_PORT,
    };
    let members = members::members(file, &names, port)?;
    let mut networks: Vec<Network> = Vec::with_capacity(written.len());
    for (index, (written, name)) in written.iter().zip(names).enumerate() {
        let network = Network {
            name,
            interface: interface(&written.interface)?,
            transport: transport(written, members[0].addresses[index].ip())?,
            port,
        };
        distinct(&network, written, &networks)?;
        networks.push(network);
    }
    Ok((networks, members))
}

/// That a network shares the port with those before it, and nothing else.
fn distinct(network: &Network, written: &file::Network, before: &[Network]) -> Result<(), Fault> {
    let twice = |key, value: &dyn ToString| Problem::NetworkTwice {
        key,
        value: value.to_string(),
    };
    if before.iter().any(|other| other.name == network.name) {
        return Err(fault(&written.name, twice("name", &network.name)));
    }
    if before
        .iter()
        .any(|other| other.interface == network.interface)
    {
        return Err(fault(
            &written.interface,
            twice("interface", &network.interface),
        ));
    }
    match &written.port {
        Some(port) if port.value != u64::from(network.port.get()) => Err(fault(
            port,
            Problem::PortsDiffer {
                first: network.port,
            },
        )),
        Some(_) | None => Ok(()),
    }
}

fn transport(network: &file::Network, family: IpAddr) -> Result<Transport, Fault> {
    let word = network
        .transport
        .as_ref()
        .map_or(TransportWord::Unicast, |word| word.value);
    match (word, &network.group) {
        (TransportWord::Unicast, None) => Ok(Transport::Unicast),
        (TransportWord::Unicast, Some(group)) => Err(fault(
            group,
            Problem::GroupWithoutMulticast {
                transport: "unicast",
            },
        )),
        (TransportWord::Broadcast, None) if family.is_ipv4() => Ok(Transport::Broadcast),
        (TransportWord::Broadcast, None) => Err(Fault {
            place: network.transport.as_ref().and_then(place),
            problem: Problem::BroadcastOverIpv6,
        }),
        (TransportWord::Broadcast, Some(group)) => Err(fault(
            group,
            Problem::GroupWithoutMulticast {
                transport: "broadcast",
            },
        )),
        (TransportWord::Multicast, None) => Ok(Transport::Multicast {
            group: default_group(family),
        }),
        (TransportWord::Multicast, Some(written)) => {
            let group = address(written)?;
            if !group.is_multicast() {
                return Err(fault(
                    written,
                    Problem::GroupNotMulticast {
                        given: group.to_string(),
                    },
                ));
            }
            if group.is_ipv4() != family.is_ipv4() {
                let example = default_group(family).to_string();
                return Err(fault(
                    written,
                    Problem::GroupOfOtherFamily {
                        given: group.to_string(),
                        example,
                    },
                ));
            }
            Ok(Transport::Multicast { group })
        }
    }
}

/// The multicast group of who names none.
pub fn default_group(family: IpAddr) -> IpAddr {
    match family {
        IpAddr::V4(_) => DEFAULT_GROUP_V4.into(),
        IpAddr::V6(_) => DEFAULT_GROUP_V6.into(),
    }
}
