//! Bodies of the datagrams that are not changes: hello and acknowledgement (PROTOCOL.md 3 and 5).

use super::build::ATTRIBUTE_BUILD;
use super::cursor::{Reader, put_varint};
use super::mode::ATTRIBUTE_MODE;
use super::standing::ATTRIBUTE_STANDING;
use super::{DecodeError, SEQ_MAX, Skipped};
use crate::build::Build;
use crate::election::Standing;
use crate::modes::ModeReport;
use crate::network::{NetworkId, NetworkSet};
use crate::range::RangeSet;
use crate::record::{MemberId, MemberSet};
use alloc::vec::Vec;

/// What a member says of itself, and of whom it hears.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Which kernel table is behind the sender: the same after a restart of the daemon alone, another after a reboot.
    pub table: u64,
    /// Sequence of the last delta it sent, 0 before the first.
    pub last_seq: u64,
    /// What the sender's daemon can; `None` if it is older than that being said.
    pub build: Option<Build>,
    /// Every member it heard of since its start.
    pub heard: Vec<Heard>,
    /// The paths to it, from each member.
    pub paths: Vec<PathReport>,
    /// The modes of networks that were changed, or are being.
    pub modes: Vec<ModeReport>,
    /// What the sender says of itself; `None` if it takes no part in elections.
    pub standing: Option<Standing>,
    /// True if it has everything that the others had at its start (PROTOCOL.md 9.6).
    pub joined: bool,
    /// Whom it asks to be told by.
    pub asks: Vec<Ask>,
}

/// What a member asks of another that gave it a base (PROTOCOL.md 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whom.
    pub member: MemberId,
    /// Of which run.
    pub incarnation: u64,
    /// The base that it goes by.
    pub base: u64,
    /// What was told before this sequence it has, from others; 0 if it has nothing.
    pub from: u64,
}

/// A member as the sender of a [`Hello`] knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Who.
    pub member: MemberId,
    /// Its incarnation, as heard in its newest hello.
    pub incarnation: u64,
    /// The first sequence of the sender's deltas that this member needs (PROTOCOL.md 5.1); 0 while there is none yet.
    pub base: u64,
    /// Packet number of that newest hello: proves when the sender of this one heard it (PROTOCOL.md 3.2).
    pub packet_number: u64,
}

/// What the sender of a [`Hello`] says of the paths from a member: over every network, and the one that the hello goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathReport {
    /// From whom.
    pub member: MemberId,
    /// The networks over which it is heard.
    pub heard_over: NetworkSet,
    /// Those that the member says it hears.
    pub hears: MemberSet,
    /// Over this network: low half of the packet number of the newest hello that came; 0 before the first.
    pub echo: u32,
    /// Microseconds since that hello came.
    pub delay_micros: u32,
    /// Datagrams that went to the member over this network, this one included; wraps.
    pub sent: u32,
    /// How much of what the member sends over this network is lost, in thousandths; `None` (0xffff) if not known.
    pub loss_permille: Option<u16>,
}

const ATTRIBUTE_HEARD: u8 = 1;
const ATTRIBUTE_PATH: u8 = 3;
const PATH_BYTES: u8 = 18;
const LOSS_UNKNOWN: u16 = 0xffff;
const HEARD_BYTES: u8 = 25;
/// Most members a hello can name: each with the incarnation that proved itself and one that has not.
const HEARD_MAX: usize = 2 * MemberId::MAX;

const ATTRIBUTE_JOIN: u8 = 4;
const JOINED: u8 = 0x01;
const ASK_BYTES: usize = 25;
/// What fits into one attribute; more stand in another.
const ASKS_IN_ATTRIBUTE: usize = 10;

impl Hello {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.table.to_be_bytes());
        out.extend_from_slice(&self.last_seq.to_be_bytes());
        if let Some(build) = &self.build {
            build.encode(out);
        }
        for heard in &self.heard {
            out.extend_from_slice(&[ATTRIBUTE_HEARD, HEARD_BYTES, heard.member.get()]);
            out.extend_from_slice(&heard.incarnation.to_be_bytes());
            out.extend_from_slice(&heard.base.to_be_bytes());
            out.extend_from_slice(&heard.packet_number.to_be_bytes());
        }
        for path in &self.paths {
            path.encode(out);
        }
        for mode in &self.modes {
            mode.encode(out);
        }
        if let Some(standing) = &self.standing {
            standing.encode(out);
        }
        let flags = if self.joined { JOINED } else { 0 };
        let (first, rest) = self.asks.split_at(self.asks.len().min(ASKS_IN_ATTRIBUTE));
        put_join(out, flags, first);
        for asks in rest.chunks(ASKS_IN_ATTRIBUTE) {
            put_join(out, flags, asks);
        }
    }

    /// Reads a body; attributes not known are skipped, more of them than there can be members is an error.
    pub fn decode(body: &[u8], skipped: &mut Skipped) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let (table, last_seq) = (reader.u64()?, reader.seq()?);
        let mut hello = Self {
            table,
            last_seq,
            ..Self::default()
        };
        while !reader.is_empty() {
            let tag = reader.u8()?;
            let len = usize::from(reader.u8()?);
            let mut value = Reader::new(reader.bytes(len)?);
            match tag {
                ATTRIBUTE_HEARD if hello.heard.len() == HEARD_MAX => {
                    return Err(DecodeError::Record);
                }
                ATTRIBUTE_HEARD => hello.heard.push(Heard::decode(&mut value)?),
                ATTRIBUTE_PATH if hello.paths.len() == MemberId::MAX => {
                    return Err(DecodeError::Record);
                }
                ATTRIBUTE_PATH => hello.paths.push(PathReport::decode(&mut value)?),
                ATTRIBUTE_MODE if hello.modes.len() == NetworkId::MAX => {
                    return Err(DecodeError::Record);
                }
                ATTRIBUTE_MODE => hello.modes.extend(ModeReport::decode(&mut value)?),
                ATTRIBUTE_STANDING => hello.standing = Standing::decode(&mut value)?,
                ATTRIBUTE_JOIN => hello.take_join(&mut value)?,
                ATTRIBUTE_BUILD => hello.build = Some(Build::decode(&mut value)?),
                _ => skipped.attributes += 1,
            }
        }
        Ok(hello)
    }

    fn take_join(&mut self, value: &mut Reader<'_>) -> Result<(), DecodeError> {
        self.joined |= value.u8()? & JOINED != 0;
        while !value.is_empty() {
            if self.asks.len() == MemberId::MAX {
                return Err(DecodeError::Record);
            }
            self.asks.push(Ask {
                member: value.member()?,
                incarnation: value.u64()?,
                base: value.seq()?,
                from: value.seq()?,
            });
        }
        Ok(())
    }
}

