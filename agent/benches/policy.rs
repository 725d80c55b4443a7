//! What a decision costs: `cargo bench -p ctsync`. A policy of 1,000 services and 5,000 rules with prefixes of both families,
//! and flows that rules match, early and late, and flows that none does.

use agent::policy::Policy;
use ccp::record::{Family, FlowKey, ZoneDirection};
use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

const SERVICES: usize = 1000;
const RULES: usize = 5000;
const FLOWS: usize = 1 << 16;
const ROUNDS: usize = 40;

fn text() -> String {
    let mut text = "services:\n".to_owned();
    for service in 0..SERVICES {
        let (first, last) = (2000 + service * 20, 2000 + service * 20 + 14);
        let sync = ["always", "never", "delayed"][service % 3];
        let _ = writeln!(
            text,
            "  s{service}: {{ protocol: [tcp, udp], ports: {first}-{last}, sync: {sync} }}"
        );
    }
    text += "rules:\n";
    for rule in 0..RULES {
        let (a, b, service) = (rule / 250, rule % 250, rule % SERVICES);
        let _ = writeln!(
            text,
            "  - {{ source: [10.{a}.{b}.0/24, \"2001:db8:{a:x}:{b:x}::/64\"], destination: [172.{a}.0.0/16, \"2001:db8:ff{a:02x}::/48\"], service: s{service} }}"
        );
    }
    text
}

/// Numbers that look random, the same each time.
fn numbers() -> impl FnMut(usize) -> usize {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move |limit| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit as u64) as usize
    }
}

/// Two of three flows are of a rule.
fn flow(below: &mut impl FnMut(usize) -> usize) -> FlowKey {
    let rule = below(RULES);
    let (a, b) = ((rule / 250) as u8, (rule % 250) as u8);
    let port = 2000 + (rule % SERVICES) * 20 + below(15);
    let port = if below(3) == 0 { below(65536) } else { port };
    let (mut src, mut dst) = ([0; 16], [0; 16]);
    let family = match below(2) {
        0 => {
            src[..4].copy_from_slice(&[10, a, b, below(256) as u8]);
            dst[..4].copy_from_slice(&[172, a, below(256) as u8, 1]);
            Family::V4
        }
        _ => {
            src[..8].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0, a, 0, b]);
            dst[..6].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0xff, a]);
            Family::V6
        }
    };
    FlowKey {
        src,
        dst,
        l4: [1000, port as u16],
        zone: 0,
        proto: [6, 17][below(2)],
        family,
        zone_direction: ZoneDirection::Both,
    }
}

fn main() {
    let text = text();
    let begun = Instant::now();
    let policy = Policy::parse(&[("bench".into(), text)], 8116).expect("it is right");
    println!(
        "{SERVICES} services and {RULES} rules: read, judged and compiled in {:.0} ms",
        begun.elapsed().as_secs_f64() * 1000.0
    );
    let mut below = numbers();
    let flows: Vec<_> = (0..FLOWS).map(|_| flow(&mut below)).collect();
    let by_rule = flows
        .iter()
        .filter(|flow| policy.decide(flow, 0).clause.is_some());
    println!(
        "{} of {FLOWS} flows are matched by a clause",
        by_rule.count()
    );
    let mut least = f64::MAX;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for flow in &flows {
            black_box(policy.decide(black_box(flow), 0));
        }
        least = least.min(begun.elapsed().as_secs_f64() / FLOWS as f64 * 1e9);
    }
    println!("{least:.0} ns a decision");
}
