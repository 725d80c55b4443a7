//! The lab: a client and a server, and between them two to sixteen gateways that could each carry every packet.
//!
//! ```text
//!              lan                     wan                      each gateway: lan, wan, sync0
//!   client ----+---- gateway a ----+---- server                 inside    10.0.0.0/24     fd00::/64
//!   .100       +---- gateway b ----+     .100                   outside   203.0.113.0/24  2001:db8::/64
//!              +---- (gateway c) --+                            sync      192.0.2.0/24    2001:db8:2::/64
//! ```
//!
//! The gateways filter strictly: a packet that belongs to no flow of the kernel's table, and opens none, is dropped. So a
//! connection that goes on through another gateway proves that its flow was there. What keepalived does in the field,
//! [`Lab::activate`] does here: it moves the routes and the shared addresses.
//!
//! The subtle thing: masquerading takes the first address of the interface in the network of the next hop. For this to
//! be the shared address, it alone has the length of the network: the gateways' own outside addresses, and the service
//! address, are host addresses (/32; /128 and deprecated).

use std::net::IpAddr;
use std::time::Duration;

use crate::netns::{Namespace, wait_until};

/// Where a LAN host appears outside when it is masqueraded: on the gateway that is active.
pub const SHARED_IPV4: &str = "203.0.113.1";
/// The shared address whose connections are led to the server.
pub const SERVICE_IPV4: &str = "203.0.113.2";
/// As [`SHARED_IPV4`].
pub const SHARED_IPV6: &str = "2001:db8::1";
/// As [`SERVICE_IPV4`].
pub const SERVICE_IPV6: &str = "2001:db8::2";

/// How long the interfaces of a removed namespace may stay.
const LINKS_GONE_DEADLINE: Duration = Duration::from_secs(20);

/// The gateways: strictly stateful, new flows from inside only, and two kinds of NAT. What is masqueraded is a property of
/// the client's address.
const RULESET: &str = "
table inet filter {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state invalid drop
        ct state established,related accept
        iifname lan meta l4proto tcp tcp flags & (fin | syn | rst | ack) == syn ct state new accept
        iifname lan meta l4proto { udp, icmp, ipv6-icmp } ct state new accept
    }
    chain input {
        type filter hook input priority filter; policy drop;
        iifname { lo, sync0, sync1, sync2 } accept
        ct state established,related accept
        meta l4proto { icmp, ipv6-icmp } accept
    }
}
table inet nat {
    chain prerouting {
        type nat hook prerouting priority dstnat;
        ip daddr 203.0.113.2 dnat ip to 203.0.113.100
        ip6 daddr 2001:db8::2 dnat ip6 to 2001:db8::100
    }
    chain postrouting {
        type nat hook postrouting priority srcnat;
        oifname wan ip saddr 10.0.0.101 masquerade
        oifname wan ip6 saddr fd00::101 masquerade
    }
}
";

/// How a connection is led through the gateways, which is chosen by the addresses it is opened between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// As it is.
    Plain,
    /// The client appears as the shared address.
    Masqueraded,
    /// The client connects to the shared service address and reaches the server.
    Redirected,
    /// Through the gateway of this number, whichever is active: every gateway has a client and a server address of its own.
    Through(usize),
}

/// The family of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        })
    }
}

impl Path {
    /// The client's address of a connection that takes this path.
    pub fn client(self, family: Family) -> IpAddr {
        let host = match self {
            Path::Plain | Path::Redirected => 100,
            Path::Masqueraded => 101,
            Path::Through(gateway) => 151 + gateway,
        };
        address(family, "10.0.0.", "fd00::", host)
    }

    /// The address that the client connects to.
    pub fn server(self, family: Family) -> IpAddr {
        let host = match self {
            Path::Plain | Path::Masqueraded => 100,
            Path::Redirected => 2,
            Path::Through(gateway) => 151 + gateway,
        };
        address(family, "203.0.113.", "2001:db8::", host)
    }

    /// The server's own address that the connection arrives at.
    pub fn listener(self, family: Family) -> IpAddr {
        match self {
            Path::Plain | Path::Masqueraded | Path::Redirected => Path::Plain.server(family),
            Path::Through(_) => self.server(family),
        }
    }
}

/// The addresses are written alike in both families: the host part of IPv6 reads as the decimal one of IPv4.
fn address(family: Family, ipv4_prefix: &str, ipv6_prefix: &str, host: usize) -> IpAddr {
    let prefix = match family {
        Family::Ipv4 => ipv4_prefix,
        Family::Ipv6 => ipv6_prefix,
    };
    format!("{prefix}{host}")
        .parse()
        .expect("prefix and host make an address")
}

/// The machines and the cables.
#[derive(Debug)]
pub struct Lab {
    /// Opens connections; interface `lan`.
    pub client: Namespace,
    /// Answers them; interface `wan`.
    pub server: Namespace,
    /// In the order of the cluster's members; interfaces `lan`, `wan`, `sync0`, and `sync1` and so on if there are more
    /// sync networks.
    pub gateways: Vec<Namespace>,
    /// The switches: bridges `lan`, `wan`, `sync`, and `sync1` and so on.
    pub switch: Namespace,
}

