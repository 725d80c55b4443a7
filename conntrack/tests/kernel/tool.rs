//! A flow as the `conntrack` tool prints it (`-o id,extended`), words separated by one space.

use std::fmt::Write as _;

use conntrack::consts::*;
use conntrack::*;

/// The line of `conntrack -E`.
pub fn event_line(event: &Event) -> String {
    let kind = match event.kind {
        EventKind::New => "[NEW]",
        EventKind::Update => "[UPDATE]",
        EventKind::Destroy => "[DESTROY]",
    };
    let origin = match event.portid {
        0 => String::new(),
        portid => format!(" [USERSPACE] portid={portid}"),
    };
    format!("{kind} {}{origin}", flow_line(&event.flow))
}

/// The line of `conntrack -L`, less `use=`.
pub fn flow_line(flow: &Flow) -> String {
    let mut line = String::new();
    let family = if flow.orig.src.is_ipv4() {
        "ipv4 2"
    } else {
        "ipv6 10"
    };
    write!(
        line,
        "{family} {} {}",
        proto_name(flow.orig.proto),
        flow.orig.proto
    )
    .expect("a string");
    let mut word = |word: String| {
        if !word.is_empty() {
            line.push(' ');
            line.push_str(&word);
        }
    };
    let option = |name: &str, value: Option<u32>| {
        value
            .map(|value| format!("{name}={value}"))
            .unwrap_or_default()
    };
    let has = |bit| flow.status.unwrap_or(0) & bit != 0;
    word(
        flow.timeout
            .map(|timeout| timeout.to_string())
            .unwrap_or_default(),
    );
    word(
        flow.protoinfo
            .map(|protoinfo| state_name(&protoinfo).to_owned())
            .unwrap_or_default(),
    );
    word(tuple_words(&flow.orig, "zone-orig"));
    word(if has(IPS_SEEN_REPLY) {
        String::new()
    } else {
        "[UNREPLIED]".to_owned()
    });
    word(tuple_words(&flow.reply, "zone-reply"));
    word(if has(IPS_ASSURED) {
        "[ASSURED]".to_owned()
    } else {
        String::new()
    });
    word(option("mark", flow.mark));
    word(option(
        "zone",
        Some(u32::from(flow.zone)).filter(|&zone| zone != 0),
    ));
    word(
        flow.helper
            .map(|helper| format!("helper={}", helper.as_str()))
            .unwrap_or_default(),
    );
    word(option("id", flow.id));
    line
}

fn tuple_words(tuple: &Tuple, zone: &str) -> String {
    let mut words = format!("src={} dst={}", tuple.src, tuple.dst);
    match tuple.l4 {
        L4::Ports { src, dst } if tuple.proto == IPPROTO_GRE => {
            write!(words, " srckey={src:#x} dstkey={dst:#x}")
        }
        L4::Ports { src, dst } => write!(words, " sport={src} dport={dst}"),
        L4::Icmp { kind, code, id } => write!(words, " type={kind} code={code} id={id}"),
        // The tool knows ports of DCCP, though this kernel tells none.
        L4::None if tuple.proto == IPPROTO_DCCP => write!(words, " sport=0 dport=0"),
        L4::None => Ok(()),
    }
    .expect("a string");
    if tuple.zone != 0 {
        write!(words, " {zone}={}", tuple.zone).expect("a string");
    }
    words
}

/// The name that the tool, and iptables, have for a protocol.
pub fn proto_name(proto: u8) -> &'static str {
    match proto {
        IPPROTO_TCP => "tcp",
        IPPROTO_UDP => "udp",
        IPPROTO_UDPLITE => "udplite",
        IPPROTO_ICMP => "icmp",
        IPPROTO_ICMPV6 => "icmpv6",
        IPPROTO_SCTP => "sctp",
        IPPROTO_DCCP => "dccp",
        IPPROTO_GRE => "gre",
        _ => "unknown",
    }
}

fn state_name(protoinfo: &ProtoInfo) -> &'static str {
    const TCP: [&str; 10] = [
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
    const SCTP: [&str; 9] = [
        "NONE",
        "CLOSED",
        "COOKIE_WAIT",
        "COOKIE_ECHOED",
        "ESTABLISHED",
        "SHUTDOWN_SENT",
        "SHUTDOWN_RECD",
        "SHUTDOWN_ACK_SENT",
        "HEARTBEAT_SENT",
    ];
    match protoinfo {
        ProtoInfo::Tcp(tcp) => TCP[usize::from(tcp.state)],
        ProtoInfo::Sctp(sctp) => SCTP[usize::from(sctp.state)],
        ProtoInfo::Dccp(_) => panic!("this kernel has no tracker of DCCP"),
    }
}
