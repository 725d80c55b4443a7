//! Questions to rtnetlink: which links and which addresses there are.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use neli::attr::Attribute;
use neli::consts::nl::{NlmF, Nlmsg};
use neli::consts::rtnl::{Ifa, IfaF, Iff, Ifla, RtAddrFamily, RtScope, Rtm};
use neli::consts::socket::NlFamily;
use neli::err::SocketError;
use neli::nl::{NlPayload, Nlmsghdr, NlmsghdrBuilder};
use neli::rtnl::{Ifaddrmsg, IfaddrmsgBuilder, Ifinfomsg, IfinfomsgBuilder, Rtattr};
use neli::socket::synchronous::NlSocketHandle;
use neli::types::Buffer;
use neli::utils::Groups;
use neli::{FromBytesWithInput, Size, ToBytes};

/// A dump that is interrupted by changes this often is not worth waiting for.
const TRIES_MAX: u32 = 16;

/// A socket for questions. The kernel answers within the call that asks, so it blocks nobody.
pub(super) struct Rtnl {
    socket: NlSocketHandle,
    seq: u32,
}

/// One address of an interface.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AddressRow {
    pub interface_index: u32,
    pub local: IpAddr,
    pub prefix_len: u8,
    pub broadcast: Option<Ipv4Addr>,
    /// It is this machine's alone: it has a lifetime, as DHCP and router advertisements give it, or another end, as PPP does.
    pub is_lent: bool,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The longest packet that it takes.
    pub mtu_bytes: u32,
    /// It is up, and has a carrier.
    pub is_up: bool,
    /// It is switched on, with a carrier or without.
    pub is_on: bool,
    /// The interface that it is part of, of a VLAN and its like.
    pub parent: Option<u32>,
    /// Its number, of a VLAN.
    pub vlan: Option<u16>,
}

/// What became of a dump.
enum Dumped<T> {
    Whole(Vec<T>),
    /// The table changed meanwhile: rows may be missing (`NLM_F_DUMP_INTR`).
    Interrupted,
}

impl Rtnl {
    pub fn open() -> io::Result<Self> {
        let socket =
            NlSocketHandle::connect(NlFamily::Route, None, Groups::empty()).map_err(io_error)?;
        Ok(Self { socket, seq: 0 })
    }

    /// All addresses of all interfaces.
    pub fn addresses(&mut self) -> io::Result<Vec<AddressRow>> {
        let request = || {
            IfaddrmsgBuilder::default()
                .ifa_family(RtAddrFamily::Unspecified)
                .ifa_prefixlen(0)
                .ifa_scope(RtScope::Universe)
                .ifa_index(0)
                .build()
                .map_err(io::Error::other)
        };
        self.dump(Rtm::Getaddr, request, address_row)
    }

    /// All interfaces.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let request = || {
            IfinfomsgBuilder::default()
                .ifi_family(RtAddrFamily::Unspecified)
                .build()
                .map_err(io::Error::other)
        };
        self.dump(Rtm::Getlink, request, link_row)
    }

    fn dump<P, T>(
        &mut self,
        kind: Rtm,
        request: impl Fn() -> io::Result<P>,
        row: impl Fn(&P) -> Option<T>,
    ) -> io::Result<Vec<T>>
    where
        P: Size + ToBytes + FromBytesWithInput<Input = usize> + Debug,
    {
        for _ in 0..TRIES_MAX {
            if let Dumped::Whole(rows) = self.dump_once(kind, request()?, &row)? {
                return Ok(rows);
            }
        }
        Err(io::Error::other(
            "interfaces or addresses change faster than they can be read",
        ))
    }

    fn dump_once<P, T>(
        &mut self,
        kind: Rtm,
        request: P,
        row: impl Fn(&P) -> Option<T>,
    ) -> io::Result<Dumped<T>>
    where
        P: Size + ToBytes + FromBytesWithInput<Input = usize> + Debug,
    {
        self.seq = self.seq.wrapping_add(1);
        let header = NlmsghdrBuilder::default()
            .nl_type(kind)
            .nl_flags(NlmF::REQUEST | NlmF::DUMP)
            .nl_seq(self.seq)
            .nl_payload(NlPayload::Payload(request))
            .build()
            .map_err(io::Error::other)?;
        self.socket.send(&header).map_err(io_error)?;
        let mut rows = Vec::new();
        let mut interrupted = false;
        loop {
            let (messages, _) = self.socket.recv::<u16, P>().map_err(io_error)?;
            for message in messages {
                let message: Nlmsghdr<u16, P> = message.map_err(io::Error::other)?;
                // The rest of an answer that an error cut short.
                if *message.nl_seq() != self.seq {
                    continue;
                }
                interrupted |= message.nl_flags().contains(NlmF::DUMP_INTR);
                match part(&message)? {
                    Part::Row(payload) => rows.extend(row(payload)),
                    Part::Nothing => {}
                    Part::End if interrupted => return Ok(Dumped::Interrupted),
                    Part::End => return Ok(Dumped::Whole(rows)),
                }
            }
        }
    }
}

