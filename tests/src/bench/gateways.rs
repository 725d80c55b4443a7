//! Gateway A, which the packets pass, gateway B, which is told of their flows, and the sync link between them.
//!
//! Both have the strict ruleset that a stateful firewall has: nothing passes that belongs to no flow. The sync link is
//! not tracked, so that the tables hold the generator's flows and nothing else.

use std::fs;
use std::process::Stdio;

use super::generator::Generator;
use crate::netns::Namespace;

/// Gateway A's interface towards the clients.
pub const CLIENT_SIDE: &str = "lan";
/// Gateway A's interface towards the server.
pub const SERVER_SIDE: &str = "wan";
/// The interface of each gateway that leads to the other.
pub const SYNC: &str = "sync";
/// Gateway A's address on the sync link.
pub const SYNC_A: &str = "192.0.2.1";
/// Gateway B's address on the sync link.
pub const SYNC_B: &str = "192.0.2.2";

/// Entries that the kernel's table may have, and its hash buckets.
pub const TABLE_SIZE: u32 = 1 << 20;

const RULESET: &str = r#"
table inet filter {
    chain untracked_in {
        type filter hook prerouting priority raw
        iifname "sync" notrack
    }
    chain untracked_out {
        type filter hook output priority raw
        oifname "sync" notrack
    }
    chain input {
        type filter hook input priority filter; policy drop
        iifname { "lo", "sync" } accept
    }
    chain forward {
        type filter hook forward priority filter; policy drop
        ct state invalid drop
        ct state established,related accept
        iifname "lan" oifname "wan" tcp flags & (fin|syn|rst|ack) == syn ct state new accept
    }
}
"#;

/// The two gateways. Dropping them removes them and puts the table's size back.
pub struct Gateways {
    /// The one that the packets pass.
    pub a: Namespace,
    /// The one that is told.
    pub b: Namespace,
    /// Writes gateway A's packets.
    pub generator: Generator,
    _table: TableSize,
}

impl Gateways {
    /// Builds both.
    pub fn build() -> Gateways {
        let table = TableSize::raise();
        let (a, b) = (Namespace::new("bench-a"), Namespace::new("bench-b"));
        for gateway in [&a, &b] {
            gateway.sysctl("ipv6.conf.default.disable_ipv6", 1);
            gateway.sysctl("ipv4.ip_forward", 1);
        }
        a.cable(SYNC, &b, SYNC);
        for (gateway, address) in [(&a, SYNC_A), (&b, SYNC_B)] {
            // A datagram that the kernel is to cut later counts once: cut it before it reaches the interface.
            gateway.ip(&format!(
                "link set {SYNC} gso_max_segs 1\naddr add {address}/24 dev {SYNC}"
            ));
            gateway.nft(RULESET);
            // Exists from the first rule that needs conntrack.
            gateway.sysctl("netfilter.nf_conntrack_tcp_loose", 0);
        }
        let generator = Generator::new(&a);
        a.ip(&format!(
            "link set {CLIENT_SIDE} up\nlink set {SERVER_SIDE} up\n\
             route add 198.18.0.0/16 dev {CLIENT_SIDE}\nroute add 198.19.0.0/16 dev {SERVER_SIDE}"
        ));
        Gateways {
            a,
            b,
            generator,
            _table: table,
        }
    }

    /// Empties both tables.
    pub fn flush(&self) {
        for gateway in [&self.a, &self.b] {
            gateway.run("conntrack -F");
            assert_eq!(flows(gateway), 0, "a flushed table is empty");
        }
    }
}

/// Entries in a gateway's table.
pub fn flows(gateway: &Namespace) -> u64 {
    let path = "/proc/sys/net/netfilter/nf_conntrack_count";
    let count = gateway.inside(|| fs::read_to_string(path));
    count
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_else(|| panic!("{path} has no count"))
}

/// Entries in a gateway's table that have seen a whole handshake, as the `conntrack` tool sees them.
pub fn assured_flows(gateway: &Namespace) -> u64 {
    let output = gateway
        .command("conntrack")
        .args(["-L", "-p", "tcp", "--state", "ESTABLISHED", "-u", "ASSURED"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .expect("conntrack is installed");
    let summary = String::from_utf8_lossy(&output.stderr).into_owned();
    // "conntrack v1.4.7 (conntrack-tools): 200000 flow entries have been shown."
    let count = summary
        .split_once("): ")
        .and_then(|(_, rest)| rest.split(' ').next());
    count
        .and_then(|count| count.parse().ok())
        .unwrap_or_else(|| panic!("conntrack -L: {summary}"))
}

/// The counters of a namespace's interfaces.
pub struct Interfaces(String);

impl Interfaces {
    /// Reads them.
    pub fn of(gateway: &Namespace) -> Interfaces {
        let path = "/proc/thread-self/net/dev";
        Interfaces(
            gateway
                .inside(|| fs::read_to_string(path))
                .unwrap_or_else(|error| panic!("{path}: {error}")),
        )
    }

    /// Bytes and packets in both directions, Ethernet headers included.
    pub fn both_ways(&self, interface: &str) -> (u64, u64) {
        let counters = self.counters(interface);
        (counters[0] + counters[8], counters[1] + counters[9])
    }

    /// Eight counters of what was received, eight of what was sent: bytes, packets, errors, dropped, ...
    fn counters(&self, interface: &str) -> [u64; 16] {
        let line = self
            .0
            .lines()
            .find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
        let line = line.unwrap_or_else(|| panic!("no interface {interface} in\n{}", self.0));
        let counters: Vec<u64> = line
            .split_ascii_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        counters
            .try_into()
            .unwrap_or_else(|_| panic!("sixteen counters in {line}"))
    }
}

/// The size of the kernel's table, which all namespaces share: raised while this lives.
struct TableSize {
    before: [(&'static str, String); 2],
}

/// Entries and hash buckets; the kernel raises the second on its own to no more than it takes from the first.
const TABLE_SIZE_PATHS: [&str; 2] = [
    "/proc/sys/net/netfilter/nf_conntrack_buckets",
    "/proc/sys/net/netfilter/nf_conntrack_max",
];

impl TableSize {
    fn raise() -> TableSize {
        let read =
            |path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let before = TABLE_SIZE_PATHS.map(|path| (path, read(path).trim().to_owned()));
        let size = TableSize { before };
        for path in TABLE_SIZE_PATHS {
            fs::write(path, TABLE_SIZE.to_string())
                .unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        size
    }
}

impl Drop for TableSize {
    fn drop(&mut self) {
        for (path, size) in &self.before {
            if let Err(error) = fs::write(path, size) {
                eprintln!("{path} stays at {TABLE_SIZE}, it was {size}: {error}");
            }
        }
    }
}
