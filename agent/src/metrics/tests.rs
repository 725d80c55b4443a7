use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;

use super::*;
use crate::control::answer::accounting::{Accounting, ServiceTraffic, Traffic};
use crate::control::answer::members::Check;
use crate::control::answer::{Counters, HoldStatus, Latency, PathState, PathStatus, Status};
use crate::control::{self, asks};

fn latency() -> Latency {
    Latency {
        count: 10,
        sum_us: 5000,
        p50_us: Some(320),
        p99_us: Some(1280),
        max_us: Some(1300),
    }
}

/// A status with something in all that metrics show.
fn status() -> Status {
    let mut status = control::tests::status();
    status.sync.complete = false;
    status.sync.incomplete_ms = 1500;
    status.holds = HoldStatus {
        now: 4,
        deadline_us: 20_000,
        latency: latency(),
    };
    status.role.checks = vec![Check::built_in("full-sync", false, "1.5 s".into())];
    let peer = &mut status.peers[0];
    peer.name = "gw-\"b\"".into();
    peer.rtt_us = Some(214);
    peer.last_heard_ms = None;
    peer.hold.latency = latency();
    peer.reach.networks = vec![PathStatus {
        name: "sync".into(),
        state: PathState::Up,
        rtt_us: None,
        loss_in_permille: Some(25),
        loss_out_permille: None,
        degraded: false,
        sent: 1,
        received: 2,
    }];
    status.counters = Counters(vec![
        ("sent_bytes".into(), 12_345),
        ("datagrams_forged".into(), 0),
        ("audit_cpu_us".into(), 1_500_000),
    ]);
    status
}

fn passed() -> Accounting {
    let web = ServiceTraffic {
        service: Some("web".into()),
        traffic: Traffic {
            reply_bytes: 7,
            ..Traffic::default()
        },
    };
    Accounting {
        since_start: vec![web],
        ..Accounting::default()
    }
}

