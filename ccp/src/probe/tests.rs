use super::{Answers, Evidence, Judgement, Link, Other, Probes, Timers, Watched};
use crate::election::Load;
use crate::network::{NetworkId, NetworkSet};
use crate::record::{MemberId, MemberSet};
use crate::time::Instant;
use crate::wire::probe::{Probe, Row};
use Judgement::{Assumed, Down, Up};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

const DEAD_AFTER: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(200);

#[test]
fn a_direction_is_judged_by_its_link_then_probes_then_hosts_then_peers() {
    use Answers::{Fresh, Never, Stale};
    let table = [
        // link, heard, against, hosts: what follows.
        (Link::Missing, true, false, Fresh, Down),
        (Link::Down, true, false, Fresh, Down),
        (Link::Up, true, true, Stale, Up),
        (Link::Up, true, false, Never, Up),
        // A peer is silent there alone, but hosts answer: it is the peer's fault.
        (Link::Up, false, true, Fresh, Assumed),
        (Link::Up, false, true, Stale, Down),
        (Link::Up, false, true, Never, Down),
        // Nobody is there to ask.
        (Link::Up, false, false, Fresh, Assumed),
        (Link::Up, false, false, Never, Assumed),
        (Link::Up, false, false, Stale, Down),
    ];
    for (link, heard, against, answers, expected) in table {
        let evidence = Evidence {
            link,
            heard,
            against,
            answers,
        };
        assert_eq!(evidence.judge(), expected, "{evidence:?}");
    }
}

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1000)
}

fn member(number: u8) -> MemberId {
    MemberId::new(number).unwrap()
}

fn set(numbers: &[u8]) -> MemberSet {
    numbers.iter().copied().map(member).collect()
}

/// Member 1 with interfaces `wan` and, over which hellos go, `sync`; members 2 and 3 may be there.
struct Site {
    probes: Probes,
    now: u64,
    number: u64,
}

/// What happens in a while.
#[derive(Clone, Copy)]
struct While<'a> {
    millis: u64,
    /// Members that are heard over the sync network.
    there: &'a [u8],
    /// Of those, the ones whose probes come in on `wan`.
    heard: &'a [u8],
    /// Those that say that they hear us there.
    deaf: &'a [u8],
    /// Whether hosts on `wan` answer.
    hosts: bool,
}

impl Site {
    fn new() -> Self {
        let timers = Timers {
            interval: INTERVAL,
            dead_after: DEAD_AFTER,
        };
        let mut site = Self {
            probes: Probes::new(timers, at(0)),
            now: 0,
            number: 0,
        };
        site.link(Link::Up);
        for peer in [2, 3] {
            site.told(peer, Link::Up, &[]);
        }
        site
    }

    fn link(&mut self, link: Link) {
        let watched = |name: &str, link, network| Watched {
            name: name.into(),
            link,
            network,
        };
        let all = vec![
            watched("wan", link, None),
            watched("sync", Link::Up, Some(NetworkId::FIRST)),
        ];
        self.probes.set(all, at(self.now));
    }

    fn told(&mut self, peer: u8, link: Link, hears: &[u8]) {
        let row = |name: &str, link, hears| Row {
            name: name.into(),
            link,
            hears,
        };
        let rows = vec![
            row("wan", link, set(hears)),
            row("sync", Link::Up, set(&[1])),
        ];
        (self.probes).handle_rows(member(peer), member(1), rows, at(self.now));
    }

    fn pass(&mut self, way: While<'_>) {
        let until = self.now + way.millis;
        while self.now < until {
            self.now += 100;
            let now = at(self.now);
            self.number += 1;
            for peer in way.there {
                let heard = (member(*peer), self.number);
                let over = NetworkSet::first(1);
                (self.probes).handle_hello(heard, NetworkId::FIRST, over, now);
            }
            for peer in way.heard {
                let hears = if way.deaf.contains(peer) {
                    set(&[])
                } else {
                    set(&[1])
                };
                let probe = Probe {
                    name: b"wan",
                    hears,
                    standing: None,
                };
                let from = (member(*peer), self.number);
                let place = ("wan", member(1));
                assert!((self.probes).handle_probe(from, &probe, place, now));
            }
            if way.hosts && self.probes.doubtful(now).any(|it| it == "wan") {
                self.probes.handle_answered("wan", now);
            }
            let others: Vec<_> = (way.there.iter())
                .map(|peer| Other {
                    member: member(*peer),
                    heard: now,
                    load: Load::Normal,
                    tells: true,
                })
                .collect();
            self.probes.judge(&others, now);
        }
    }

