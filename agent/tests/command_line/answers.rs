//! What is printed of a daemon's answers, and the exit status that goes with it.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use agent::control::Ask;
use agent::control::answer::{Counters, PeerState, Rolled, Status};

use crate::daemon::{Daemon, answer, rolled, services, status};
use crate::{EXAMPLE, Files, ctsync, outcome};

#[test]
fn audit_says_when_the_table_was_equal_last_and_what_was_found() {
    let daemon = Daemon::start();
    let output = ctsync(&["audit", "--socket", &daemon.socket])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for line in [
        "rounds  9, one every 60 s or less often, 4.2 ms of CPU at a time at most\n",
        "last    12 s ago, 20000 entries in 31 ms (28.0 ms of CPU), but for 2 conflicts\n",
        "equal   72 s ago, 20000 entries in 31 ms (28.0 ms of CPU)\n",
        "        with 2 (gw-b) 73 s ago, 19000 flows that it carries",
        "missing                    1                1",
        "conflict                   2                2",
        "`ctsync explain FLOW` names the one that is in the way",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(
        text.contains("     12 s       72 s      2  missing    udp      2       "),
        "{text}"
    );
    let output = ctsync(&["audit", "--now", "--json", "--socket", &daemon.socket])
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["history"][0]["class"], "missing");
}

#[test]
fn a_roll_over_that_some_peers_miss_is_done_and_a_problem() {
    let daemon = Daemon::start();
    let roll = ["keys", "roll", "--socket", &daemon.socket];
    let (code, printed, said) = outcome(&mut ctsync(&roll));
    assert_eq!(
        (code, printed.as_str()),
        (1, "key 4 of this run is in use\n")
    );
    assert!(
        said.contains("no link to these live members, which get the key when it is back: 2;"),
        "{said}"
    );
    let (code, json, _) = outcome(ctsync(&roll).arg("--json"));
    assert_eq!(code, 1);
    assert_eq!(serde_json::from_str::<Rolled>(&json).unwrap(), rolled());
}

#[test]
fn a_reload_that_fails_is_a_problem_and_says_why() {
    let daemon = Daemon::start();
    let failed = outcome(&mut ctsync(&["reload", "--socket", &daemon.socket]));
    let said = "ctsync: nothing was changed: policy.yaml:1:2: wrong; mend it\n";
    assert_eq!(failed, (1, String::new(), said.to_owned()));
}

#[test]
fn without_a_daemon_the_status_is_3() {
    let files = Files::new(&format!(
        "{EXAMPLE}\ncontrol:\n  socket: /nowhere/from-the-file.sock\n"
    ));
    for verb in ["status", "flows"] {
        let refused = outcome(&mut ctsync(&[verb, "--socket", "/nowhere/control.sock"]));
        let expected = "ctsync: no daemon answers at /nowhere/control.sock: is it running? See `systemctl status ctsync`\n";
        assert_eq!(refused, (3, String::new(), expected.into()), "{verb}");
        let (code, _, said) = outcome(&mut ctsync(&[verb, "--config", &files.config()]));
        assert_eq!(code, 3);
        assert!(
            said.contains("no daemon answers at /nowhere/from-the-file.sock"),
            "{said}"
        );
    }
}

#[test]
fn status_is_printed_as_the_daemon_gave_it() {
    let daemon = Daemon::start();
    let (code, json, said) = outcome(&mut ctsync(&[
        "status",
        "--json",
        "--socket",
        &daemon.socket,
    ]));
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status());
    let (code, page, _) = outcome(&mut ctsync(&["status", "--socket", &daemon.socket]));
    assert_eq!(code, 0);
    assert!(
        page.contains("gw-a") && page.contains("gw-b") && page.contains("(1 more is 0)"),
        "{page}"
    );
}

#[test]
fn peer_that_is_not_well_makes_the_exit_status_1() {
    let daemon = Daemon::start_with(|ask| match ask {
        Ask::Status(answer) => {
            let mut status = status();
            status.peers[0].state = PeerState::Dead;
            answer.send(status).unwrap_or_default();
        }
        other => answer(other),
    });
    for more in [&[][..], &["--json"]] {
        let (code, printed, said) =
            outcome(ctsync(&["status", "--socket", &daemon.socket]).args(more));
        assert_eq!((code, said.as_str()), (1, ""));
        assert!(printed.contains("dead"), "{printed}");
    }
}

#[test]
fn watched_page_comes_again_and_has_no_colours_in_a_pipe() {
    let daemon = Daemon::start();
    let mut command = ctsync(&["status", "--watch", "1", "--socket", &daemon.socket]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let headings = lines
        .map(Result::unwrap)
        .inspect(|line| assert!(!line.contains('\u{1b}'), "{line}"))
        .filter(|line| line.starts_with("member "));
    assert_eq!(headings.take(2).count(), 2);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn top_shows_the_peers_and_what_grows() {
    let daemon = Daemon::start_with(|ask| match ask {
        Ask::Status(answer) => {
            static LOOKS: AtomicU64 = AtomicU64::new(0);
            let mut status = status();
            let looks = LOOKS.fetch_add(1, Ordering::Relaxed);
            status.counters = Counters(vec![
                ("datagrams_sent".into(), 12 + 1_000_000 * looks),
                ("datagrams_forged".into(), 7),
            ]);
            answer.send(status).unwrap_or_default();
        }
        Ask::Services(answer) => {
            static LOOKS: AtomicU64 = AtomicU64::new(0);
            let looks = LOOKS.fetch_add(1, Ordering::Relaxed);
            answer.send(services(1000 * looks)).unwrap_or_default();
        }
        other => answer(other),
    });
    let (code, page, said) = outcome(&mut ctsync(&[
        "top",
        "--pages",
        "2",
        "--socket",
        &daemon.socket,
    ]));
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(
        page.matches("gw-a (member 1 of cluster 7)").count(),
        2,
        "{page}"
    );
    assert_eq!(page.matches("datagrams_sent").count(), 2, "{page}");
    assert_eq!(page.matches("\nweb ").count(), 2, "{page}");
    assert!(!page.contains("dns"), "it costs nothing: {page}");
    assert!(
        !page.contains("datagrams_forged"),
        "what does not grow is left out: {page}"
    );
    assert!(page.lines().all(|line| line.len() <= 100), "{page}");
}
