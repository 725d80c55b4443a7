//! What people read, to the letter.

use clap::CommandFactory;

use super::*;
use crate::control::answer::members::Check;
use crate::control::answer::sync::SyncStatus;
use crate::control::answer::{
    Counters, DeltaCounts, Endpoints, Family, FlowCounts, FlowRow, HeldStat, HoldStatus, KeyStatus,
    Latency, MemberStatus, NetworkStatus, Origin, PathState, PathStatus, PeerHold, PeerReach,
    PeerState, PeerStatus, Reach, RoleStatus, SplitDestination, SplitDestinations, Status,
    SyncStat, Timers, Translation,
};

fn peer(id: u8, name: &str) -> PeerStatus {
    PeerStatus {
        id,
        name: name.into(),
        state: PeerState::NeverSeen,
        version: None,
        lacks: Vec::new(),
        linked: false,
        synced: false,
        rtt_us: None,
        last_heard_ms: None,
        unacknowledged: 0,
        missing: 0,
        refused: 0,
        hold: PeerHold::default(),
        reach: Reach::default(),
    }
}

#[test]
fn command_line_is_well_defined() {
    Cli::command().debug_assert();
}

#[test]
fn status_fits_100_columns() {
    let latency = Latency {
        count: 1_000_000,
        sum_us: 320_000_000,
        p50_us: Some(320),
        p99_us: Some(1280),
        max_us: Some(19_500),
    };
    let status = Status {
        version: "0.1.0".into(),
        cluster: 7,
        member: MemberStatus {
            id: 1,
            name: "gw-a".into(),
        },
        uptime_seconds: 3 * 86_400 + 4 * 3600 + 59,
        flows: FlowCounts {
            own: 150_000,
            copies: 50_000,
            found: 12,
        },
        sync: SyncStatus {
            complete: true,
            ..SyncStatus::default()
        },
        holds: HoldStatus {
            now: 2,
            deadline_us: 20_000,
            latency,
        },
        key: KeyStatus {
            epoch: 3,
            age_seconds: 61,
        },
        role: RoleStatus {
            state: "standby".into(),
            seconds: 61,
            why: "gw-b ranks first".into(),
            checks: vec![Check {
                due_ms: Some(9800),
                ..Check::built_in("uplink", true, String::new())
            }],
        },
        peers: vec![
            PeerStatus {
                state: PeerState::Live,
                version: None,
                lacks: Vec::new(),
                linked: true,
                synced: true,
                rtt_us: Some(214),
                last_heard_ms: Some(98),
                unacknowledged: 3,
                hold: PeerHold {
                    aside: false,
                    latency,
                },
                ..peer(2, "gw-b")
            },
            PeerStatus {
                state: PeerState::Dead,
                rtt_us: Some(1_234_567),
                last_heard_ms: Some(3_725_000),
                refused: 1,
                hold: PeerHold {
                    aside: true,
                    ..PeerHold::default()
                },
                ..peer(3, "gw-with-a-name-that-is-far-too-long")
            },
            peer(16, "gw-p"),
        ],
        capabilities: vec![],
        warnings: vec!["one-way: gw-b is heard, but does not hear this member".into()],
        counters: Counters(vec![
            ("datagrams_sent".into(), 123_456),
            ("event_overruns".into(), 0),
            ("x".into(), 1),
        ]),
    };
    let page = status::Page(&status).to_string();
    let expected = "\
member   1 (gw-a) of cluster 7
state    standby for 1 min 1 s: gw-b ranks first
running  3 d 4 h, version 0.1.0
flows    150000 own, 50000 copies, 12 found
sync     complete
held     2 now; 1000000 were acknowledged: p50 0.320 ms, p99 1.280 ms, max 19.500 ms
key      3 of this run, in use for 1 min 1 s

PEER  NAME                STATE       LINK  SYNCED         RTT  HEARD AGO  UNACKED  MISSING  REFUSED
2     gw-b                live        up    yes       0.214 ms    0.098 s        3        0        0
3     gw-with-a-name-th~  dead        down  no         1.234 s  1 h 2 min        0        0        1
16    gw-p                never seen  down  no               -          -        0        0        0

PEER  NAME                WAITED FOR  ACKNOWLEDGED         P50         P99         MAX
2     gw-b                yes              1000000    0.320 ms    1.280 ms   19.500 ms
3     gw-with-a-name-th~  no                     0           -           -           -

CHECK                 STATE
uplink                ok        has to be heard of again in 9.800 s

one-way: gw-b is heard, but does not hear this member

COUNTER
datagrams_sent  123456
x               1
(1 more is 0)
";
    assert_eq!(page, expected);
    assert!(page.lines().all(|line| line.len() <= 100));
}

