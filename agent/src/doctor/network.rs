//! The sync networks: the interface, and whether large datagrams reach the peers; and the other interfaces, as far as the
//! configuration asks something of them.

use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::Finding;
use crate::addresses::{self, Interface, Link, LocalAddresses};
use crate::config::Config;
use crate::config::roles::{Mode, Monitored};
use crate::udp::scoped;

/// IPv6 demands as much of every link (RFC 8200 5), and full datagrams want no less.
const MTU_MIN: u32 = 1280;
/// How long an echo may take, far more than any network that members are synchronised over.
const ECHO_TIMEOUT: Duration = Duration::from_secs(1);
/// An echo that passes everywhere.
const SMALL_BYTES: usize = 64;

pub fn examine(config: &Config) -> Vec<Finding> {
    let links = addresses::links().unwrap_or_default();
    let networks =
        (0..config.networks.len()).flat_map(|network| examine_one(config, network, &links));
    let reverse_path =
        (config.roles.mode == Mode::LoadSharing).then(|| reverse_path(config, &links));
    (networks.chain(monitored(config, &links)))
        .chain(reverse_path.flatten())
        .collect()
}

/// The network that stands there in the configuration.
fn examine_one(config: &Config, network: usize, links: &[Link]) -> Vec<Finding> {
    let name = config.networks[network].interface.as_str();
    let interface = match addresses::interface(name) {
        Ok(interface) => interface,
        Err(error) => {
            return vec![Finding::bad(
                "interface",
                format!("{name}: {error}"),
                "the sync network is reached over it",
                "name another under `networks`: `ip link` shows what there is",
            )];
        }
    };
    let own = config.this.addresses[network].ip();
    let mut findings = vec![link(name, links), address(own, name), mtu(name, interface)];
    let peers = config.peers.iter();
    findings.extend(peers.map(|peer| path(&peer.name, peer.addresses[network], &interface)));
    findings
}

fn link(name: &str, links: &[Link]) -> Finding {
    const CHECK: &str = "interface";
    const WHY: &str = "no peer is reached over it";
    match links.iter().find(|link| link.name == name) {
        Some(link) if !link.is_on => Finding::bad(
            CHECK,
            format!("{name} is switched off"),
            WHY,
            format!("ip link set {name} up"),
        ),
        Some(link) if !link.is_up => Finding::bad(
            CHECK,
            format!("{name} is switched on, and has no carrier"),
            WHY,
            "look at the cable, and at the port of the switch",
        ),
        Some(_) | None => Finding::ok(CHECK, format!("{name} is up")),
    }
}

/// Names that no interface has: who monitors it is not fit.
fn monitored(config: &Config, links: &[Link]) -> Vec<Finding> {
    let is_there = |name: &str| links.iter().any(|link| link.name == name);
    let monitored = config.interfaces.monitored.iter().filter(|it| it.monitor);
    let missing = monitored.filter(|it| !is_there(it.name.as_str()));
    let finding = |it: &Monitored| {
        Finding::bad(
            "interface",
            format!("{} of `interfaces: monitored` is not there", it.name),
            "it has to be up, so that this member is not fit: it is active only while no other can be",
            "correct the name (`ip link` shows what there is), or leave it out with `monitor: false`",
        )
    };
    missing.map(finding).collect()
}

/// Where directions of a flow pass different gateways, a packet may come in where the kernel would not send the answer.
fn reverse_path(config: &Config, links: &[Link]) -> Option<Finding> {
    let setting = |name: &str| -> Option<u8> {
        let file = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
        fs::read_to_string(file).ok()?.trim().parse().ok()
    };
    let all = setting("all")?;
    // The greater of the two is in force; 1 is strict, 2 is not.
    let is_strict = |name: &str| setting(name).is_some_and(|it| it.max(all) == 1);
    let is_sync = |name: &str| {
        config
            .networks
            .iter()
            .any(|it| it.interface.as_str() == name)
    };
    let names = links.iter().map(|link| link.name.as_str());
    let strict: Vec<_> =
        (names.filter(|it| *it != "lo" && !is_sync(it) && is_strict(it))).collect();
    (!strict.is_empty()).then(|| {
        Finding::warning(
            "reverse path",
            format!("net.ipv4.conf.*.rp_filter is strict on {}", strict.join(", ")),
            "a packet that comes in by another interface than its answer would leave by is dropped: with `mode: load-sharing` \
             both directions of a connection may do that",
            "sysctl -w net.ipv4.conf.all.rp_filter=2",
        )
    })
}

