//! `ctsync explain`: one flow, which service and rule decided on it, and where it is.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use clap::Args;

use super::view::View;
use super::{Daemon, Failure};
use crate::control::answer::Origin;
use crate::control::answer::explain::{Explanation, FlowQuery, Has, Known};
use crate::policy::service::{has_ports, has_types, parse_protocol};
use crate::units::Age;

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The flow: `tcp 10.1.0.1:5555 10.2.0.1:80`, or a line of `conntrack -L`
    #[arg(required = true, value_name = "FLOW")]
    flow: Vec<String>,
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    view: View,
}

impl Explain {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let words: Vec<&str> = (self.flow.iter())
            .flat_map(|word| word.split_ascii_whitespace())
            .collect();
        let query = parse(&words).ok_or_else(|| {
            Failure::Usage(format!(
                "`{}` is not a flow; write it as `tcp 10.1.0.1:5555 10.2.0.1:80`, or as `conntrack -L` prints it",
                words.join(" ")
            ))
        })?;
        let ask = || Ok(self.daemon.connect()?.explain(query)?);
        self.view.show(out, ask, page, |_| Ok(()))
    }
}

/// The flow that these words name, in either form: with ports if its protocol has them.
fn parse(words: &[&str]) -> Option<FlowQuery> {
    let query = read(words)?;
    let is_whole = query.sport != 0 && query.dport != 0 || !has_ports(query.proto);
    (is_whole && query.src.is_ipv4() == query.dst.is_ipv4()).then_some(query)
}

fn read(words: &[&str]) -> Option<FlowQuery> {
    // With `-o extended` the family comes first.
    let words = match words {
        ["ipv4" | "ipv6", _, rest @ ..] => rest,
        words => words,
    };
    let proto = match words {
        ["unknown", number, ..] => number.parse().ok()?,
        [name, ..] => parse_protocol(name)?,
        [] => return None,
    };
    match words {
        [_, from, to] => {
            let ((src, sport), (dst, dport)) = (end(from)?, end(to)?);
            Some(FlowQuery {
                proto,
                src,
                dst,
                sport,
                dport,
                zone: 0,
            })
        }
        words => {
            // The original direction comes first.
            let value = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
            let number = |name| value(name).and_then(|text| text.parse::<u16>().ok());
            let kind = |name| number(name).filter(|_| has_types(proto));
            let icmp = kind("type=").map(|it| it << 8 | kind("code=").unwrap_or_default());
            Some(FlowQuery {
                proto,
                src: value("src=")?.parse().ok()?,
                dst: value("dst=")?.parse().ok()?,
                sport: number("sport=").or(kind("id=")).unwrap_or_default(),
                dport: number("dport=").or(icmp).unwrap_or_default(),
                zone: number("zone=").unwrap_or_default(),
            })
        }
    }
}

/// An address with or without a port.
fn end(word: &str) -> Option<(IpAddr, u16)> {
    let with_port = word.parse::<SocketAddr>().map(|it| (it.ip(), it.port()));
    (with_port.ok()).or_else(|| word.parse().ok().map(|address| (address, 0)))
}

/// An explanation as people read it.
pub(super) fn page(out: &mut dyn Write, explanation: &Explanation) -> io::Result<()> {
    writeln!(out, "decided by  {}", explanation.decided_by)?;
    writeln!(out, "sync        {}", sync(explanation))?;
    writeln!(out, "here        {}", here(&explanation.known))?;
    if let Some(conflict) = &explanation.conflict {
        writeln!(
            out,
            "conflict    another flow here has a tuple of it, and stays: {conflict}"
        )?;
        writeln!(
            out,
            "            where it has the tuple of the answers, packets of both directions pass by it; where both were translated\n            to one address and port, give each gateway a range of ports of its own"
        )?;
    }
    for peer in &explanation.peers {
        let has = match peer.has {
            Has::Carries => "carries it",
            Has::Yes => "has it in its kernel",
            Has::Soon => "is being told",
            Has::No => "was not told",
            Has::AskCarrier => "is told by its carrier",
        };
        let since =
            (peer.seconds).map_or_else(String::new, |it| format!(", as told {} ago", Age(it)));
        writeln!(out, "member {:<3}  {}: {has}{since}", peer.id, peer.name)?;
    }
    Ok(())
}

