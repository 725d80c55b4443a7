//! Who is in the cluster, at which address, and which of them this machine is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;

use crate::config::spanned::Spanned;
use crate::identity::PublicKeyError;

use super::super::error::{Fault, Problem};
use super::super::file::{self, File};
use super::super::{Member, MemberId, PublicKey};
use super::values::{address, fault, member_id, name, place};

/// All members by ascending id; at least two, on each network of one address family.
pub fn members(file: &File, networks: &[String], port: NonZeroU16) -> Result<Vec<Member>, Fault> {
    let list = &file.members;
    let count = list.value.len();
    if count < 2 {
        return Err(fault(list, Problem::TooFewMembers { count }));
    }
    if count > MemberId::MAX {
        return Err(fault(list, Problem::TooManyMembers { count }));
    }
    let mut members: Vec<Member> = Vec::with_capacity(count);
    for (index, written) in list.value.iter().enumerate() {
        let member = member(written, networks, port)?;
        for (before, other) in list.value.iter().zip(&members[..index]) {
            distinct(&member, written, other, before, networks)?;
        }
        members.push(member);
    }
    members.sort_unstable_by_key(|member| member.id);
    Ok(members)
}

fn member(written: &file::Member, networks: &[String], port: NonZeroU16) -> Result<Member, Fault> {
    let id = member_id(&written.id, "id")?;
    let name = name(&written.name, "member name")?;
    let addresses = &written.addresses;
    let mut written_addresses = addresses.value.iter();
    if let Some((other, value)) = written_addresses.find(|(key, _)| !networks.contains(key)) {
        let problem = Problem::NetworkUnknown {
            name: other.clone(),
            known: networks.to_vec(),
        };
        return Err(fault(value, problem));
    }
    let address = |network: &String| match addresses.value.get(network) {
        Some(value) => Ok(SocketAddr::new(machine(value)?, port.get())),
        None => {
            let problem = Problem::AddressMissing {
                member: name.clone(),
                network: network.clone(),
            };
            Err(fault(addresses, problem))
        }
    };
    let addresses = networks.iter().map(address).collect::<Result<_, _>>()?;
    Ok(Member {
        id,
        name,
        addresses,
        public_key: public_key(&written.public_key)?,
    })
}

/// The address of one machine.
fn machine(value: &Spanned<String>) -> Result<IpAddr, Fault> {
    let address = address(value)?;
    let of_one_machine = !address.is_unspecified()
        && !address.is_multicast()
        && address != IpAddr::V4(Ipv4Addr::BROADCAST);
    if !of_one_machine {
        return Err(fault(
            value,
            Problem::NoMachineAddress {
                given: address.to_string(),
            },
        ));
    }
    Ok(address)
}

fn public_key(written: &Spanned<String>) -> Result<PublicKey, Fault> {
    let given = written.value.clone();
    written.value.parse().map_err(|error| {
        let problem = match error {
            PublicKeyError::NotBase64 => Problem::NotAPublicKey { given },
            PublicKeyError::Length { bytes } => Problem::PublicKeyLength { given, bytes },
        };
        fault(written, problem)
    })
}

/// That `member` shares with `other`, which stands before it, the address families and nothing else.
fn distinct(
    member: &Member,
    written: &file::Member,
    other: &Member,
    before: &file::Member,
    networks: &[String],
) -> Result<(), Fault> {
    let twice = |key, value, first| Problem::MemberTwice { key, value, first };
    if member.id == other.id {
        return Err(fault(
            &written.id,
            twice("id", member.id.to_string(), place(&before.id)),
        ));
    }
    if member.name == other.name {
        return Err(fault(
            &written.name,
            twice("name", member.name.clone(), place(&before.name)),
        ));
    }
    if member.public_key == other.public_key {
        let (key, first) = (member.public_key.to_string(), place(&before.public_key));
        return Err(fault(&written.public_key, twice("public_key", key, first)));
    }
    for ((network, address), known) in networks.iter().zip(&member.addresses).zip(&other.addresses)
    {
        let (address, known) = (address.ip(), known.ip());
        let (here, there) = (
            &written.addresses.value[network],
            &before.addresses.value[network],
        );
        if address == known {
            return Err(fault(
                here,
                twice("address", address.to_string(), place(there)),
            ));
        }
        if address.is_ipv4() != known.is_ipv4() {
            let problem = Problem::MixedFamilies {
                address: address.to_string(),
                other: known.to_string(),
            };
            return Err(fault(here, problem));
        }
    }
    Ok(())
}

/// The member that this machine is, and the others.
pub fn this_and_peers(
    file: &File,
    mut members: Vec<Member>,
) -> Result<(Member, Vec<Member>), Fault> {
    let id = member_id(&file.member, "member")?;
    match members.iter().position(|member| member.id == id) {
        Some(index) => Ok((members.remove(index), members)),
        None => {
            let known = members.iter().map(|member| member.id).collect();
            Err(fault(&file.member, Problem::MemberUnknown { id, known }))
        }
    }
}
