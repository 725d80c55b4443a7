//! The header of TCP.

use crate::consts::{IP_CT_TCP_FLAG_SACK_PERM, IP_CT_TCP_FLAG_WINDOW_SCALE};
use crate::packet::{PacketError, at};

/// What the kernel's tracker looks at in a header, less windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpHeader {
    /// What its flags make it.
    pub kind: TcpKind,
    /// Window scale option, 14 at most.
    pub window_scale: Option<u8>,
    /// Whether the sender permits selective acknowledgements (an option of SYN and SYN/ACK).
    pub sack_permitted: bool,
}

/// What the flags of a packet mean: the first of these that applies (`get_conntrack_index`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcpKind {
    /// RST
    Rst,
    /// SYN with ACK
    SynAck,
    /// SYN
    Syn,
    /// FIN
    Fin,
    /// ACK
    Ack,
    /// None of these.
    None,
}

impl TcpHeader {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, PacketError> {
        let header: &[u8; 20] = at(bytes, 0)?;
        let header_len = usize::from(header[12] >> 4) * 4;
        if header_len < header.len() {
            return Err(PacketError::HeaderLength);
        }
        let options = bytes.get(header.len()..header_len);
        let mut parsed = Self {
            kind: kind(header[13]),
            window_scale: None,
            sack_permitted: false,
        };
        parsed.read_options(options.ok_or(PacketError::Short)?);
        Ok(parsed)
    }

    /// `IP_CT_TCP_FLAG_*` of the sender's direction, as far as its options decide on them.
    pub fn conntrack_flags(&self) -> u8 {
        let scale = self.window_scale.map(|_| IP_CT_TCP_FLAG_WINDOW_SCALE);
        let sack = self.sack_permitted.then_some(IP_CT_TCP_FLAG_SACK_PERM);
        scale.unwrap_or(0) | sack.unwrap_or(0)
    }

    /// As the kernel: an option whose length is wrong ends them.
    fn read_options(&mut self, mut options: &[u8]) {
        const END: u8 = 0;
        const NO_OPERATION: u8 = 1;
        const WINDOW_SCALE: u8 = 3;
        const SACK_PERMITTED: u8 = 4;
        const WINDOW_SCALE_MAX: u8 = 14;
        loop {
            options = match *options {
                [NO_OPERATION, ref rest @ ..] => rest,
                [] | [END, ..] | [_] => return,
                [kind, length, ..] => {
                    let length = usize::from(length);
                    let Some(value) = options.get(2..length) else {
                        return;
                    };
                    match (kind, value) {
                        (WINDOW_SCALE, &[scale]) => {
                            self.window_scale = Some(scale.min(WINDOW_SCALE_MAX));
                        }
                        (SACK_PERMITTED, []) => self.sack_permitted = true,
                        _ => {}
                    }
                    &options[length..]
                }
            };
        }
    }
}

fn kind(flags: u8) -> TcpKind {
    const FIN: u8 = 0x01;
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    const ACK: u8 = 0x10;
    let has = |flag| flags & flag != 0;
    match () {
        () if has(RST) => TcpKind::Rst,
        () if has(SYN) && has(ACK) => TcpKind::SynAck,
        () if has(SYN) => TcpKind::Syn,
        () if has(FIN) => TcpKind::Fin,
        () if has(ACK) => TcpKind::Ack,
        () => TcpKind::None,
    }
}
