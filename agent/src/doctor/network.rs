//! The sync networks: the interface, and whether large datagrams reach the peers.

use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::Finding;
use crate::addresses::{self, Interface, LocalAddresses};
use crate::config::Config;
use crate::udp::scoped;

/// IPv6 demands as much of every link (RFC 8200 5), and full datagrams want no less.
const MTU_MIN: u32 = 1280;
/// How long an echo may take, far more than any network that members are synchronised over.
const ECHO_TIMEOUT: Duration = Duration::from_secs(1);
/// An echo that passes everywhere.
const SMALL_BYTES: usize = 64;

pub fn examine(config: &Config) -> Vec<Finding> {
    let networks = (0..config.networks.len()).flat_map(|network| examine_one(config, network));
    networks.collect()
}

/// The network that stands there in the configuration.
fn examine_one(config: &Config, network: usize) -> Vec<Finding> {
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
    let mut findings = vec![link(name), address(own, name), mtu(name, interface)];
    let peers = config.peers.iter();
    findings.extend(peers.map(|peer| path(&peer.name, peer.addresses[network], &interface)));
    findings
}

fn link(name: &str) -> Finding {
    let state = fs::read_to_string(format!("/sys/class/net/{name}/operstate")).unwrap_or_default();
    match state.trim() {
        state @ ("down" | "lowerlayerdown" | "notpresent") => Finding::bad(
            "interface",
            format!("{name} is {state}"),
            "no peer is reached over it",
            format!("ip link set {name} up, and look at the cable"),
        ),
        _ => Finding::ok("interface", format!("{name} is up")),
    }
}

fn address(address: IpAddr, device: &str) -> Finding {
    let is_ours = LocalAddresses::open().is_ok_and(|it| it.set().is_local(address));
    match is_ours {
        true => Finding::ok(
            "address",
            format!("{address} is an address of this machine"),
        ),
        false => Finding::bad(
            "address",
            format!("{address} is no address of this machine"),
            "peers send to it, and expect to hear from it",
            format!(
                "ip address add {address}/LENGTH dev {device}, or correct `members` or `member`"
            ),
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
