//! The filter of the event socket: a classic BPF program that the kernel runs before it queues an event.
//!
//! It leaves out what the reader's own requests did (but for ends, if the reader counts what passed), and what is told of
//! unwanted flows while they live, by protocol and port of their original direction, wherever its attributes stand. Messages
//! that it cannot parse pass, and so does every end: whoever learned of the flow from elsewhere must hear that it is over. What
//! is left out costs no room in the queue, so it cannot lead to an overrun either.

use crate::consts::*;
use libc::sock_filter;

/// Flows of which no life is to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unwanted {
    /// Protocols and, of those that have any, the destination ports or ICMP types: first and last of each range; an empty list
    /// stands for the whole protocol.
    pub protocols: Vec<(u8, Vec<(u16, u16)>)>,
    /// All protocols but these, too.
    pub all_but: Option<Vec<u8>>,
}

/// The reader's own requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// Port of the [`Injector`](crate::inject::Injector) that they come from.
    pub portid: u32,
    /// Whether the ends of what they deleted are told all the same.
    pub with_ends: bool,
}

/// Instructions of a program at most (`BPF_MAXINSNS`).
const INSTRUCTIONS_MAX: usize = 4096;

const DROP: sock_filter = op(libc::BPF_RET | libc::BPF_K, 0, 0, 0);
const PASS: sock_filter = op(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX);

const NLMSG_TYPE_OFFSET: u32 = 4;
const NLMSG_PID_OFFSET: u32 = 12;
/// After `struct nlmsghdr` and `struct nfgenmsg`.
const ATTRIBUTES_OFFSET: u32 = 20;
/// `struct nlattr`
const NLA_HEADER_BYTES: u32 = 4;

/// The program. Unwanted protocols that it has no room for pass.
pub(super) fn program(own: Option<Own>, unwanted: &Unwanted) -> Vec<sock_filter> {
    let mut program = Vec::new();
    if let Some(Own { portid, with_ends }) = own {
        // Words are loaded in network order; the header is in the machine's.
        let portid = u32::from_be_bytes(portid.to_ne_bytes());
        program.extend([
            load(libc::BPF_W, NLMSG_PID_OFFSET),
            jump(libc::BPF_JEQ, portid, 0, if with_ends { 3 } else { 1 }),
        ]);
        if with_ends {
            program.extend([
                load(libc::BPF_H, NLMSG_TYPE_OFFSET),
                jump(libc::BPF_JEQ, kind(IPCTNL_MSG_CT_DELETE), 1, 0),
            ]);
        }
        program.push(DROP);
    }
    if *unwanted != Unwanted::default() {
        program.extend([
            load(libc::BPF_H, NLMSG_TYPE_OFFSET),
            jump(libc::BPF_JEQ, kind(IPCTNL_MSG_CT_NEW), 1, 0),
            PASS,
            op(libc::BPF_LD | libc::BPF_IMM, 0, 0, ATTRIBUTES_OFFSET),
        ]);
        program.extend(find(libc::SKF_AD_NLATTR, CTA_TUPLE_ORIG));
        program.extend(find(libc::SKF_AD_NLATTR_NEST, CTA_TUPLE_PROTO));
        program.push(op(libc::BPF_ST, 0, 0, 0));
        program.extend(find(libc::SKF_AD_NLATTR_NEST, CTA_PROTO_NUM));
        program.extend(value(libc::BPF_B));
        for (protocol, selectors) in &unwanted.protocols {
            let block = of_protocol(*protocol, selectors);
            let others = unwanted.all_but.as_ref().map_or(0, |it| it.len() * 2 + 2);
            if program.len() + block.len() + others + 4 <= INSTRUCTIONS_MAX {
                program.push(jump(libc::BPF_JEQ, (*protocol).into(), 1, 0));
                program.push(op(libc::BPF_JMP | libc::BPF_JA, 0, 0, len(&block)));
                program.extend(block);
            }
        }
        if let Some(wanted) = &unwanted.all_but {
            for protocol in wanted {
                program.extend([jump(libc::BPF_JEQ, (*protocol).into(), 0, 1), PASS]);
            }
            program.push(DROP);
        }
    }
    program.push(PASS);
    program
}

/// What becomes of a message of the protocol, whose nested attributes are at the offset in the first cell of memory.
fn of_protocol(protocol: u8, selectors: &[(u16, u16)]) -> Vec<sock_filter> {
    if selectors.is_empty() {
        return vec![DROP];
    }
    let (attribute, size) = match protocol {
        IPPROTO_ICMP => (CTA_PROTO_ICMP_TYPE, libc::BPF_B),
        IPPROTO_ICMPV6 => (CTA_PROTO_ICMPV6_TYPE, libc::BPF_B),
        _ => (CTA_PROTO_DST_PORT, libc::BPF_H),
    };
    let mut block = vec![op(libc::BPF_LD | libc::BPF_MEM, 0, 0, 0)];
    block.extend(find(libc::SKF_AD_NLATTR_NEST, attribute));
    block.extend(value(size));
    for (first, last) in selectors {
        block.extend([
            jump(libc::BPF_JGE, (*first).into(), 0, 2),
            jump(libc::BPF_JGT, (*last).into(), 1, 0),
            DROP,
        ]);
    }
    block.push(PASS);
    block
}

/// From the offset in the accumulator to that of an attribute there; a message without it passes.
fn find(how: libc::c_int, attribute: u16) -> [sock_filter; 4] {
    let extension = (libc::SKF_AD_OFF + how).cast_unsigned();
    [
        op(libc::BPF_LDX | libc::BPF_IMM, 0, 0, attribute.into()),
        load(libc::BPF_W, extension),
        jump(libc::BPF_JEQ, 0, 0, 1),
        PASS,
    ]
}

/// The value of the attribute at the offset in the accumulator.
fn value(size: u32) -> [sock_filter; 2] {
    [
        op(libc::BPF_MISC | libc::BPF_TAX, 0, 0, 0),
        op(libc::BPF_LD | size | libc::BPF_IND, 0, 0, NLA_HEADER_BYTES),
    ]
}

/// The kind of a message about a flow, as it is loaded.
fn kind(message: u16) -> u32 {
    u16::from_be_bytes((NFNL_SUBSYS_CTNETLINK << 8 | message).to_ne_bytes()).into()
}

fn load(size: u32, offset: u32) -> sock_filter {
    op(libc::BPF_LD | size | libc::BPF_ABS, 0, 0, offset)
}

fn jump(condition: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    op(libc::BPF_JMP | condition | libc::BPF_K, jt, jf, k)
}

fn len(block: &[sock_filter]) -> u32 {
    u32::try_from(block.len()).expect("a program is short")
}

const fn op(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    // Opcodes of classic BPF have 16 bits.
    sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

#[cfg(test)]
mod tests;
