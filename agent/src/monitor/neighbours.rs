//! Hosts on the networks of this machine: which have answered of late, and asking them again.
//!
//! Asking is the kernel's work: an entry of its neighbour table that is set to `NUD_PROBE` makes it send an ARP request, or a
//! neighbour solicitation, to that host; an answer shows as a fresh confirmation.

use std::io;
use std::time::Duration;

use neli::attr::Attribute;
use neli::consts::nl::NlmF;
use neli::consts::rtnl::{Nda, Nud, RtAddrFamily, Rtm, Rtn};
use neli::consts::socket::NlFamily;
use neli::nl::{NlPayload, Nlmsghdr, NlmsghdrBuilder};
use neli::rtnl::{Ndmsg, NdmsgBuilder, Rtattr, RtattrBuilder};
use neli::socket::synchronous::NlSocketHandle;
use neli::types::{Buffer, RtBuffer};
use neli::utils::Groups;

use crate::addresses::io_error;

/// Hosts that are asked at a time, of each interface.
const ASKED_MAX: usize = 4;
/// `USER_HZ`, in which the kernel counts ages.
const TICK: Duration = Duration::from_millis(10);

struct Neighbour {
    family: RtAddrFamily,
    address: Vec<u8>,
    confirmed: Duration,
}

/// How long ago a host on the network of this interface answered last, if one ever did; asks a few again.
///
/// Of a table that does not fit a read of the socket only the first part is looked at, some 250 hosts.
pub fn ask(interface_index: u32) -> io::Result<Option<Duration>> {
    // A socket each time: what is not read of a long answer ends with it.
    let socket =
        NlSocketHandle::connect(NlFamily::Route, None, Groups::empty()).map_err(io_error)?;
    // Without it the kernel would not sort out those of other interfaces.
    socket.enable_strict_checking(true).map_err(io_error)?;
    let only = attribute(Nda::Ifindex, interface_index.to_ne_bytes().to_vec())?;
    let all = message(RtAddrFamily::Unspecified, 0, Nud::empty(), only)?;
    send(&socket, Rtm::Getneigh, NlmF::REQUEST | NlmF::DUMP, all)?;
    let (answers, _) = socket.recv::<u16, Ndmsg>().map_err(io_error)?;
    let mut hosts = Vec::new();
    for answer in answers {
        let answer: Nlmsghdr<u16, Ndmsg> = answer.map_err(io::Error::other)?;
        match answer.nl_payload() {
            NlPayload::Payload(row) => hosts.extend(neighbour(row)),
            NlPayload::Err(error) => return Err(io::Error::from_raw_os_error(-*error.error())),
            NlPayload::Ack(_) | NlPayload::DumpExtAck(_) | NlPayload::Empty => {}
        }
    }
    hosts.sort_by_key(|host| host.confirmed);
    let socket =
        NlSocketHandle::connect(NlFamily::Route, None, Groups::empty()).map_err(io_error)?;
    let index = i32::try_from(interface_index).map_err(io::Error::other)?;
    for host in hosts.iter().take(ASKED_MAX) {
        let whom = attribute(Nda::Dst, host.address.clone())?;
        let again = message(host.family, index, Nud::PROBE, whom)?;
        send(&socket, Rtm::Newneigh, NlmF::REQUEST | NlmF::REPLACE, again)?;
    }
    Ok(hosts.first().map(|host| host.confirmed))
}

/// One that has an address and is to be reached by asking for it.
fn neighbour(row: &Ndmsg) -> Option<Neighbour> {
    let usable = Nud::REACHABLE | Nud::STALE | Nud::DELAY | Nud::PROBE;
    if !row.ndm_state().intersects(usable) {
        return None;
    }
    let find = |kind| row.rtattrs().iter().find(|it| *it.rta_type() == kind);
    let age = find(Nda::Cacheinfo)?.payload().as_ref();
    let ticks = u32::from_ne_bytes(*age.first_chunk()?);
    Some(Neighbour {
        family: *row.ndm_family(),
        address: find(Nda::Dst)?.payload().as_ref().to_vec(),
        confirmed: TICK * ticks,
    })
}

fn attribute(kind: Nda, value: Vec<u8>) -> io::Result<Rtattr<Nda, Buffer>> {
    RtattrBuilder::default()
        .rta_type(kind)
        .rta_payload(value)
        .build()
        .map_err(io::Error::other)
}

fn message(
    family: RtAddrFamily,
    index: i32,
    state: Nud,
    attribute: Rtattr<Nda, Buffer>,
) -> io::Result<Ndmsg> {
    NdmsgBuilder::default()
        .ndm_family(family)
        .ndm_index(index)
        .ndm_state(state)
        .ndm_type(Rtn::Unspec)
        .rtattrs(std::iter::once(attribute).collect::<RtBuffer<_, _>>())
        .build()
        .map_err(io::Error::other)
}

fn send(socket: &NlSocketHandle, kind: Rtm, flags: NlmF, payload: Ndmsg) -> io::Result<()> {
    let message = NlmsghdrBuilder::default()
        .nl_type(kind)
        .nl_flags(flags)
        .nl_payload(NlPayload::Payload(payload))
        .build()
        .map_err(io::Error::other)?;
    socket.send(&message).map_err(io_error)
}