/// One message of the answer to a dump.
enum Part<'a, P> {
    Row(&'a P),
    Nothing,
    End,
}

/// What a message is; an error if it carries one.
fn part<P: Size>(message: &Nlmsghdr<u16, P>) -> io::Result<Part<'_, P>> {
    match message.nl_payload() {
        NlPayload::Err(error) => Err(io::Error::from_raw_os_error(-*error.error())),
        _ if *message.nl_type() == u16::from(Nlmsg::Done) => Ok(Part::End),
        NlPayload::Payload(payload) => Ok(Part::Row(payload)),
        NlPayload::Ack(_) | NlPayload::DumpExtAck(_) | NlPayload::Empty => Ok(Part::Nothing),
    }
}

impl Debug for Rtnl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rtnl")
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}

/// `None` for a family that is neither IPv4 nor IPv6.
fn address_row(message: &Ifaddrmsg) -> Option<AddressRow> {
    let attributes = message.rtattrs();
    let find = |kind| {
        attributes
            .iter()
            .find(|attribute| *attribute.rta_type() == kind)
            .and_then(ip)
    };
    // On a point-to-point link IFA_ADDRESS is the other end; IPv6 has no IFA_LOCAL otherwise.
    let local = find(Ifa::Local).or_else(|| find(Ifa::Address))?;
    let broadcast = match find(Ifa::Broadcast) {
        Some(IpAddr::V4(address)) => Some(address),
        Some(IpAddr::V6(_)) | None => None,
    };
    let is_permanent = message.ifa_flags().contains(IfaF::PERMANENT);
    Some(AddressRow {
        is_lent: !is_permanent || find(Ifa::Address).is_some_and(|other_end| other_end != local),
        interface_index: *message.ifa_index(),
        local,
        prefix_len: *message.ifa_prefixlen(),
        broadcast,
    })
}

fn ip(attribute: &Rtattr<Ifa, Buffer>) -> Option<IpAddr> {
    let bytes = attribute.payload().as_ref();
    let v4 = || {
        <[u8; 4]>::try_from(bytes)
            .ok()
            .map(|bytes| Ipv4Addr::from(bytes).into())
    };
    let v6 = || {
        <[u8; 16]>::try_from(bytes)
            .ok()
            .map(|bytes| Ipv6Addr::from(bytes).into())
    };
    v4().or_else(v6)
}

fn link_row(message: &Ifinfomsg) -> Option<Link> {
    let attributes = message.rtattrs();
    let find = |kind| {
        attributes
            .iter()
            .find(|attribute| *attribute.rta_type() == kind)
    };
    let running = Iff::UP | Iff::RUNNING;
    Some(Link {
        is_up: message.ifi_flags().contains(running),
        is_on: message.ifi_flags().contains(Iff::UP),
        parent: find(Ifla::Link).and_then(|it| it.get_payload_as().ok()),
        vlan: find(Ifla::Linkinfo).and_then(|it| vlan(it.payload().as_ref())),
        index: u32::try_from(*message.ifi_index()).ok()?,
        name: find(Ifla::Ifname)?.get_payload_as_with_len().ok()?,
        mtu_bytes: find(Ifla::Mtu)?.get_payload_as().ok()?,
    })
}

/// `IFLA_LINKINFO` holds the kind, and in `IFLA_INFO_DATA` what depends on it.
fn vlan(info: &[u8]) -> Option<u16> {
    const INFO_KIND: u16 = 1;
    const INFO_DATA: u16 = 2;
    const VLAN_ID: u16 = 1;
    (nested(info, INFO_KIND)? == b"vlan\0").then_some(())?;
    let number = nested(nested(info, INFO_DATA)?, VLAN_ID)?;
    Some(u16::from_ne_bytes(number.try_into().ok()?))
}

/// The first attribute of a kind (`struct rtattr`: length and kind, then the value, in steps of four bytes).
fn nested(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (header, _) = attributes.split_first_chunk::<4>()?;
        let [len0, len1, kind0, kind1] = *header;
        let len = usize::from(u16::from_ne_bytes([len0, len1]));
        let value = attributes.get(4..len)?;
        if u16::from_ne_bytes([kind0, kind1]) & 0x3fff == wanted {
            return Some(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

pub(crate) fn io_error(error: SocketError) -> io::Error {
    match error {
        SocketError::Io(error) => io::Error::new(error.kind(), error),
        other => io::Error::other(other),
    }
}