fn address(address: IpAddr, device: &str) -> Finding {
    const CHECK: &str = "address";
    match LocalAddresses::open().map(|it| it.set().is_local(address)) {
        Ok(true) => Finding::ok(CHECK, format!("{address} is an address of this machine")),
        Ok(false) => Finding::bad(
            CHECK,
            format!("{address} is no address of this machine"),
            "peers send to it, and expect to hear from it",
            format!(
                "ip address add {address}/LENGTH dev {device}, or correct `members` or `member`"
            ),
        ),
        Err(error) => Finding::warning(
            CHECK,
            format!("the addresses of this machine cannot be read ({error})"),
            "whether it has the one that the configuration says cannot be said",
            "run it as root: sudo ctsync doctor",
        ),
    }
}

fn mtu(name: &str, interface: Interface) -> Finding {
    let found = format!("{name} has an MTU of {}", interface.mtu_bytes);
    match interface.mtu_bytes < MTU_MIN {
        true => Finding::warning(
            "mtu",
            found,
            "changes travel in many small datagrams",
            format!("ip link set {name} mtu 1500"),
        ),
        false => Finding::ok("mtu", found),
    }
}

/// Whether a datagram as large as the interface sends reaches a peer in one piece.
fn path(name: &str, address: SocketAddr, interface: &Interface) -> Finding {
    let to = scoped(address, interface.index);
    let echo = |bytes: usize| echo(to, bytes);
    match (echo(interface.mtu_bytes as usize), echo(SMALL_BYTES)) {
        (Ok(true), _) => Finding::ok(
            "path",
            format!("{} bytes reach {name} in one piece", interface.mtu_bytes),
        ),
        (_, Ok(true)) => Finding::bad(
            "path",
            format!(
                "{name} answers, but not to {} bytes in one piece",
                interface.mtu_bytes
            ),
            "full datagrams are lost on the way, for ever: under load nothing is replicated",
            "give every interface and switch of the sync network the same MTU, the smallest of them",
        ),
        (Err(error), Err(_)) => Finding::warning(
            "path",
            format!("no echo can be sent to {name} ({error})"),
            "whether full datagrams reach it cannot be said",
            "run it as root: sudo ctsync doctor",
        ),
        (_, _) => Finding::warning(
            "path",
            format!("{name} does not answer an echo"),
            "it is down, or drops ICMP: whether full datagrams reach it cannot be said",
            "see `ctsync status`; let ICMP echoes in on the sync network",
        ),
    }
}

/// Whether a packet of so many bytes, IP header included, comes back, unfragmented.
fn echo(to: SocketAddr, packet_bytes: usize) -> io::Result<bool> {
    let (domain, protocol, [request, reply], header_bytes) = match to.ip() {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, [8, 0], 20),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, [128, 129], 40),
    };
    // Who may not have a ping socket (net.ipv4.ping_group_range) may have a raw one, with CAP_NET_RAW.
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))
        .or_else(|_| Socket::new(domain, Type::RAW, Some(protocol)))?;
    match to.ip() {
        IpAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?,
        IpAddr::V6(_) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?,
    }
    socket.set_read_timeout(Some(ECHO_TIMEOUT))?;
    socket.connect(&to.into())?;
    let mut message = vec![0; packet_bytes.saturating_sub(header_bytes)];
    // The number tells our answers from others', and the checksum of nothing but it and the type is this. Where the
    // kernel sees to either, it writes over them.
    let number = u16::try_from(std::process::id() & 0xffff).expect("it is masked");
    let sum = (u32::from(request) << 8) + u32::from(number);
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("it is folded");
    message[0] = request;
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message[4..6].copy_from_slice(&number.to_be_bytes());
    socket.send(&message)?;
    let is_raw = socket.r#type()? == Type::RAW;
    let end = Instant::now() + ECHO_TIMEOUT;
    let mut answer = [0; 64];
    while Instant::now() < end {
        let bytes = match (&socket).read(&mut answer) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // Nobody has the address: the kernel itself says so.
            Err(error) if error.kind() == io::ErrorKind::HostUnreachable => return Ok(false),
            Err(error) => return Err(error),
        };
        // A raw socket of IPv4 brings the IP header, and what is for others.
        let skipped = match is_raw && to.is_ipv4() {
            true => usize::from(answer[0] & 0xf) * 4,
            false => 0,
        };
        let icmp = answer[..bytes].get(skipped..).unwrap_or_default();
        let is_ours = !is_raw || icmp.get(4..6) == Some(&number.to_be_bytes());
        if icmp.first() == Some(&reply) && is_ours {
            return Ok(true);
        }
    }
    Ok(false)
}
