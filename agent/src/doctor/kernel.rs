//! What the kernel can and how it is set.

use std::fs;

use conntrack::{QueueOptions, QueueSocket, Verdict};

use super::Finding;
use crate::ruleset::RulesetError;
use crate::ruleset::hold;
use crate::units::counted;

/// `CAP_NET_ADMIN` of `linux/capability.h`.
const CAP_NET_ADMIN: u32 = 12;
/// A queue that nobody is likely to use; it is let go at once.
const QUEUE: u16 = 65_533;
/// Entries a bucket, from which on looking one up costs noticeably more.
const CHAIN_MAX: u64 = 4;

pub fn examine() -> Vec<Finding> {
    let mut findings = vec![privilege()];
    match sysctl("nf_conntrack_max") {
        None => findings.push(Finding::bad(
            "conntrack",
            "there is no /proc/sys/net/netfilter/nf_conntrack_max",
            "without connection tracking there is nothing to replicate",
            "modprobe nf_conntrack nf_conntrack_netlink",
        )),
        Some(max) => {
            findings.push(events());
            findings.extend(table(max));
            findings.extend(loose());
        }
    }
    findings.extend(forwarding());
    findings
}

/// Whether packets can be held.
pub fn queue() -> [Finding; 2] {
    [queue_rule(), queue_flow()]
}

/// A setting of connection tracking, in this network namespace.
pub fn sysctl(name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/sys/net/netfilter/{name}")).ok()?;
    text.trim().parse().ok()
}

fn privilege() -> Finding {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|it| it.strip_prefix("CapEff:"));
    let effective = effective.and_then(|it| u64::from_str_radix(it.trim(), 16).ok());
    match effective.is_some_and(|it| it >> CAP_NET_ADMIN & 1 == 1) {
        true => Finding::ok("privilege", "CAP_NET_ADMIN is there"),
        false => Finding::bad(
            "privilege",
            "CAP_NET_ADMIN is missing",
            "the kernel shows and changes its connection table for nobody else; the checks below may be wrong",
            "run it as root: sudo ctsync doctor",
        ),
    }
}

fn events() -> Finding {
    match sysctl("nf_conntrack_events") {
        Some(0) => Finding::bad(
            "events",
            "net.netfilter.nf_conntrack_events is 0",
            "the kernel tells of no change of its table, so none is replicated",
            "sysctl -w net.netfilter.nf_conntrack_events=2",
        ),
        Some(value) => Finding::ok(
            "events",
            format!("net.netfilter.nf_conntrack_events is {value}"),
        ),
        None => Finding::bad(
            "events",
            "there is no net.netfilter.nf_conntrack_events",
            "the kernel was built without CONFIG_NF_CONNTRACK_EVENTS and tells of no change of its table",
            "boot a kernel that has it: those of the distributions do",
        ),
    }
}

fn table(max: u64) -> Vec<Finding> {
    let count = sysctl("nf_conntrack_count").unwrap_or(0);
    let entries = counted(count, "entry", "entries");
    let found = format!("{entries} of {max} (net.netfilter.nf_conntrack_max)");
    let fill = match count.saturating_mul(5) > max.saturating_mul(4) {
        true => Finding::warning(
            "table",
            found,
            "when the table is full, the kernel drops packets that open connections, and refuses copies",
            format!(
                "sysctl -w net.netfilter.nf_conntrack_max={}",
                max.saturating_mul(2)
            ),
        ),
        false => Finding::ok("table", found),
    };
    let hash = sysctl("nf_conntrack_buckets").map(|buckets| {
        let found = format!("{buckets} buckets for {max} entries at most");
        match buckets.saturating_mul(CHAIN_MAX) < max {
            true => Finding::warning(
                "hash",
                found,
                "a full table has long chains, which every packet and every copy walks along",
                format!(
                    "echo {} > /sys/module/nf_conntrack/parameters/hashsize",
                    max / 2
                ),
            ),
            false => Finding::ok("hash", found),
        }
    });
    [fill].into_iter().chain(hash).collect()
}

fn loose() -> Option<Finding> {
    let value = sysctl("nf_conntrack_tcp_loose")?;
    let found = format!("net.netfilter.nf_conntrack_tcp_loose is {value}");
    Some(match value {
        0 => Finding::ok("strictness", found),
        _ => Finding::warning(
            "strictness",
            found,
            "the kernel takes TCP in mid-stream for a new flow: what is not replicated goes unnoticed, and is not translated",
            "sysctl -w net.netfilter.nf_conntrack_tcp_loose=0",
        ),
    })
}

/// Only one of the two families may be in use.
fn forwarding() -> Option<Finding> {
    let is_off = |file: &str| fs::read_to_string(file).is_ok_and(|it| it.trim() == "0");
    let files = [
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/net/ipv6/conf/all/forwarding",
    ];
    files.into_iter().all(is_off).then(|| {
        Finding::warning(
            "forwarding",
            "net.ipv4.ip_forward and net.ipv6.conf.all.forwarding are 0",
            "this machine forwards no packet: flows that move here end",
            "sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1, and a file in /etc/sysctl.d",
        )
    })
}

/// Whether the kernel counts packets, which the configuration asks for.
pub fn accounting() -> Finding {
    match sysctl("nf_conntrack_acct") {
        Some(1..) => Finding::ok("accounting", "net.netfilter.nf_conntrack_acct is 1"),
        Some(0) | None => Finding::bad(
            "accounting",
            "net.netfilter.nf_conntrack_acct is 0",
            "the kernel counts no packets of flows that begin, so that `accounting` shows nothing of them",
            "sysctl -w net.netfilter.nf_conntrack_acct=1",
        ),
    }
}

/// Whether a rule can give packets to a queue.
fn queue_rule() -> Finding {
    match hold::probe() {
        Ok(()) => Finding::ok("nft queue", "rules can give packets to a queue"),
        Err(RulesetError::Run(error)) => Finding::warning(
            "nft queue",
            format!("nft cannot be run ({error})"),
            "what holds packets is installed with it: none is held",
            "apt install nftables, or dnf install nftables",
        ),
        Err(_) => Finding::warning(
            "nft queue",
            "the kernel refuses `queue` in a rule of nftables",
            "packets are held with the target NFQUEUE of xtables instead; if there is none either, none is held",
            "modprobe nft_queue, or nft_compat and xt_NFQUEUE; or boot a kernel of a distribution",
        ),
    }
}

/// Whether a held packet comes with what the kernel knows of its flow.
fn queue_flow() -> Finding {
    let options = QueueOptions {
        queues: QUEUE..=QUEUE,
        length_max: 1,
        when_full: Verdict::Accept,
    };
    match QueueSocket::open(&options) {
        Ok(queue) if queue.attaches_flows() => {
            Finding::ok("queue NAT", "a held packet comes with its flow")
        }
        Ok(_) => Finding::warning(
            "queue NAT",
            "a held packet comes without its flow",
            "of a held flow with NAT it is not known what it is translated to: such flows are not held",
            "boot a kernel with CONFIG_NETFILTER_NETLINK_GLUE_CT: those of the distributions have it",
        ),
        Err(error) => Finding::warning(
            "queue NAT",
            format!("no queue can be opened ({error})"),
            "packets cannot be held until the peers know their flow",
            "modprobe nfnetlink_queue",
        ),
    }
}