/// Whether and when the peers are told, and whether its first packet waits for them.
fn sync(explanation: &Explanation) -> String {
    let Explanation { sync, hold, .. } = explanation;
    if !explanation.forwarded {
        return "never: it is the gateway's own, broadcast, multicast or link-local".to_owned();
    }
    match explanation.delay_seconds {
        Some(delay) => format!("{sync} by {delay} s; hold {hold}"),
        None => format!("{sync}; hold {hold}"),
    }
}

/// What this member knows of the flow.
fn here(known: &Known) -> String {
    match known {
        Known::No => "not known: it is not there, or not told".to_owned(),
        Known::Delayed { seconds_left } => format!("waits, {seconds_left} s of its delay are left"),
        Known::Ended { member, seconds } => {
            let ago = seconds.map_or_else(String::new, |seconds| format!(" {} ago", Age(seconds)));
            match member {
                Some(member) => format!("has ended{ago}; member {member} carried it"),
                None => format!("has ended{ago}; no peer was told of it"),
            }
        }
        Known::Live {
            member,
            origin,
            state,
            timeout,
            in_kernel,
            told_seconds_ago,
        } => {
            let origin = match origin {
                Origin::Own => "carried here",
                Origin::Found => "found in the kernel",
                Origin::Copy => "a copy",
            };
            let state = state.as_deref().unwrap_or("no state");
            let kernel = match in_kernel {
                true => "",
                false => ", not in this kernel",
            };
            let told = told_seconds_ago.map_or_else(
                || "not told yet".to_owned(),
                |seconds| format!("last told {} ago", Age(seconds)),
            );
            format!("{origin}, of member {member}, {state}, {timeout} s left when {told}{kernel}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn both_forms_mean_the_same_flow() {
        for (short, line) in [
            (
                "tcp 10.1.0.1:5555 10.2.0.1:80",
                "tcp 6 431999 ESTABLISHED src=10.1.0.1 dst=10.2.0.1 sport=5555 dport=80 src=10.2.0.1 dst=10.1.0.1 sport=80 dport=5555 [ASSURED] mark=0 use=1",
            ),
            (
                "udp [2001:db8::1]:53 [2001:db8::2]:1000",
                "ipv6 10 udp 17 29 src=2001:db8::1 dst=2001:db8::2 sport=53 dport=1000 src=2001:db8::2 dst=2001:db8::1 sport=1000 dport=53 mark=0 use=1",
            ),
            (
                "47 10.0.0.1 10.0.0.2",
                "unknown 47 599 src=10.0.0.1 dst=10.0.0.2 src=10.0.0.2 dst=10.0.0.1 mark=0 use=1",
            ),
            (
                "icmp 10.0.0.1:7 10.0.0.2:2048",
                "icmp 1 29 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=7 src=10.0.0.2 dst=10.0.0.1 type=0 code=0 id=7 mark=0 use=1",
            ),
        ] {
            let words = |text: &'static str| text.split(' ').collect::<Vec<_>>();
            let query = parse(&words(short));
            assert!(query.is_some(), "{short}");
            assert_eq!(query, parse(&words(line)), "{line}");
        }
        for wrong in [
            "",
            "tcp",
            "tpc 10.0.0.1 10.0.0.2",
            "tcp here there",
            "tcp 6 src=10.0.0.1",
            "tcp 10.0.0.1 10.0.0.2",
            "udp 10.0.0.1:53 10.0.0.2",
            "tcp 10.0.0.1:1 [2001:db8::1]:2",
        ] {
            let words: Vec<_> = wrong.split_ascii_whitespace().collect();
            assert_eq!(parse(&words), None, "{wrong}");
        }
    }
}
