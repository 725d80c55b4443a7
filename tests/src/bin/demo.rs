//! The demonstration: connections of every kind, and the gateway under them dies. First with ctsync, then without.
//! `demo asymmetric` shows another: connections whose directions pass different gateways ([`asymmetric`]).
//!
//! Exits with 0 if every connection went on with ctsync, and every one died without; else with 1.

use std::process::ExitCode;
use std::time::Duration;

use rustix::process::geteuid;

use tests::demo::asymmetric;
use tests::demo::failover::{Failover, Outcome, Protection, every_connection};
use tests::demo::story::{Paint, Story};
use tests::lab::{Path, SERVICE_IPV4, SHARED_IPV4};
use tests::leftovers::remove_on_interrupt;
use tests::traffic::{Kind, Progress};

/// How long the connections flow before their gateway dies.
const FLOW: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    if !geteuid().is_root() {
        eprintln!("demo: only root can make network namespaces: run it with sudo");
        return ExitCode::from(2);
    }
    remove_on_interrupt();
    let paint = Paint::of_stdout();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let holds = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => survive(&paint),
        ["asymmetric"] => asymmetric::demonstrate(&paint),
        _ => {
            eprintln!("demo: it takes nothing, or the word asymmetric");
            return ExitCode::from(2);
        }
    };
    if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// True if it came out as it must.
fn survive(paint: &Paint) -> bool {
    introduce(paint);

    println!("{}", paint.bold("1  With ctsync"));
    let with = experiment(paint, Protection::Ctsync);
    println!("{}", paint.bold("2  The control: the same without ctsync"));
    let without = experiment(paint, Protection::Nothing);

    let count = every_connection().count();
    let survivors = |outcomes: &[Outcome]| outcomes.iter().filter(|it| it.goes_on()).count();
    let (kept, control) = (survivors(&with), survivors(&without));
    // A connection that was not tried has not died either: both halves must have tried them all.
    let held = kept == count && control == 0 && without.len() == count;
    let verdict = format!(
        "With ctsync {kept} of {count} connections went on; without it {control} of {count}. {}",
        if held {
            "It holds."
        } else {
            "IT DOES NOT HOLD."
        }
    );
    println!(
        "{}",
        if held {
            paint.good(&verdict)
        } else {
            paint.bad(&verdict)
        }
    );
    held
}

fn introduce(paint: &Paint) {
    println!(
        "{title}

              +---- gw-a ----+
    client ---+              +--- server
              +---- gw-b ----+

  Four machines, each a network namespace of this kernel. gw-a and gw-b are firewalls, and strict:
  a packet that belongs to no connection in the kernel's table, and does not properly open one from
  inside, is dropped. Connections are opened once, through gw-a, and never again:

    TCP bulk         a numbered stream; the receiver verifies every byte
    TCP interactive  a request and its reply every 50 ms
    UDP              numbered datagrams every 10 ms, each echoed

  each over IPv4 and IPv6, and each of those plain, behind source NAT (masquerading to the shared
  address {SHARED_IPV4}) and behind destination NAT (the shared address {SERVICE_IPV4} leads to the server).
",
        title = paint.bold("ctsync: does a connection survive the death of its firewall?"),
    );
}

/// Runs the experiment once, and tells of it.
fn experiment(paint: &Paint, protection: Protection) -> Vec<Outcome> {
    let story = Story::new(paint);
    let mut failover = Failover::prepare(protection);
    match protection {
        Protection::Ctsync => story.tell("one ctsync runs on each gateway, and they are in step"),
        Protection::Nothing => story.tell("no ctsync runs"),
    }
    failover.open(FLOW);
    story.tell(&format!(
        "{} connections flow through gw-a",
        every_connection().count()
    ));
    let before = failover.tables();
    if protection == Protection::Ctsync {
        failover.kill_daemon();
        story.strike("gw-a: kill -9 of its ctsync");
    }
    failover.cut_links();
    story.strike("gw-a: all links down");
    failover.move_routes();
    story.tell("gw-b: has the shared addresses; client and server route through it");
    let outcomes = failover.observe();
    let after = failover.tables();
    story.tell("the end");

    println!();
    println!("  entries in the kernel's table     gw-a   gw-b");
    println!(
        "    before the death of gw-a       {:5}  {:5}",
        before[0].len(),
        before[1].len()
    );
    println!(
        "    at the end                     {:5}  {:5}",
        after[0].len(),
        after[1].len()
    );
    if after[0].len() < before[0].len() {
        println!(
            "    (When a link goes down, the kernel deletes the entries that it masquerades.)"
        );
    }
    println!();
    println!("  connection                                before          after    longest gap");
    outcomes
        .iter()
        .for_each(|it| println!("{}", row(paint, it)));
    if protection == Protection::Ctsync {
        println!(
            "    (TCP retransmits after 200 ms at the earliest; the rows of UDP show how long no packet passed.)"
        );
    }
    println!();
    outcomes
}

fn row(paint: &Paint, outcome: &Outcome) -> String {
    let Outcome {
        kind,
        path,
        family,
        before,
        end,
    } = outcome;
    let path = match path {
        Path::Plain => "",
        Path::Masqueraded => "source NAT",
        Path::Redirected => "destination NAT",
        Path::Through(_) => "through its own gateway",
    };
    let (goes_on, gap) = if outcome.goes_on() {
        (
            paint.good("goes on"),
            format!("{} ms", end.longest_gap.as_millis()),
        )
    } else {
        (paint.bad("DIED"), "for ever".to_owned())
    };
    let (before_count, after_count) = (
        amount(*kind, before.count),
        amount(*kind, end.count - before.count),
    );
    format!(
        "    {:16} {family} {path:15} {before_count:>12}   {after_count:>12}   {gap:>9}   {goes_on}{}",
        kind.to_string(),
        remark(*kind, before, end)
    )
}

/// What only some rows have to say.
fn remark(kind: Kind, before: &Progress, end: &Progress) -> String {
    match (&end.failure, kind) {
        (Some(failure), _) => format!(" ({failure})"),
        (None, Kind::Datagrams) => format!(" ({} lost)", end.lost.saturating_sub(before.lost)),
        (None, Kind::Bulk | Kind::Interactive) => String::new(),
    }
}

fn amount(kind: Kind, count: u64) -> String {
    match kind {
        Kind::Bulk => format!("{}.{} MB", count / 1_000_000, count / 100_000 % 10),
        Kind::Interactive => format!("{count} replies"),
        Kind::Datagrams => format!("{count} echoes"),
    }
}