    /// Inbound and outbound of `wan`.
    fn wan(&self) -> (Judgement, Judgement) {
        let wan = &self.probes.interfaces()[0];
        (wan.inbound.is, wan.outbound.is)
    }
}

const ALL: While<'_> = While {
    millis: 2000,
    there: &[2],
    heard: &[2],
    deaf: &[],
    hosts: false,
};

#[test]
fn probes_both_ways_are_up_both_ways() {
    let mut site = Site::new();
    assert_eq!(site.wan(), (Assumed, Assumed), "nobody could say yet");
    site.pass(While { millis: 100, ..ALL });
    assert_eq!(site.wan(), (Up, Up));
    site.pass(ALL);
    assert_eq!(site.wan(), (Up, Up));
    assert!(site.probes.doubtful(at(site.now)).next().is_none());
}

#[test]
fn a_cable_that_is_cut_behind_the_switch_is_down_after_the_dead_interval_and_up_after_as_much() {
    let mut site = Site::new();
    site.pass(ALL);
    let cut = While { heard: &[], ..ALL };
    site.pass(While { millis: 900, ..cut });
    assert_eq!(site.wan().0, Up);
    site.told(2, Link::Up, &[]);
    site.pass(While { millis: 200, ..cut });
    assert_eq!(site.wan(), (Down, Down));
    site.pass(While { millis: 900, ..ALL });
    assert_eq!(site.wan(), (Down, Down), "one probe makes it flap no more");
    site.pass(While { millis: 200, ..ALL });
    assert_eq!(site.wan(), (Up, Up));
}

#[test]
fn where_hosts_answer_it_is_the_other_members_cable() {
    let mut site = Site::new();
    site.pass(ALL);
    site.told(2, Link::Up, &[]);
    site.pass(While {
        heard: &[],
        hosts: true,
        ..ALL
    });
    assert_eq!(site.wan(), (Assumed, Assumed));
}

#[test]
fn one_direction_alone_is_blamed_alone() {
    let mut site = Site::new();
    site.pass(ALL);
    // We hear it, and it does not hear us.
    site.pass(While { deaf: &[2], ..ALL });
    assert_eq!(site.wan(), (Up, Down));
    site.pass(ALL);
    assert_eq!(site.wan(), (Up, Up));
    // We do not hear it, and it says over its link that it hears us.
    site.told(2, Link::Up, &[1]);
    site.pass(While { heard: &[], ..ALL });
    assert_eq!(site.wan(), (Down, Up));
}

#[test]
fn a_third_member_tells_whose_fault_it_is() {
    let mut site = Site::new();
    let both = While {
        there: &[2, 3],
        heard: &[2, 3],
        ..ALL
    };
    site.pass(both);
    site.pass(While {
        heard: &[3],
        ..both
    });
    assert_eq!(site.wan(), (Up, Up));
    site.pass(While { deaf: &[2], ..both });
    assert_eq!(site.wan(), (Up, Up));
}

#[test]
fn a_peer_that_dies_or_whose_own_link_is_down_blames_nobody() {
    let mut site = Site::new();
    site.pass(ALL);
    site.pass(While {
        there: &[],
        heard: &[],
        ..ALL
    });
    assert_eq!(site.wan(), (Assumed, Assumed));
    let mut site = Site::new();
    site.pass(ALL);
    site.told(2, Link::Down, &[]);
    site.pass(While { heard: &[], ..ALL });
    assert_eq!(site.wan(), (Assumed, Assumed));
}

#[test]
fn one_that_is_alone_goes_by_hosts_that_have_answered() {
    let mut site = Site::new();
    let alone = While {
        there: &[],
        heard: &[],
        ..ALL
    };
    site.pass(alone);
    assert_eq!(site.wan(), (Assumed, Assumed), "nobody ever answered");
    site.pass(While {
        hosts: true,
        ..alone
    });
    assert_eq!(site.wan(), (Assumed, Assumed));
    site.pass(While {
        millis: 2100,
        ..alone
    });
    assert_eq!(site.wan(), (Down, Down));
    site.link(Link::Down);
    site.link(Link::Up);
    site.pass(alone);
    assert_eq!(site.wan(), (Assumed, Assumed), "another cable, other hosts");
}

