//! The kernel's connection table, as the tool `conntrack` shows it, and where two tables differ.
//!
//! A line of the tool, less what differs rightly between two gateways that agree (how long an entry has to live, how
//! many use it, which of them has the copy), is an entry. The cluster's own flows are left out.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use conntrack::consts::{IPS_ASSURED, IPS_SEEN_REPLY, TCP_CONNTRACK_ESTABLISHED};
use conntrack::{Flow, L4, ProtoInfo, TcpInfo, Tuple};

use crate::lab::{Family, Path, sync_prefix};
use crate::netns::{Namespace, holds_within};
use crate::wire::CCP_PORT;

/// No lab has more sync networks.
const SYNC_NETWORKS_MAX: usize = 4;

/// The entries of a gateway, a line each.
pub type Table = BTreeSet<String>;

/// Reads the table of a gateway.
#[track_caller]
pub fn table(gateway: &Namespace) -> Table {
    let families =
        ["ipv4", "ipv6"].map(|it| gateway.run(&format!("conntrack -L -o extended -f {it}")));
    let lines = families.iter().flat_map(|it| it.lines());
    // The cluster's own, from whichever address they are, what makes switches lead its multicast, and probes of the path.
    let of_cluster = format!("dport={CCP_PORT} ");
    let networks = (0..SYNC_NETWORKS_MAX).flat_map(|network| {
        [Family::Ipv4, Family::Ipv6].map(|it| format!("src={}", sync_prefix(it, network)))
    });
    let own: Vec<_> = networks.chain([of_cluster]).collect();
    lines
        .filter(|line| !own.iter().any(|own| line.contains(own)))
        .map(entry)
        .collect()
}

/// Entries of a protocol in a gateway's table that the lab's client opened over IPv4.
#[track_caller]
pub fn client_entries(gateway: &Namespace, proto: &str) -> usize {
    let client = Path::Plain.client(Family::Ipv4);
    let listed = gateway.run(&format!("conntrack -L -p {proto} -s {client}"));
    listed.lines().count()
}

/// A TCP connection that goes on, from a client's port to port 443 of a server, to be put into a table by hand.
pub fn established(client: Ipv4Addr, port: u16, server: Ipv4Addr) -> Flow {
    Flow {
        status: Some(IPS_SEEN_REPLY | IPS_ASSURED),
        timeout: Some(3600),
        protoinfo: Some(ProtoInfo::Tcp(TcpInfo {
            state: TCP_CONNTRACK_ESTABLISHED,
            wscale: None,
            flags: None,
        })),
        ..Flow::new(Tuple {
            src: client.into(),
            dst: server.into(),
            proto: 6,
            l4: L4::Ports {
                src: port,
                dst: 443,
            },
            zone: 0,
        })
    }
}

/// Waits until all gateways have the same table, and returns it. Panics with a part of the differences when `deadline`
/// has passed.
#[track_caller]
pub fn wait_equal(gateways: &[Namespace], deadline: Duration) -> Table {
    let mut tables = Vec::new();
    let equal = holds_within(deadline, || {
        tables = gateways.iter().map(table).collect();
        tables.windows(2).all(|pair| pair[0] == pair[1])
    });
    if !equal {
        let sizes: Vec<_> = tables.iter().map(Table::len).collect();
        let differ = tables
            .windows(2)
            .map(|pair| differences(&pair[0], &pair[1]));
        let some: Vec<_> = differ.flat_map(|it| it.into_iter().take(10)).collect();
        panic!("after {deadline:?} the tables of {sizes:?} entries differ: {some:#?}");
    }
    tables.swap_remove(0)
}

/// What one table has and the other has not, signed as in a diff.
pub fn differences(ours: &Table, theirs: &Table) -> Vec<String> {
    let missing = ours.difference(theirs).map(|it| format!("- {it}"));
    let more = theirs.difference(ours).map(|it| format!("+ {it}"));
    missing.chain(more).collect()
}

/// The bit of the mark that marks a copy, as it is by default.
pub const COPY_BIT: u32 = 1 << 31;

/// `ipv4 2 tcp 6 431999 ESTABLISHED src=... mark=0 use=1`, without the numbers of the protocols and what passes.
fn entry(line: &str) -> String {
    let words = line.split_ascii_whitespace();
    let kept = words.enumerate().filter(|(position, word)| match position {
        0 | 2 => true,
        1 | 3 | 4 => false,
        _ => !word.starts_with("use="),
    });
    let shared = kept.map(|(_, word)| match word.strip_prefix("mark=") {
        Some(mark) => {
            let mark: u32 = mark.parse().expect("a mark is a number");
            format!("mark={}", mark & !COPY_BIT)
        }
        None => word.to_owned(),
    });
    shared.collect::<Vec<_>>().join(" ")
}