impl Lab {
    /// Builds the lab, with the first gateway active.
    ///
    /// Two gateways are connected by a cable, more by a switch.
    #[track_caller]
    pub fn new(gateway_count: usize) -> Lab {
        Lab::with_networks(gateway_count, 1)
    }

    /// The same with so many sync networks; several are all made of switches.
    #[track_caller]
    pub fn with_networks(gateway_count: usize, networks: usize) -> Lab {
        assert!(
            (2..=16).contains(&gateway_count),
            "a lab has 2 to 16 gateways"
        );
        let switch = switch();
        let client = client(&switch, gateway_count);
        let server = server(&switch, gateway_count);
        let gateways: Vec<_> = (0..gateway_count)
            .map(|index| gateway(&switch, index))
            .collect();
        if let ([a, b], 1) = (gateways.as_slice(), networks) {
            a.cable("sync0", b, "sync0");
        } else {
            for gateway in &gateways {
                plug(&switch, "sync", gateway, "sync0");
            }
        }
        for (index, gateway) in gateways.iter().enumerate() {
            address_sync(gateway, index, 0);
        }
        let lab = Lab {
            client,
            server,
            gateways,
            switch,
        };
        for network in 1..networks {
            let bridge = format!("sync{network}");
            (lab.switch).ip(&format!(
                "link add {bridge} type bridge\nlink set {bridge} up"
            ));
            (0..gateway_count).for_each(|index| lab.plug_sync(index, network));
        }
        lab.activate(0);
        lab
    }

    /// Plugs a gateway into a sync network after the first, by an interface that is new.
    #[track_caller]
    pub fn plug_sync(&self, index: usize, network: usize) {
        let name = format!("sync{network}");
        plug(&self.switch, &name, &self.gateways[index], &name);
        address_sync(&self.gateways[index], index, network);
    }

    /// Moves everything that is active to one gateway: the routes of client and server, and the shared addresses.
    ///
    /// The shared addresses are taken from the other gateways; the neighbours learn the new place as from a gratuitous
    /// ARP.
    #[track_caller]
    pub fn activate(&self, index: usize) {
        for (other, gateway) in self.gateways.iter().enumerate() {
            if other != index {
                gateway.ip_forgiving(&shared_addresses("del"));
            }
        }
        self.gateways[index].ip(&shared_addresses("replace"));
        let place = self.gateways[index].hardware_address("wan");
        let host = gateway_host(index);
        self.server.ip(&format!(
            "neigh replace {SHARED_IPV4} lladdr {place} nud reachable dev wan
             neigh replace {SHARED_IPV6} lladdr {place} nud reachable dev wan
             route replace 10.0.0.0/24 via 203.0.113.{host}
             route replace fd00::/64 via 2001:db8::{host}"
        ));
        self.client.ip(&format!(
            "route replace default via 10.0.0.{host}
             route replace default via fd00::{host}"
        ));
    }

    /// Splits the way of what is not masqueraded: what the client sends passes one gateway, what the server sends another.
    #[track_caller]
    pub fn split(&self, outward: usize, inward: usize) {
        self.activate(outward);
        let host = gateway_host(inward);
        self.server.ip(&format!(
            "route replace 10.0.0.0/24 via 203.0.113.{host}
             route replace fd00::/64 via 2001:db8::{host}"
        ));
    }

    /// Puts a new machine in the place of a gateway, as when it boots: its connection table is empty. What ran on the old
    /// one has been killed. Takes a lab with a switch for the sync network, which is one of three gateways or more.
    #[track_caller]
    pub fn reboot(&mut self, index: usize) {
        assert!(
            self.gateways.len() > 2,
            "a cable is gone with one of its ends"
        );
        let label = self.gateways[index].label().to_owned();
        drop(self.gateways.remove(index));
        // The kernel takes its time with the interfaces of a namespace, and the switch has the other ends.
        wait_until("the old links are gone", LINKS_GONE_DEADLINE, || {
            let links = self.switch.run("ip -brief link");
            !links.contains(&format!("-{label}@"))
        });
        let gateway = gateway(&self.switch, index);
        plug(&self.switch, "sync", &gateway, "sync0");
        address_sync(&gateway, index, 0);
        self.gateways.insert(index, gateway);
    }

    /// Takes the links of a gateway down, all at once, as when its power fails.
    #[track_caller]
    pub fn cut(&self, index: usize) {
        self.gateways[index].ip("link set sync0 down\nlink set lan down\nlink set wan down");
    }
}

/// The address of a gateway on the first sync network.
pub fn sync_address(index: usize, family: Family) -> IpAddr {
    network_address(index, family, 0)
}

/// The address of a gateway on a sync network.
pub fn network_address(index: usize, family: Family, network: usize) -> IpAddr {
    let [ipv4, ipv6] = [Family::Ipv4, Family::Ipv6].map(|it| sync_prefix(it, network));
    address(family, &ipv4, &ipv6, index + 1)
}

