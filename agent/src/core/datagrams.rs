//! Datagrams of peers: whose they are, whether they are authentic, and what became of each.

use super::Core;
use super::seal::OpenError;
use ccp::network::NetworkId;
use ccp::time::Instant;
use ccp::wire::DecodeError;
use ccp::wire::header::{Destination, Header, SEVERAL};

/// Why a datagram was put away; each has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It could not be read.
    Malformed(DecodeError),
    /// It is of another cluster.
    Cluster,
    /// It names a sender that is not configured.
    Sender,
    /// It names ourselves.
    Own,
    /// It is for another member.
    Destination,
    /// It was sent over another network.
    Network,
    /// The member that it names handed us no such key.
    UnknownKey,
    /// It was not sealed by the member that it names: forged or damaged.
    Forged,
    /// It was sealed before the member handed us the key: recorded, and sent again.
    BelowFloor,
}

/// Datagrams by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramCounters {
    /// Sent, a copy to each peer counted once.
    pub sent: u64,
    /// Copies for a peer or a group that the kernel would not send; made good as any loss is.
    pub unsent: u64,
    /// Authentic ones.
    pub received: u64,
    /// Bytes of those sent, from the header to the tag.
    pub sent_bytes: u64,
    /// Bytes of those received.
    pub received_bytes: u64,
    /// Put away: could not be read.
    pub malformed: u64,
    /// Put away: another version of the protocol.
    pub other_version: u64,
    /// Put away: Check Point's.
    pub check_point: u64,
    /// Put away: an operation of a later version.
    pub unknown_opcode: u64,
    /// Put away: another cluster.
    pub other_cluster: u64,
    /// Put away: a sender that is not configured.
    pub unknown_member: u64,
    /// Put away: for another member.
    pub misdirected: u64,
    /// Put away: sent over another network than it came by.
    pub other_network: u64,
    /// Put away: sealed with a key that we have not, or no longer, from the member named.
    pub unknown_key: u64,
    /// Put away: not sealed by the member named.
    pub forged: u64,
    /// Put away: older than the key that was handed to us.
    pub below_floor: u64,
}

impl Core {
    /// A datagram came over a network. It is opened in place.
    pub fn handle_datagram(&mut self, datagram: &mut [u8], network: NetworkId, now: Instant) {
        let bytes = datagram.len() as u64;
        match self.take_datagram(datagram, network, now) {
            Ok(()) => {
                self.datagrams.received += 1;
                self.datagrams.received_bytes += bytes;
            }
            Err(refusal) => self.count(refusal),
        }
    }

    fn take_datagram(
        &mut self,
        datagram: &mut [u8],
        network: NetworkId,
        now: Instant,
    ) -> Result<(), Refusal> {
        let is_named = |interface| [network.get(), SEVERAL].contains(&interface);
        let (header, body) = self.open(datagram, is_named)?;
        self.node
            .handle_datagram(&header, body, network, now)
            .map_err(Refusal::Malformed)
    }

    /// The header and body of a datagram that a peer sealed for us, over an interface that its header may name.
    pub(super) fn open<'d>(
        &mut self,
        datagram: &'d mut [u8],
        is_named: impl Fn(u8) -> bool,
    ) -> Result<(Header, &'d [u8]), Refusal> {
        let (header, _) = Header::decode(datagram).map_err(Refusal::Malformed)?;
        if header.cluster != self.cluster {
            return Err(Refusal::Cluster);
        }
        if header.source == self.me {
            return Err(Refusal::Own);
        }
        if !self.peers.contains(&header.source) {
            return Err(Refusal::Sender);
        }
        match header.destination {
            Destination::Member(member) if member != self.me => return Err(Refusal::Destination),
            Destination::Member(_) | Destination::All => {}
        }
        if !is_named(header.interface) {
            return Err(Refusal::Network);
        }
        let keys = self.peer_keys.get(header.source.index());
        let body = keys
            .map_or(Err(OpenError::UnknownKey), |keys| {
                keys.open(&header, datagram)
            })
            .map_err(|error| match error {
                OpenError::UnknownKey => {
                    self.unheard.insert(header.source);
                    Refusal::UnknownKey
                }
                OpenError::Forged => Refusal::Forged,
                OpenError::BelowFloor => Refusal::BelowFloor,
            })?;
        Ok((header, body))
    }

    pub(super) fn count(&mut self, refusal: Refusal) {
        let counters = &mut self.datagrams;
        *match refusal {
            Refusal::Malformed(DecodeError::Version) => &mut counters.other_version,
            Refusal::Malformed(DecodeError::CheckPoint) => &mut counters.check_point,
            Refusal::Malformed(DecodeError::Opcode) => &mut counters.unknown_opcode,
            Refusal::Malformed(DecodeError::Member) | Refusal::Sender | Refusal::Own => {
                &mut counters.unknown_member
            }
            Refusal::Malformed(
                DecodeError::Truncated
                | DecodeError::Magic
                | DecodeError::Number
                | DecodeError::Record,
            ) => &mut counters.malformed,
            Refusal::Cluster => &mut counters.other_cluster,
            Refusal::Destination => &mut counters.misdirected,
            Refusal::Network => &mut counters.other_network,
            Refusal::UnknownKey => &mut counters.unknown_key,
            Refusal::Forged => &mut counters.forged,
            Refusal::BelowFloor => &mut counters.below_floor,
        } += 1;
    }
}
