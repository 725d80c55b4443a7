//! What is said over a link, as bytes: frames, each with its kind and length.
//!
//! ```text
//!   0      1              5
//!   +------+--------------+----------------- - -
//!   | kind | length (u32) | body
//!   +------+--------------+----------------- - -
//!   1 KEY      incarnation (u64), epoch (u8), key (32 bytes), floor (u64)
//!   2 KEY_ACK  incarnation (u64), epoch (u8)
//!   3 PING     nothing: its being acknowledged by TCP, or not, says what there is to know
//!   16-31      of a full sync: the protocol's own business
//!   40-47      of interfaces: the same
//!   48-51      of an audit: the same
//!   52 TOTALS  what has passed: [`crate::accounting::message`]
//!   56 FACTS   what the machine is like: [`crate::facts`]
//! ```
//!
//! All numbers are big-endian. The body of a kind that is not known is skipped, and so is what follows the fields that are.

use std::io;
use std::ops::RangeInclusive;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::accounting::message::BODY_BYTES_MAX;
use crate::core::LinkMessage;
use crate::core::keys::{KeyMessage, KeyOffer};
use crate::core::seal::DatagramKey;

const KEY: u8 = 1;
const KEY_ACK: u8 = 2;
const PING: u8 = 3;
/// Of full syncs, of interfaces, and of audits.
const PROTOCOL: [RangeInclusive<u8>; 3] = [16..=31, 40..=47, 48..=51];
const TOTALS: u8 = 52;
const FACTS: u8 = 56;

const KEY_BYTES: usize = 8 + 1 + 32 + 8;
const KEY_ACK_BYTES: usize = 8 + 1;
/// What is longer is not skipped but ends the link: it is nonsense.
const FRAME_BYTES_MAX: u32 = 1 << 20;
/// The longest of a full sync has 8 KiB and a flow, the longest of an audit 4,096 digests.
const PROTOCOL_BYTES_MAX: u32 = 1 << 16;
/// As many facts as there may be, with the longest names, have 23 KB.
const FACTS_BYTES_MAX: u32 = 1 << 15;
/// Room for what a later version may add.
const TOTALS_BYTES_MAX: u32 = 1 << 19;
const _: () = assert!(BODY_BYTES_MAX < TOTALS_BYTES_MAX as usize);

/// The next message. An error ends the link.
pub(super) async fn read(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<LinkMessage> {
    loop {
        let kind = reader.read_u8().await?;
        let length = reader.read_u32().await?;
        if length > FRAME_BYTES_MAX {
            return Err(malformed("a frame is too long"));
        }
        if PROTOCOL.iter().any(|kinds| kinds.contains(&kind)) {
            if length > PROTOCOL_BYTES_MAX {
                return Err(malformed("a frame of the protocol is too long"));
            }
            let mut body = vec![0; length as usize];
            reader.read_exact(&mut body).await?;
            return Ok(LinkMessage::Protocol(kind, body));
        }
        if [FACTS, TOTALS].contains(&kind) {
            let (bytes_max, message): (_, fn(_) -> _) = match kind {
                FACTS => (FACTS_BYTES_MAX, LinkMessage::Facts),
                _ => (TOTALS_BYTES_MAX, LinkMessage::Totals),
            };
            if length > bytes_max {
                return Err(malformed("a frame of facts or totals is too long"));
            }
            let mut body = vec![0; length as usize];
            reader.read_exact(&mut body).await?;
            return Ok(message(body));
        }
        let known_bytes = match kind {
            KEY => KEY_BYTES,
            KEY_ACK => KEY_ACK_BYTES,
            _ => 0,
        };
        let mut body = Zeroizing::new([0; KEY_BYTES]);
        let known = &mut body[..known_bytes];
        let rest = (length as usize)
            .checked_sub(known_bytes)
            .ok_or_else(|| malformed("a frame is too short"))?;
        reader.read_exact(known).await?;
        skip(reader, rest).await?;
        match kind {
            KEY => {
                let offer = KeyMessage::Offer(decode_key(&body));
                return Ok(LinkMessage::Key(offer));
            }
            KEY_ACK => {
                let mut fields = &body[..];
                return Ok(LinkMessage::Key(KeyMessage::Ack {
                    incarnation: fields.read_u64().await?,
                    epoch: fields.read_u8().await?,
                }));
            }
            PING => {}
            _ => return Ok(LinkMessage::Protocol(kind, Vec::new())),
        }
    }
}

fn decode_key(body: &[u8; KEY_BYTES]) -> KeyOffer {
    let (incarnation, rest) = body.split_first_chunk().expect("it is long enough");
    let ([epoch], rest) = rest.split_first_chunk().expect("it is long enough");
    let (key, rest) = rest.split_first_chunk().expect("it is long enough");
    let (floor, _) = rest.split_first_chunk().expect("it is long enough");
    KeyOffer {
        incarnation: u64::from_be_bytes(*incarnation),
        epoch: *epoch,
        key: DatagramKey::new(*key),
        floor: u64::from_be_bytes(*floor),
    }
}

async fn skip(reader: &mut (impl AsyncRead + Unpin), mut bytes: usize) -> io::Result<()> {
    let mut buffer = [0; 512];
    while bytes > 0 {
        let piece = bytes.min(buffer.len());
        bytes -= reader.read_exact(&mut buffer[..piece]).await?;
    }
    Ok(())
}

/// Writes a message.
pub(super) async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    message: &LinkMessage,
) -> io::Result<()> {
    let mut body = Zeroizing::new(Vec::with_capacity(KEY_BYTES));
    let kind = match message {
        LinkMessage::Protocol(kind, body) => return write_frame(writer, *kind, body).await,
        LinkMessage::Facts(body) => return write_frame(writer, FACTS, body).await,
        LinkMessage::Totals(body) => return write_frame(writer, TOTALS, body).await,
        LinkMessage::Key(KeyMessage::Offer(offer)) => {
            body.extend(offer.incarnation.to_be_bytes());
            body.push(offer.epoch);
            body.extend_from_slice(offer.key.bytes());
            body.extend(offer.floor.to_be_bytes());
            KEY
        }
        LinkMessage::Key(KeyMessage::Ack { incarnation, epoch }) => {
            body.extend(incarnation.to_be_bytes());
            body.push(*epoch);
            KEY_ACK
        }
    };
    write_frame(writer, kind, &body).await
}

/// Writes what needs no answer.
pub(super) async fn write_ping(writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    write_frame(writer, PING, &[]).await
}

async fn write_frame(
    writer: &mut (impl AsyncWrite + Unpin),
    kind: u8,
    body: &[u8],
) -> io::Result<()> {
    let length = u32::try_from(body.len()).expect("a body is short");
    // One write is one TLS record, and one packet if it is short.
    let mut frame = Zeroizing::new(Vec::with_capacity(5 + body.len()));
    frame.push(kind);
    frame.extend(length.to_be_bytes());
    frame.extend_from_slice(body);
    writer.write_all(&frame).await?;
    writer.flush().await
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