#[test]
fn paths_fit_100_columns() {
    let host = "2001:db8:1234:5678:9abc:def0:1234:5678".parse().unwrap();
    let splits = SplitDestinations {
        used: true,
        forgotten_after_seconds: 600,
        not_learnt: 7,
        destinations: vec![SplitDestination {
            destination: "2001:db8:1234:5678::/64".into(),
            interfaces: vec!["wan0".into(), "wan1".into()],
            seconds: 3725,
            seen_seconds_ago: 61,
            forgotten_in_seconds: 539,
            flows: 12,
            proto: "tcp".into(),
            orig: Endpoints {
                src: host,
                dst: host,
                sport: Some(40_000),
                dport: Some(50_000),
            },
        }],
    };
    let page = paths::Page(&splits).to_string();
    let expected = "\
destinations  1, first packets to them are held
forgotten     10 min 0 s after the last flow that was seen on two gateways
full          7 flows to others seen

DESTINATION                 LEARNT AGO      SEEN AGO  FORGOTTEN IN      FLOWS
2001:db8:1234:5678::/64      1 h 2 min     1 min 1 s    8 min 59 s         12
  tcp 2001:db8:1234:5678:9abc:def0:1234:5678 > [2001:db8:1234:5678:9abc:def0:1234:5678]:50000
  out by wan0, wan1
";
    assert_eq!(page, expected);
    assert!(page.lines().all(|line| line.len() <= 100), "{page}");
}

#[test]
fn syncstat_fits_100_columns() {
    let path = PathStatus {
        name: "sync".into(),
        state: PathState::Up,
        rtt_us: Some(120_345),
        loss_in_permille: Some(61),
        loss_out_permille: None,
        degraded: true,
        sent: 12,
        received: 11,
    };
    let stat = SyncStat {
        uptime_seconds: 61,
        warnings: vec!["degraded: wan-quality: to gw-b over sync".into()],
        sent: DeltaCounts {
            deltas: 4_000_000,
            changes: 100_000_000,
            ..DeltaCounts::default()
        },
        timers: Timers {
            flush_us: 1000,
            hello_ms: 100,
            dead_after_ms: 1000,
        },
        networks: vec![NetworkStatus {
            name: "sync".into(),
            interface: "enp3s0f1np1.400".into(),
            mode: "multicast".into(),
            configured: "unicast".into(),
            open: true,
            speed_mbit: Some(10_000),
            sent_per_second: 123_456,
            ..NetworkStatus::default()
        }],
        peers: vec![PeerReach {
            id: 2,
            name: "gw-b".into(),
            reach: Reach {
                heard: true,
                hears_us: Some(true),
                network: "sync".into(),
                networks: vec![path],
            },
            hold: PeerHold {
                aside: true,
                ..PeerHold::default()
            },
        }],
        held: HeldStat {
            acked: 90,
            deadline: 10,
            ..HeldStat::default()
        },
        ..SyncStat::default()
    };
    let page = syncstat::Page(&stat).to_string();
    let expected = "\
sync status  see below, counted for 61 s
  degraded: wan-quality: to gw-b over sync

               DELTAS     CHANGES       AGAIN        ACKS    REQUESTS
sent          4000000   100000000           0           0           0
received            0           0           0           0           0

at risk   bulk updates asked 0, asked by peers 0, sent 0; out of window 0
queues    0 deltas unacknowledged, 0 missing
timers    flush 1000 us, hello 100 ms, dead after 1000 ms
held      0 now; 90 acknowledged: p50 -, p99 -, max -
          else: deadline 10, limit 0, no peer 0, unknown 0, shutdown 0

NETWORK       INTERFACE        MODE       IS     MBIT/S   SENT B/S   RECV B/S   PEAK B/S    UNSENT
sync          enp3s0f1np1.400  multicast  up      10000     123456          0          0         0
sync was switched to multicast by `ctsync mode`; the configuration says unicast

PEER                NETWORK       USED  STATE      ROUND TRIP  LOSS OUT  LOSS IN  QUALITY
gw-b                sync          yes   up         120.345 ms         -    6.1 %  wan-quality

PEER  NAME                WAITED FOR  ACKNOWLEDGED         P50         P99         MAX
2     gw-b                no                     0           -           -           -
";
    assert_eq!(page, expected);
    assert!(page.lines().all(|line| line.len() <= 100));
}

fn flow() -> FlowRow {
    FlowRow {
        family: Family::Ipv4,
        proto: "tcp".into(),
        orig: Endpoints {
            src: "192.0.2.1".parse().unwrap(),
            dst: "198.51.100.1".parse().unwrap(),
            sport: Some(40_000),
            dport: Some(443),
        },
        nat_src: None,
        nat_dst: None,
        state: Some("ESTABLISHED".into()),
        timeout: Some(431_999),
        mark: 0,
        zone: 0,
        origin: Origin::Own,
        member: 1,
    }
}