/// What the addresses of a sync network begin with.
pub fn sync_prefix(family: Family, network: usize) -> String {
    match (family, network) {
        (Family::Ipv4, 0) => "192.0.2.".to_owned(),
        (Family::Ipv4, _) => format!("198.18.{network}."),
        (Family::Ipv6, _) => format!("2001:db8:{}::", network + 2),
    }
}

fn address_sync(gateway: &Namespace, index: usize, network: usize) {
    let families = [Family::Ipv4, Family::Ipv6];
    let [ipv4, ipv6] = families.map(|it| network_address(index, it, network));
    gateway.ip(&format!(
        "addr add {ipv4}/24 dev sync{network}
         addr add {ipv6}/64 dev sync{network} nodad"
    ));
}

/// The host part of a gateway's own addresses, inside and outside.
fn gateway_host(index: usize) -> usize {
    11 + index
}

fn shared_addresses(verb: &str) -> String {
    format!(
        "addr {verb} {SHARED_IPV4}/24 dev wan
         addr {verb} {SERVICE_IPV4}/32 dev wan
         addr {verb} {SHARED_IPV6}/64 dev wan nodad
         addr {verb} {SERVICE_IPV6}/128 dev wan nodad preferred_lft 0"
    )
}

fn switch() -> Namespace {
    let switch = Namespace::new("switch");
    let bridges = ["lan", "wan", "sync"];
    switch.ip(&bridges
        .map(|it| format!("link add {it} type bridge\nlink set {it} up\n"))
        .concat());
    switch
}

fn client(switch: &Namespace, gateway_count: usize) -> Namespace {
    let client = machine("client");
    plug(switch, "lan", &client, "lan");
    client.ip("addr add 10.0.0.100/24 dev lan
         addr add 10.0.0.101/24 dev lan
         addr add fd00::100/64 dev lan nodad
         addr add fd00::101/64 dev lan nodad");
    for (index, host) in (0..gateway_count).map(|index| (index, gateway_host(index))) {
        let path = Path::Through(index);
        client.ip(&format!(
            "addr add {}/24 dev lan
             addr add {}/64 dev lan nodad
             route add {} via 10.0.0.{host}
             route add {} via fd00::{host}",
            path.client(Family::Ipv4),
            path.client(Family::Ipv6),
            path.server(Family::Ipv4),
            path.server(Family::Ipv6),
        ));
    }
    client
}

fn server(switch: &Namespace, gateway_count: usize) -> Namespace {
    let server = machine("server");
    plug(switch, "wan", &server, "wan");
    server.ip("addr add 203.0.113.100/24 dev wan
         addr add 2001:db8::100/64 dev wan nodad");
    for (index, host) in (0..gateway_count).map(|index| (index, gateway_host(index))) {
        let path = Path::Through(index);
        server.ip(&format!(
            "addr add {}/24 dev wan
             addr add {}/64 dev wan nodad
             route add {} via 203.0.113.{host}
             route add {} via 2001:db8::{host}",
            path.server(Family::Ipv4),
            path.server(Family::Ipv6),
            path.client(Family::Ipv4),
            path.client(Family::Ipv6),
        ));
    }
    server
}

fn gateway(switch: &Namespace, index: usize) -> Namespace {
    let letter = char::from(b'a' + u8::try_from(index).expect("a lab has 16 gateways at most"));
    let gateway = machine(&format!("gw-{letter}"));
    gateway.sysctl("ipv4.ip_forward", 1);
    gateway.sysctl("ipv6.conf.all.forwarding", 1);
    plug(switch, "lan", &gateway, "lan");
    plug(switch, "wan", &gateway, "wan");
    // The network of the outside is routed by hand, since a host address brings no route with it.
    gateway.ip(&format!(
        "addr add 10.0.0.{host}/24 dev lan
         addr add fd00::{host}/64 dev lan nodad
         addr add 203.0.113.{host}/32 dev wan
         addr add 2001:db8::{host}/128 dev wan nodad preferred_lft 0
         route add 203.0.113.0/24 dev wan metric 100
         route add 2001:db8::/64 dev wan metric 100",
        host = gateway_host(index),
    ));
    gateway.nft(RULESET);
    // After the ruleset, which loads the kernel module that has it.
    gateway.sysctl("netfilter.nf_conntrack_tcp_loose", 0);
    gateway
}

/// A machine that takes packets on any interface, and uses its IPv6 addresses without asking around first.
fn machine(label: &str) -> Namespace {
    let machine = Namespace::new(label);
    for (key, value) in [
        ("ipv4.conf.all.rp_filter", 0),
        ("ipv4.conf.default.rp_filter", 0),
        ("ipv6.conf.default.accept_dad", 0),
    ] {
        machine.sysctl(key, value);
    }
    machine
}

/// Connects a machine's interface to a bridge of the switch.
fn plug(switch: &Namespace, bridge: &str, machine: &Namespace, interface: &str) {
    let port = format!("{bridge}-{}", machine.label());
    switch.cable(&port, machine, interface);
    switch.ip(&format!("link set {port} master {bridge}"));
}
