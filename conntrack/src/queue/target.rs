//! A rule of nftables that gives packets to a queue on kernels without `queue` in nftables (CONFIG_NFT_QUEUE): the target
//! NFQUEUE of xtables, which nftables can call (CONFIG_NFT_COMPAT), but which `nft` shows and cannot write.
//!
//! The table has to be of family `ip` or `ip6`: tools that list one of `inet` end at such a rule.

use std::io;

use rustix::io::Errno;

use crate::consts::*;
use crate::nfnl::{Builder, Messages};
use crate::queue::Verdict;
use crate::socket::{Received, Socket};

/// The family of a table of nftables that such a rule can stand in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFamily {
    /// Packets of IPv4.
    Ip,
    /// Packets of IPv6.
    Ip6,
}

/// Appends `queue num QUEUE` to a chain of a table; with `bypass`, if packets pass that nobody reads.
pub fn append_queue_rule(
    family: TableFamily,
    table: &str,
    chain: &str,
    queue: u16,
    when_unread: Verdict,
) -> io::Result<()> {
    /// Sequence number of the rule; what only wraps it has another.
    const RULE: u32 = 1;
    let socket = Socket::new().map_err(io::Error::other)?;
    socket.bind(0).map_err(io::Error::other)?;
    let mut request = Vec::new();
    let wrap = |request: &mut Vec<u8>, kind| {
        Builder::message(request, kind, 0, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES).finish();
    };
    wrap(&mut request, NFNL_MSG_BATCH_BEGIN);
    let family = match family {
        TableFamily::Ip => AF_INET,
        TableFamily::Ip6 => AF_INET6,
    };
    let flags = match when_unread {
        Verdict::Accept => NFQ_FLAG_BYPASS,
        Verdict::Drop => 0,
    };
    rule(&mut request, RULE, family, [table, chain], [queue, flags]);
    wrap(&mut request, NFNL_MSG_BATCH_END);
    socket.send(&request)?;
    let mut buffer = [0; 1024];
    loop {
        let Received::Datagram(len) = socket.recv(&mut buffer)? else {
            return Err(Errno::NOBUFS.into());
        };
        let mut messages = Messages::new(&buffer[..len]).flatten();
        // Of a batch that is refused as a whole, the answer has the number of its begin.
        if let Some(answer) = messages.find(|message| message.kind == NLMSG_ERROR) {
            return Ok(answer.outcome()?);
        }
    }
}

fn rule(
    request: &mut Vec<u8>,
    seq: u32,
    family: u8,
    [table, chain]: [&str; 2],
    [queue, flags]: [u16; 2],
) {
    const KIND: u16 = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE;
    const FLAGS: u16 = NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND;
    const REVISION: u32 = 3;
    // A struct xt_NFQ_info_v3: first queue, number of queues, flags; filled up to 8 bytes.
    let target = [queue, 1, flags, 0].map(u16::to_ne_bytes);
    let mut request = Builder::message(request, KIND, FLAGS, seq, family, 0);
    request.put(NFTA_RULE_TABLE, &terminated(table));
    request.put(NFTA_RULE_CHAIN, &terminated(chain));
    request.nest(NFTA_RULE_EXPRESSIONS, |expressions| {
        expressions.nest(NFTA_LIST_ELEM, |expression| {
            expression.put(NFTA_EXPR_NAME, b"target\0");
            expression.nest(NFTA_EXPR_DATA, |data| {
                data.put(NFTA_TARGET_NAME, b"NFQUEUE\0");
                data.put_be32(NFTA_TARGET_REV, REVISION);
                data.put(NFTA_TARGET_INFO, target.as_flattened());
            });
        });
    });
    request.finish();
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}