fn printed(row: &FlowRow) -> String {
    let mut out = Vec::new();
    flows::heading(&mut out).unwrap();
    flows::line(&mut out, row).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn flow_is_one_line() {
    let expected = "\
PROTO    STATE            LEFT  ORIGIN  MEMBER  FLOW
tcp      ESTABLISHED    431999  own     1       192.0.2.1:40000 > 198.51.100.1:443
";
    assert_eq!(printed(&flow()), expected);
}

#[test]
fn flow_with_much_to_say_is_continued_within_100_columns() {
    let address = |number: u16| {
        format!("2001:db8:aaaa:bbbb:cccc:dddd:eeee:{number:x}")
            .parse()
            .unwrap()
    };
    let row = FlowRow {
        family: Family::Ipv6,
        orig: Endpoints {
            src: address(0x1111),
            dst: address(0x2222),
            sport: Some(65_535),
            dport: Some(65_535),
        },
        nat_src: Some(Translation {
            addr: address(0x3333),
            port: Some(65_535),
        }),
        nat_dst: Some(Translation {
            addr: address(0x4444),
            port: Some(65_535),
        }),
        mark: 0x8000_0001,
        zone: 65_535,
        origin: Origin::Found,
        member: 16,
        ..flow()
    };
    let expected = "\
PROTO    STATE            LEFT  ORIGIN  MEMBER  FLOW
tcp      ESTABLISHED    431999  found   16      [2001:db8:aaaa:bbbb:cccc:dddd:eeee:1111]:65535
                                                > [2001:db8:aaaa:bbbb:cccc:dddd:eeee:2222]:65535
                                                snat=[2001:db8:aaaa:bbbb:cccc:dddd:eeee:3333]:65535
                                                dnat=[2001:db8:aaaa:bbbb:cccc:dddd:eeee:4444]:65535
                                                mark=0x80000001 zone=65535
";
    let text = printed(&row);
    assert_eq!(text, expected);
    assert!(text.lines().all(|line| line.len() <= 100));
}

#[test]
fn flow_without_ports_state_or_timeout_says_so() {
    let mut row = FlowRow {
        proto: "gre".into(),
        state: None,
        timeout: None,
        origin: Origin::Copy,
        ..flow()
    };
    (row.orig.sport, row.orig.dport) = (None, None);
    let line = printed(&row);
    assert_eq!(
        line.lines().nth(1).unwrap(),
        "gre      -                   -  copy    1       192.0.2.1 > 198.51.100.1"
    );
}

#[test]
fn nobody_reads_on_is_no_failure() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let failure = Failure::from(flows::line(&mut Closed, &flow()).unwrap_err());
    assert!(matches!(failure, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe));
}

#[test]
fn a_dry_run_fits_100_columns() {
    use crate::dry_run::{Counts, Row};
    let counts = Counts {
        flows: 12_345_678,
        events: 123_456_789,
        told: 3_456_789,
        saved: 120_000_000,
        saved_bytes: 4_800_000_000,
        late: 123_456,
        untold: 1_234_567,
        exposed: 1_048_576,
    };
    let row = |service: Option<&str>, sync, delay_seconds| Row {
        service: service.map(str::to_owned),
        builtin: false,
        sync,
        delay_seconds,
        counts,
    };
    let outcome = policy::Outcome {
        seconds: 10,
        services: vec![
            row(Some("web-of-a-very-long-name"), "delayed", Some(3600)),
            row(None, "always", None),
        ],
        total: counts,
        notes: vec!["a note".into()],
    };
    let expected = "\
events of 10 s, as this policy would have them told

SERVICE               SYNC             FLOWS      TOLD     SAVED BYTES SAVED   LATE  UNTOLD  EXPOSED
web-of-a-very-long-~  delayed 3600s 12345678   3456789 120000000  4800000000 123456 1234567  1048576
(no service)          always        12345678   3456789 120000000  4800000000 123456 1234567  1048576
all                                 12345678   3456789 120000000  4800000000 123456 1234567  1048576

a note
";
    let page = outcome.to_string();
    assert_eq!(page, expected);
    assert!(page.lines().all(|line| line.len() <= 100));
}

#[test]
fn services_fit_100_columns() {
    let cost = |service: Option<&str>, watched| crate::control::answer::services::ServiceCost {
        service: service.map(str::to_owned),
        builtin: false,
        sync: "delayed".into(),
        delay_seconds: Some(3600),
        flows: 12_345_678,
        events: 123_456_789,
        messages: 98_765_432,
        bytes: 45_678_901_234,
        watched,
        ended_within_1s: watched / 3,
        ended_within_3s: watched / 2,
        ended_within_15s: watched,
        ended_within_30s: watched,
    };
    let answer = crate::control::answer::services::Services {
        services: vec![cost(Some("web-of-a-very-long-name"), 640), cost(None, 0)],
        left_out: 3,
    };
    let expected = "\
SERVICE               SYNC             FLOWS    EVENTS  MESSAGES       BYTES   <1s   <3s  <15s  <30s
web-of-a-very-long-~  delayed 3600s 12345678 123456789  98765432 45678901234   33%   50%  100%  100%
(no service)          delayed 3600s 12345678 123456789  98765432 45678901234     -     -     -     -

3 more cost less
";
    let page = services::Page(&answer).to_string();
    assert_eq!(page, expected);
    assert!(page.lines().all(|line| line.len() <= 100));
}
