//! The header that every CCP datagram begins with (PROTOCOL.md 2.1).

use super::DecodeError;
use super::cursor::Reader;
use crate::record::MemberId;

/// First two bytes of every datagram of ours.
pub const MAGIC: u16 = 0xc75c;
/// First two bytes of Check Point's CCP, which may share the wire: counted and left alone.
pub const MAGIC_CHECK_POINT: u16 = 0x1a90;
/// The version this code speaks.
pub const VERSION: u8 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 29;
/// In the place of a network's number: the same datagram goes over several.
pub const SEVERAL: u8 = 0xff;
/// In the place of a network's number: it goes over a monitored interface, which its body names.
pub const MONITORED: u8 = 0xfe;
/// Bytes that sealing adds after the body: the tag of the AEAD.
pub const TAG_BYTES: usize = 16;

/// What a datagram is about. PROTOCOL.md 2.2 lists the numbers that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// `MY_STATE`: I am here, this is whom I hear.
    Hello,
    /// Changes of flows.
    Delta,
    /// What of a member's changes is in my kernel.
    Ack,
    /// `IF_PROBE`: I send over this interface, and this is whom I hear on it.
    Probe,
    /// `IF_PROBE_REPLY`: the same, before its time, as somebody is to know it now.
    ProbeReply,
    /// Something of another version: whoever sent it lives, but what it says is not known.
    Unknown(u8),
}

impl Opcode {
    /// Its number on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Delta => 2,
            Self::Ack => 3,
            Self::Probe => 0x10,
            Self::ProbeReply => 0x11,
            Self::Unknown(code) => code,
        }
    }

    const fn decode(code: u8) -> Self {
        match code {
            1 => Self::Hello,
            2 => Self::Delta,
            3 => Self::Ack,
            0x10 => Self::Probe,
            0x11 => Self::ProbeReply,
            _ => Self::Unknown(code),
        }
    }
}

/// To whom a datagram is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// One member.
    Member(MemberId),
    /// Every member of the cluster (0xff on the wire).
    All,
}

/// When the receiver of a [`Opcode::Delta`] acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Together with others, within its acknowledgement delay.
    Normal,
    /// As soon as its kernel has the changes: somebody waits.
    Urgent,
}

/// The header, in clear but authenticated: it is the associated data of the sealed body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of the cluster.
    pub cluster: u16,
    /// What the body is.
    pub opcode: Opcode,
    /// The sender.
    pub source: MemberId,
    /// The receiver.
    pub destination: Destination,
    /// Number of the network that it goes over, from 0; [`SEVERAL`] for the same datagram over more than one,
    /// [`MONITORED`] for a probe.
    pub interface: u8,
    /// Flag bit 0.
    pub urgency: Urgency,
    /// Chosen by the sender at its start; tells its runs apart (the "random id" of CCP).
    pub incarnation: u64,
    /// Which of the keys of this incarnation sealed the body: counts them from 0, and wraps.
    pub epoch: u8,
    /// Counts the sender's datagrams of this incarnation, whatever the key, from 1; the nonce of the seal, never used twice.
    pub packet_number: u64,
}

const FLAG_URGENT: u8 = 1;
const ALL: u8 = 0xff;

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let destination = match self.destination {
            Destination::Member(member) => member.get(),
            Destination::All => ALL,
        };
        let flags = match self.urgency {
            Urgency::Normal => 0,
            Urgency::Urgent => FLAG_URGENT,
        };
        let [magic0, magic1] = MAGIC.to_be_bytes();
        let [cluster0, cluster1] = self.cluster.to_be_bytes();
        let front = [
            magic0,
            magic1,
            VERSION,
            self.opcode.code(),
            cluster0,
            cluster1,
            self.source.get(),
            destination,
            self.interface,
            flags,
            // Reserved.
            0,
            0,
        ];
        let all = front
            .into_iter()
            .chain(self.incarnation.to_be_bytes())
            .chain([self.epoch])
            .chain(self.packet_number.to_be_bytes());
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = from);
        bytes
    }

    /// Takes the header off the front of a datagram; what follows is its sealed body. Flags not known
    /// and what is reserved are ignored.
    pub fn decode(datagram: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let mut reader = Reader::new(datagram);
        match reader.u16()? {
            MAGIC => {}
            MAGIC_CHECK_POINT => return Err(DecodeError::CheckPoint),
            _ => return Err(DecodeError::Magic),
        }
        if reader.u8()? != VERSION {
            return Err(DecodeError::Version);
        }
        let opcode = Opcode::decode(reader.u8()?);
        let cluster = reader.u16()?;
        let source = MemberId::new(reader.u8()?).ok_or(DecodeError::Member)?;
        let destination = match reader.u8()? {
            ALL => Destination::All,
            id => Destination::Member(MemberId::new(id).ok_or(DecodeError::Member)?),
        };
        let interface = reader.u8()?;
        let flags = reader.u8()?;
        let _reserved = reader.u16()?;
        let incarnation = reader.u64()?;
        let epoch = reader.u8()?;
        let packet_number = reader.u64()?;
        let urgency = if flags & FLAG_URGENT == 0 {
            Urgency::Normal
        } else {
            Urgency::Urgent
        };
        let header = Self {
            cluster,
            opcode,
            source,
            destination,
            interface,
            urgency,
            incarnation,
            epoch,
            packet_number,
        };
        let body = datagram.get(HEADER_BYTES..).ok_or(DecodeError::Truncated)?;
        Ok((header, body))
    }
}
