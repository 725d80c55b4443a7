//! The demonstration of asymmetric routing: what the client sends passes one gateway, what the server sends the other.
//!
//! Three times the same connections are opened: with ctsync; with ctsync told to hold nothing, which shows what holding is
//! for; and without ctsync.

use std::time::Duration;

use crate::cluster::{Cluster, Settings};
use crate::connects::{Connects, connect, connect_within};
use crate::demo::story::{Paint, Story};
use crate::lab::{Family, Lab, Path};
use crate::netns::wait_until;

/// A SYN or SYN/ACK that was dropped is sent again after a second.
const SENT_AGAIN: Duration = Duration::from_millis(900);
/// The first connections to a destination teach the gateways that its packets take two ways.
const LEARN_DEADLINE: Duration = Duration::from_secs(30);
/// Connections of each family with ctsync, one after the other.
const COUNT: usize = 200;
/// Connections that are known to take long, all at once.
const CONTROL_COUNT: usize = 20;
/// How long one is waited for that will never open.
const PATIENCE: Duration = Duration::from_secs(4);

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// Runs it, and tells of it. True if it came out as it must.
pub fn demonstrate(paint: &Paint) -> bool {
    introduce(paint);
    println!("{}", paint.bold("1  With ctsync"));
    let with = with_ctsync(paint);
    println!(
        "{}",
        paint.bold("2  With ctsync, but no packet waits (hold: { mode: never })")
    );
    let unheld = control(paint, true);
    println!("{}", paint.bold("3  Without ctsync"));
    let without = control(paint, false);

    let at_once = |connects: &Connects| connects.count() - connects.at_least(SENT_AGAIN);
    let verdict = format!(
        "With ctsync {} of {} connections opened at once; if no packet waits {} of {CONTROL_COUNT}; without ctsync \
         {} of {CONTROL_COUNT} opened at all.",
        at_once(&with),
        2 * COUNT,
        at_once(&unheld),
        without.count()
    );
    let holds = at_once(&with) == 2 * COUNT
        && at_once(&unheld) == 0
        && unheld.count() == CONTROL_COUNT
        && without.count() == 0;
    println!(
        "{}",
        match holds {
            true => paint.good(&format!("{verdict} It holds.")),
            false => paint.bad(&format!("{verdict} IT DOES NOT HOLD.")),
        }
    );
    holds
}

fn introduce(paint: &Paint) {
    println!(
        "{title}

              +---> gw-a ----+
    client ---+              +--- server
              +---- gw-b <---+

  Four machines, each a network namespace of this kernel. What the client sends passes gw-a, what the
  server sends passes gw-b. Both are firewalls, and strict: a packet that belongs to no connection in
  the kernel's table, and does not properly open one from inside, is dropped (nf_conntrack_tcp_loose=0).
  So gw-b has to know of a SYN before its answer comes, and gw-a of the SYN/ACK before the client's ACK.
  What is dropped is sent again by TCP after 1 s, 3 s, 7 s, ...
",
        title = paint.bold("ctsync: do connections open whose directions pass different firewalls?"),
    );
}

fn with_ctsync(paint: &Paint) -> Connects {
    let story = Story::new(paint);
    let lab = Lab::new(2);
    lab.split(0, 1);
    let settings = Settings {
        // Longer than by default: the machine may be busy with something else.
        more: "hold: { deadline: 500ms }",
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&lab, settings);
    let held = || -> u64 {
        let members = cluster.members.iter();
        members.map(|member| member.counter("held_acked")).sum()
    };
    story.tell("one ctsync runs on each gateway, and they are in step");
    let mut all = Connects::default();
    for family in FAMILIES {
        let first = connect(&lab, Path::Plain, family, 1, 1);
        story.tell(&format!(
            "{family}: the first connection took {:.1?}: the gateways learn that its packets take two ways",
            first.percentile(100)
        ));
        wait_until("packets are held", LEARN_DEADLINE, || {
            let before = held();
            connect(&lab, Path::Plain, family, 1, 1);
            held() >= before + 2
        });
        let connects = connect(&lab, Path::Plain, family, 1, COUNT);
        story.tell(&format!("{family}: {connects}"));
        all.extend(connects);
    }
    story.tell(&format!(
        "{} SYNs and SYN/ACKs waited until the other gateway had their connection",
        held()
    ));
    println!("\n  ctsync paths, on gw-a:");
    for line in cluster.members[0].ask("paths").lines() {
        println!("    {line}");
    }
    println!();
    all
}

/// Connections that do not open, or not soon.
fn control(paint: &Paint, is_running: bool) -> Connects {
    let story = Story::new(paint);
    let lab = Lab::new(2);
    lab.split(0, 1);
    let settings = Settings {
        more: "hold: { mode: never }",
        ..Settings::default()
    };
    let _cluster = is_running.then(|| Cluster::start_with(&lab, settings));
    let patience = match is_running {
        // The last repetition that counts is that after 15 s.
        true => PATIENCE * 5,
        false => PATIENCE,
    };
    let connects = connect_within(
        &lab,
        Path::Plain,
        Family::Ipv4,
        CONTROL_COUNT,
        CONTROL_COUNT,
        patience,
    );
    story.strike(&match is_running {
        true => format!("{}: {connects}", Family::Ipv4),
        false => format!(
            "{}: {} of {CONTROL_COUNT} connects did not open within {} s",
            Family::Ipv4,
            connects.failed,
            patience.as_secs()
        ),
    });
    println!();
    connects
}
