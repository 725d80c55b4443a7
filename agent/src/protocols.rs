//! Protocols and states by the names that the `conntrack` tool gives them, and the ends of flows.

use std::borrow::Cow;
use std::net::IpAddr;

const TCP_STATES: [&str; 10] = [
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
];
const SCTP_STATES: [&str; 10] = [
    "NONE",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "ESTABLISHED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT",
    "HEARTBEAT_ACKED",
];
const DCCP_STATES: [&str; 10] = [
    "NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT", "IGNORE",
    "INVALID",
];

/// An end of a flow: its address, and its port if its protocol has any.
pub fn endpoint(address: IpAddr, port: Option<u16>) -> String {
    match (address, port) {
        (address, None) => address.to_string(),
        (IpAddr::V4(address), Some(port)) => format!("{address}:{port}"),
        (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
    }
}

/// A protocol by name, or by number.
pub fn name(proto: u8) -> Cow<'static, str> {
    match proto {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        33 => "dccp".into(),
        47 => "gre".into(),
        58 => "icmpv6".into(),
        132 => "sctp".into(),
        136 => "udplite".into(),
        other => other.to_string().into(),
    }
}

/// State of a protocol that has any, by name, or by number when it is of a later kernel.
pub fn state_name(proto: u8, state: u8) -> Option<Cow<'static, str>> {
    let names = match proto {
        6 => TCP_STATES,
        33 => DCCP_STATES,
        132 => SCTP_STATES,
        _ => return None,
    };
    Some(
        names
            .get(usize::from(state))
            .map_or_else(|| state.to_string().into(), |name| (*name).into()),
    )
}