impl Heard {
    fn decode(value: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            member: MemberId::new(value.u8()?).ok_or(DecodeError::Member)?,
            incarnation: value.u64()?,
            base: value.seq()?,
            packet_number: value.u64()?,
        })
    }
}

impl PathReport {
    fn encode(&self, out: &mut Vec<u8>) {
        let loss = self.loss_permille.unwrap_or(LOSS_UNKNOWN);
        out.extend_from_slice(&[ATTRIBUTE_PATH, PATH_BYTES, self.member.get()]);
        out.push(self.heard_over.bits());
        out.extend_from_slice(&self.hears.bits().to_be_bytes());
        for number in [self.echo, self.delay_micros, self.sent] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&loss.to_be_bytes());
    }

    fn decode(value: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            member: MemberId::new(value.u8()?).ok_or(DecodeError::Member)?,
            heard_over: NetworkSet::from_bits(value.u8()?),
            hears: MemberSet::from_bits(value.u16()?),
            echo: value.u32()?,
            delay_micros: value.u32()?,
            sent: value.u32()?,
            loss_permille: Some(value.u16()?).filter(|loss| *loss != LOSS_UNKNOWN),
        })
    }
}

fn put_join(out: &mut Vec<u8>, flags: u8, asks: &[Ask]) {
    let bytes = 1 + asks.len() * ASK_BYTES;
    let bytes = u8::try_from(bytes).expect("ten asks fit into an attribute");
    out.extend_from_slice(&[ATTRIBUTE_JOIN, bytes, flags]);
    for ask in asks {
        out.push(ask.member.get());
        for number in [ask.incarnation, ask.base, ask.from] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// Which of a member's deltas are in the sender's kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The bulk update that the sender of this acknowledgement follows (PROTOCOL.md 5.1); 0 asks to be told anew.
    pub base: u64,
    /// Every delta up to this sequence is in its kernel.
    pub frontier: u64,
    /// Microseconds between the arrival of the delta that made this due and now.
    pub delay_micros: u32,
    /// Changes its kernel refused since its start; the deltas that had them are acknowledged all the same.
    pub refused: u64,
    /// Deltas past the frontier that are in its kernel too; what lies between is missing.
    pub beyond: RangeSet,
}

/// Most ranges that one acknowledgement carries; the lowest are told, as those are repaired first.
pub const ACK_RANGES_MAX: usize = 32;

impl Ack {
    /// True if deltas before the last that it names are missing.
    pub fn names_gaps(&self) -> bool {
        self.beyond.last().is_some()
    }

    /// True if it asks to be told everything.
    pub fn asks_anew(&self) -> bool {
        self.base == 0
    }

    /// Appends the body: base, frontier, delay and refused, then for each range the gap before it and its
    /// length less one.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.base);
        put_varint(out, self.frontier);
        put_varint(out, u64::from(self.delay_micros));
        put_varint(out, self.refused);
        let mut next = self.frontier.saturating_add(1);
        for range in self.beyond.iter().take(ACK_RANGES_MAX) {
            put_varint(out, range.start().saturating_sub(next));
            put_varint(out, range.end() - range.start());
            next = range.end().saturating_add(1);
        }
    }

    /// Reads a body.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let (base, frontier) = (reader.seq_varint()?, reader.seq_varint()?);
        let delay_micros = u32::try_from(reader.varint()?).map_err(|_| DecodeError::Number)?;
        let refused = reader.varint()?;
        let mut beyond = RangeSet::new(ACK_RANGES_MAX);
        let mut next = frontier + 1;
        while !reader.is_empty() {
            // Both below SEQ_MAX, so the sums are far from overflow.
            let start = next + reader.seq_varint()?;
            let end = start + reader.seq_varint()?;
            if end > SEQ_MAX {
                return Err(DecodeError::Number);
            }
            next = end + 1;
            if !beyond.insert_range(start, end) {
                return Err(DecodeError::Record);
            }
        }
        Ok(Self {
            base,
            frontier,
            delay_micros,
            refused,
            beyond,
        })
    }
}