/// Serves made-up answers at `listen`, and returns what comes to each of the requests.
fn answers(listen: &Listen, requests: &[&str]) -> Vec<String> {
    let (sender, mut asks) = asks();
    let (wake, woken) = std::sync::mpsc::channel();
    thread::spawn(move || {
        while woken.recv().is_ok() {
            while let Ok(ask) = asks.try_recv() {
                match ask {
                    Ask::Status(answer) => answer.send(status()).unwrap_or_default(),
                    Ask::Accounting(answer) => answer.send(passed()).unwrap_or_default(),
                    other => panic!("nobody asks for that: {other:?}"),
                }
            }
        }
    });
    let wake = Box::new(move || wake.send(()).unwrap_or_default());
    let _metrics = Metrics::start(listen, wake, sender).unwrap();
    let ask = |request: &&str| {
        let mut answer = String::new();
        match listen {
            Listen::Tcp(address) => {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(request.as_bytes()).unwrap();
                stream.read_to_string(&mut answer).unwrap();
            }
            Listen::Socket(path) => {
                let mut stream = UnixStream::connect(path).unwrap();
                stream.write_all(request.as_bytes()).unwrap();
                stream.read_to_string(&mut answer).unwrap();
            }
        }
        answer
    };
    requests.iter().map(ask).collect()
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn scraper_gets_every_value_with_type_unit_and_help() {
    let directory = tempfile::tempdir().unwrap();
    let listen = Listen::Socket(directory.path().join("metrics.sock"));
    let [answer] = answers(&listen, &[GET]).try_into().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text;"),
        "{head}"
    );
    assert!(
        head.contains(&format!("Content-Length: {}\r\n", body.len())),
        "{head}"
    );
    for part in [
        "# TYPE ctsync_build info\n# HELP ctsync_build Version of the daemon.\nctsync_build_info{version=\"0.1.0\"} 1\n",
        "ctsync_member_info{cluster=\"7\",member=\"1\",name=\"gw-a\"} 1\n",
        "ctsync_sync_complete ",
        "ctsync_sync_incomplete_seconds ",
        "# TYPE ctsync_uptime_seconds gauge\n# UNIT ctsync_uptime_seconds seconds\n",
        "ctsync_flows{origin=\"own\"} 3\nctsync_flows{origin=\"copy\"} 2\nctsync_flows{origin=\"found\"} 1\n",
        "# TYPE ctsync_state stateset\n",
        "ctsync_state{ctsync_state=\"standby\"} 1\nctsync_state{ctsync_state=\"ready\"} 0\n",
        "ctsync_path_up{peer=\"gw-\\\"b\\\"\",network=\"sync\"} 1\n",
        "ctsync_path_loss_in_ratio{peer=\"gw-\\\"b\\\"\",network=\"sync\"} 0.025\n",
        "ctsync_held_now 4\n",
        "# TYPE ctsync_hold_seconds summary\n# UNIT ctsync_hold_seconds seconds\n",
        "ctsync_hold_seconds{quantile=\"0.5\"} 0.00032\nctsync_hold_seconds{quantile=\"0.99\"} 0.00128\n\
         ctsync_hold_seconds_count 10\nctsync_hold_seconds_sum 0.005\n",
        "ctsync_peer_hold_seconds{peer=\"gw-\\\"b\\\"\",quantile=\"0.5\"} 0.00032\n",
        "ctsync_hold_max_seconds 0.0013\n",
        "ctsync_peer_aside{peer=\"gw-\\\"b\\\"\"} 0\n",
        "ctsync_peer_live{peer=\"gw-\\\"b\\\"\"} 1\n",
        "ctsync_peer_rtt_seconds{peer=\"gw-\\\"b\\\"\"} 0.000214\n",
        "# HELP ctsync_peer_silence_seconds Time since the peer's last datagram.\n# TYPE",
        "# TYPE ctsync_sent_bytes counter\n# UNIT ctsync_sent_bytes bytes\n\
         # HELP ctsync_sent_bytes Bytes of datagrams sent and received, from the header to the tag.\nctsync_sent_bytes_total 12345\n",
        "# TYPE ctsync_passed_bytes counter\n# UNIT ctsync_passed_bytes bytes\n",
        "# UNIT ctsync_audit_cpu_seconds seconds\n# HELP ctsync_audit_cpu_seconds Microseconds ",
        "\nctsync_audit_cpu_seconds_total 1.5\n",
        "ctsync_passed_bytes_total{service=\"web\",direction=\"reply\"} 7\n",
        "# HELP ctsync_datagrams_forged Datagrams put away: not sealed by the member that they name. Damage, or an attack.\n",
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
    assert!(body.ends_with("# EOF\n"), "{body}");
}

#[test]
fn every_counter_has_a_help_that_leans_on_no_other() {
    let core = crate::core::tests::core(1, 7, 9);
    let counters = Counters(core.counters());
    let status = Status {
        counters,
        ..status()
    };
    let page = text::render(&status, &[]);
    let mute: Vec<_> = page
        .lines()
        .filter_map(|it| it.strip_prefix("# HELP ")?.split_once(' '))
        .filter(|(_, help)| {
            let leans = [
                "Of those", "The same", "Put away", "Sent", "Received", "That ",
            ];
            help.is_empty() || leans.iter().any(|it| help.starts_with(it))
        })
        .collect();
    assert!(mute.is_empty(), "{mute:?}");
}

#[test]
fn what_is_no_request_for_metrics_is_refused() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let endless = format!("GET /{}", "x".repeat(REQUEST_BYTES_MAX - 5));
    let said = answers(
        &Listen::Tcp(port),
        &[
            "GET / HTTP/1.1\r\n\r\n",
            "POST /metrics HTTP/1.1\r\n\r\n",
            &endless,
        ],
    );
    assert!(said[0].starts_with("HTTP/1.1 404 "), "{}", said[0]);
    assert!(said[1].starts_with("HTTP/1.1 405 "), "{}", said[1]);
    assert_eq!(said[2], "", "and the connection ends");
}