#[test]
fn an_interface_that_others_do_not_monitor_is_not_judged_by_them() {
    let mut site = Site::new();
    for peer in [2, 3] {
        (site.probes).handle_rows(member(peer), member(1), Vec::new(), at(0));
    }
    site.pass(While { heard: &[], ..ALL });
    assert_eq!(site.wan(), (Assumed, Assumed));
    assert!(!site.probes.interfaces()[0].is_unseen);
}

#[test]
fn a_peer_that_was_never_seen_on_an_interface_is_worth_a_warning() {
    let mut site = Site::new();
    let silent = While {
        heard: &[],
        hosts: true,
        ..ALL
    };
    site.pass(While {
        millis: 2900,
        ..silent
    });
    assert!(!site.probes.interfaces()[0].is_unseen, "not at once");
    site.pass(While {
        millis: 200,
        ..silent
    });
    assert!(site.probes.interfaces()[0].is_unseen);
    site.pass(ALL);
    assert!(!site.probes.interfaces()[0].is_unseen);
}

#[test]
fn a_loop_that_was_late_blames_no_interface() {
    let mut site = Site::new();
    site.pass(ALL);
    site.now += 5000;
    site.probes.excuse(Duration::from_secs(5), at(site.now));
    site.told(2, Link::Up, &[]);
    site.pass(While {
        millis: 900,
        heard: &[],
        ..ALL
    });
    assert_ne!(site.wan().1, Down);
    site.pass(ALL);
    assert_eq!(site.wan(), (Up, Up));
}

#[test]
fn a_peer_that_starts_anew_and_hears_nobody_yet_does_not_count_against_an_interface_whose_hosts_were_asked_long_ago()
 {
    let mut site = Site::new();
    site.probes.handle_answered("wan", at(0));
    site.pass(ALL);
    site.pass(ALL);
    site.probes.forget(member(2), at(site.now));
    site.pass(While {
        millis: 500,
        deaf: &[2],
        ..ALL
    });
    assert_eq!(site.wan(), (Up, Assumed));
    site.pass(ALL);
    assert_eq!(site.wan(), (Up, Up));
}

#[test]
fn an_interface_that_is_down_does_not_come_up_because_our_own_loop_is_late() {
    let mut site = Site::new();
    let silent = While { heard: &[], ..ALL };
    site.pass(ALL);
    site.pass(silent);
    site.pass(silent);
    assert_eq!(site.wan().0, Down);
    for _ in 0..5 {
        site.now += 500;
        (site.probes).excuse(Duration::from_millis(500), at(site.now));
        site.pass(silent);
        assert_eq!(site.wan().0, Down);
    }
}

#[test]
fn a_probe_that_was_seen_or_names_another_interface_is_none() {
    let mut site = Site::new();
    let mut probe = |name: &'static [u8], number, on| {
        let probe = Probe {
            name,
            hears: set(&[1]),
            standing: None,
        };
        (site.probes).handle_probe((member(2), number), &probe, (on, member(1)), at(10))
    };
    assert!(probe(b"wan", 5, "wan"));
    assert!(!probe(b"wan", 5, "wan"), "again");
    assert!(!probe(b"wan", 4, "wan"), "older");
    assert!(!probe(b"lan", 6, "wan"), "recorded elsewhere");
    assert!(!probe(b"sync", 6, "sync"), "hellos are the probes there");
    assert!(probe(b"wan", 6, "wan"));
}

#[test]
fn probes_go_out_once_an_interval_and_at_once_when_a_peer_is_heard_again() {
    let mut site = Site::new();
    let round = |probes: &mut Probes, now: u64| {
        let begun = probes.begin_round(at(now));
        let mut sent = Vec::new();
        while let Some((index, probe, replies)) = probes.poll_probe(at(now)) {
            assert_eq!(probe.name, b"wan");
            sent.push((index, replies));
        }
        assert_eq!(begun, !sent.is_empty());
        sent
    };
    assert_eq!(round(&mut site.probes, 0), [(0, false)]);
    assert_eq!(round(&mut site.probes, 199), []);
    assert_eq!(round(&mut site.probes, 200), [(0, false)]);
    let probe = Probe {
        name: b"wan",
        hears: set(&[]),
        standing: None,
    };
    (site.probes).handle_probe((member(2), 1), &probe, ("wan", member(1)), at(210));
    assert_eq!(site.probes.poll_timeout(), Some(at(250)));
    assert_eq!(round(&mut site.probes, 250), [(0, true)]);
    assert_eq!(round(&mut site.probes, 450), [(0, false)]);
}
