//! Server and client against each other, with a driver made up for the test.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::answer::audit::DifferenceCounts;
use super::answer::members::{Done, RolesAnswer};
use super::answer::sync::SyncStatus;
use super::answer::*;
use super::server::{Access, Patience};
use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
const PATIENT: Patience = Patience {
    request: DEADLINE,
    driver: DEADLINE,
    round: DEADLINE,
    write: DEADLINE,
};
const SHORT: Duration = Duration::from_millis(20);

/// A server, and the driver behind it. The directory goes last.
struct Daemon {
    server: Server,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Daemon {
    /// `drive` is called for each ask, on a thread that sleeps until it is woken.
    fn start(patience: Patience, drive: impl FnMut(Ask) + Send + 'static) -> Self {
        Self::start_for(Access::All, patience, drive)
    }

    fn start_for(
        access: Access,
        patience: Patience,
        mut drive: impl FnMut(Ask) + Send + 'static,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let (sender, mut asks) = asks();
        let (wake, woken) = std_mpsc::channel();
        let wake = Box::new(move || wake.send(()).unwrap_or_default());
        thread::spawn(move || {
            while woken.recv().is_ok() {
                while let Ok(ask) = asks.try_recv() {
                    drive(ask);
                }
            }
        });
        let server = Server::start_with(&path, wake, sender, access, patience).unwrap();
        Self {
            server,
            path,
            _directory: directory,
        }
    }

    fn connect(&self) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        BufReader::new(stream)
    }
}

fn answer(ask: Ask) {
    match ask {
        Ask::Status(answer) => answer.send(status()).unwrap_or_default(),
        Ask::Flows {
            from,
            limit,
            answer,
        } => {
            let end = (from.0 + u32::try_from(limit).unwrap()).min(FLOWS);
            let rows = (from.0..end).map(row).collect();
            let next = (end < FLOWS).then_some(Cursor(end));
            answer.send(FlowPage { rows, next }).unwrap_or_default();
        }
        Ask::Explain(..) | Ask::Facts(_) | Ask::TakeFacts(_) => {}
        Ask::Reload(answer) => answer
            .send(Err("policy.yaml:1:1: wrong; mend it".into()))
            .unwrap_or_default(),
        Ask::Mode(_, answer) => answer.send(Done { refused: None }).unwrap_or_default(),
        Ask::Paths(answer) => answer
            .send(SplitDestinations::default())
            .unwrap_or_default(),
        Ask::Services(_) | Ask::Accounting(_) => {}
        Ask::SyncStat(answer) => answer.send(SyncStat::default()).unwrap_or_default(),
        Ask::Audit(answer) | Ask::AuditNow(answer) => answer.send(report()).unwrap_or_default(),
        Ask::Roles(_, answer) => answer.send(done()).unwrap_or_default(),
        Ask::Resync(answer) => answer.send(SyncStatus::default()).unwrap_or_default(),
        Ask::RollKeys(answer) => answer
            .send(Rolled {
                epoch: 4,
                unlinked: vec![3],
            })
            .unwrap_or_default(),
    }
}

fn report() -> Report {
    Report {
        interval_seconds: 60,
        rounds: 1,
        longest_us: 0,
        last: None,
        equal: None,
        peers: Vec::new(),
        differences: DifferenceCounts::default(),
        history: Vec::new(),
    }
}

/// Two pages and a bit.
const FLOWS: u32 = 1100;

fn done() -> RolesAnswer {
    RolesAnswer::Done(Done { refused: None })
}

fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        cluster: 7,
        member: MemberStatus {
            id: 1,
            name: "gw-a".into(),
        },
        uptime_seconds: 60,
        flows: FlowCounts {
            own: 3,
            copies: 2,
            found: 1,
        },
        sync: SyncStatus {
            complete: true,
            ..SyncStatus::default()
        },
        holds: HoldStatus::default(),
        key: KeyStatus {
            epoch: 255,
            age_seconds: 5,
        },
        role: RoleStatus {
            state: "standby".into(),
            seconds: 61,
            why: "gw-b ranks first".into(),
            checks: Vec::new(),
        },
        peers: vec![PeerStatus {
            id: 2,
            name: "gw-b".into(),
            state: PeerState::NeverSeen,
            version: None,
            lacks: Vec::new(),
            linked: false,
            synced: false,
            rtt_us: None,
            last_heard_ms: None,
            unacknowledged: 0,
            missing: 12,
            refused: 0,
            hold: PeerHold::default(),
            reach: Reach::default(),
        }],
        capabilities: vec![],
        warnings: vec![],
        counters: Counters(vec![("zebras".into(), 1), ("apes".into(), u64::MAX)]),
    }
}

fn row(number: u32) -> FlowRow {
    FlowRow {
        family: Family::Ipv4,
        proto: "tcp".into(),
        orig: Endpoints {
            src: "192.0.2.1".parse().unwrap(),
            dst: "198.51.100.1".parse().unwrap(),
            sport: Some(u16::try_from(number).unwrap()),
            dport: Some(80),
        },
        nat_src: Some(Translation {
            addr: "203.0.113.1".parse().unwrap(),
            port: Some(1024),
        }),
        nat_dst: None,
        state: Some("ESTABLISHED".into()),
        timeout: Some(431_999),
        mark: 0,
        zone: 0,
        origin: Origin::Copy,
        member: 2,
    }
}

fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line
}

/// Tries until it is so, or fails.
fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < DEADLINE, "never: {what}");
        thread::yield_now();
    }
}

#[test]
fn status_is_one_line_of_the_agreed_names() {
    let daemon = Daemon::start(PATIENT, answer);
    let mut client = daemon.connect();
    client
        .get_mut()
        .write_all(b"{\"verb\":\"status\"}\n")
        .unwrap();
    let expected = concat!(
        r#"{"version":"0.1.0","cluster":7,"member":{"id":1,"name":"gw-a"},"uptime_seconds":60,"#,
        r#""flows":{"own":3,"copies":2,"found":1},"#,
        r#""sync":{"complete":true,"incomplete_ms":0,"from":null,"flows":0,"flows_expected":0,"parts":0,"parts_expected":0},"#,
        r#""holds":{"now":0,"deadline_us":0,"latency":{"count":0,"sum_us":0,"p50_us":null,"p99_us":null,"max_us":null}},"#,
        r#""key":{"epoch":255,"age_seconds":5},"role":{"state":"standby","seconds":61,"why":"gw-b ranks first","checks":[]},"peers":[{"id":2,"name":"gw-b","state":"never-seen","version":null,"lacks":[],"linked":false,"#,
        r#""synced":false,"rtt_us":null,"last_heard_ms":null,"unacknowledged":0,"missing":12,"#,
        r#""refused":0,"hold":{"aside":false,"latency":{"count":0,"sum_us":0,"p50_us":null,"p99_us":null,"max_us":null}},"#,
        r#""heard":false,"hears_us":null,"network":"","networks":[]}],"capabilities":[],"warnings":[],"counters":{"zebras":1,"apes":18446744073709551615}}"#,
    );
    assert_eq!(line(&mut client).trim_end(), expected);
}

#[test]
fn flow_is_one_line_of_the_agreed_names() {
    let expected = concat!(
        r#"{"family":"ipv4","proto":"tcp","orig":{"src":"192.0.2.1","dst":"198.51.100.1","sport":7,"dport":80},"#,
        r#""nat_src":{"addr":"203.0.113.1","port":1024},"nat_dst":null,"state":"ESTABLISHED","timeout":431999,"#,
        r#""mark":0,"zone":0,"origin":"copy","member":2}"#,
    );
    assert_eq!(serde_json::to_string(&row(7)).unwrap(), expected);
}

#[test]
fn client_reads_the_status_that_the_driver_gave() {
    let daemon = Daemon::start(PATIENT, answer);
    let mut client = Client::connect(&daemon.path).unwrap();
    assert_eq!(client.status().unwrap(), status());
    assert_eq!(client.status().unwrap(), status(), "on the same connection");
}

#[test]
fn flows_come_over_all_pages_and_end_with_their_count() {
    let daemon = Daemon::start(PATIENT, answer);
    let mut client = Client::connect(&daemon.path).unwrap();
    let rows: Vec<_> = client.flows().unwrap().map(Result::unwrap).collect();
    assert_eq!(rows, (0..FLOWS).map(row).collect::<Vec<_>>());
    assert_eq!(
        client.status().unwrap(),
        status(),
        "the connection is good for more"
    );
}

#[test]
fn socket_for_monitoring_answers_and_changes_nothing() {
    let daemon = Daemon::start_for(Access::Monitoring, PATIENT, answer);
    let mut client = Client::connect(&daemon.path).unwrap();
    assert_eq!(client.status().unwrap(), status());
    assert_eq!(
        client.flows().unwrap().count(),
        usize::try_from(FLOWS).unwrap()
    );
    assert_eq!(
        client.roll_keys().unwrap_err().to_string(),
        "the daemon refused: this socket is for monitoring and changes nothing: be root, or of the group of the control socket"
    );
}

#[test]
fn request_may_come_in_pieces() {
    let daemon = Daemon::start(PATIENT, answer);
    let mut client = daemon.connect();
    for byte in b"{\"verb\":\"status\"}\n" {
        client.get_mut().write_all(&[*byte]).unwrap();
    }
    assert!(line(&mut client).starts_with(r#"{"version""#));
}

#[test]
fn request_that_is_not_known_is_refused_with_the_reason() {
    let daemon = Daemon::start(PATIENT, answer);
    for (request, reason) in [
        (
            "{\"verb\":\"reboot\"}\n",
            "unknown variant `reboot`, expected one of `status`, `syncstat`, `flows`, `keys-roll`",
        ),
        (
            "{\"verb\":\"status\",\"loud\":true}\n",
            "unknown field `loud`",
        ),
        ("{}\n", "missing field `verb`"),
        ("status\n", "expected value"),
        ("\n", "EOF while parsing"),
    ] {
        let mut client = daemon.connect();
        client.get_mut().write_all(request.as_bytes()).unwrap();
        let answer = line(&mut client);
        assert!(
            answer.starts_with(r#"{"error":"this request is not known: "#),
            "{answer}"
        );
        assert!(answer.contains(reason), "{answer}");
        assert_eq!(line(&mut client), "", "and the connection ends");
    }
}

#[test]
fn request_without_end_is_cut_short() {
    let daemon = Daemon::start(PATIENT, answer);
    let mut client = daemon.connect();
    client.get_mut().write_all(&[b'x'; 1024]).unwrap();
    assert_eq!(
        line(&mut client),
        "{\"error\":\"a request is one line of at most 1024 bytes\"}\n"
    );
    assert_eq!(line(&mut client), "");
}

#[test]
fn seventeenth_client_is_turned_away_until_one_leaves() {
    let daemon = Daemon::start(PATIENT, answer);
    let mut seated: Vec<_> = (0..CLIENTS_MAX)
        .map(|_| Client::connect(&daemon.path).unwrap())
        .collect();
    for client in &mut seated {
        client.status().unwrap();
    }
    let refusal = Client::connect(&daemon.path).unwrap().status().unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the daemon refused: 16 clients are connected: try again later"
    );
    seated.pop();
    eventually("a place is free", || {
        Client::connect(&daemon.path).unwrap().status().is_ok()
    });
}

#[test]
fn client_that_says_nothing_is_put_out() {
    let daemon = Daemon::start(
        Patience {
            request: SHORT,
            ..PATIENT
        },
        answer,
    );
    let mut client = daemon.connect();
    assert_eq!(
        line(&mut client),
        "{\"error\":\"no request came for too long\"}\n"
    );
    assert_eq!(line(&mut client), "");
}

#[test]
fn client_that_does_not_read_loses_its_place() {
    let endless = |ask| match ask {
        Ask::Status(answer) => answer.send(status()).unwrap_or_default(),
        Ask::Flows {
            from,
            limit,
            answer,
        } => {
            let rows = (0..u32::try_from(limit).unwrap()).map(row).collect();
            answer
                .send(FlowPage {
                    rows,
                    next: Some(Cursor(from.0 + 1)),
                })
                .unwrap_or_default();
        }
        other => panic!("nobody asks for that: {other:?}"),
    };
    let daemon = Daemon::start(
        Patience {
            write: SHORT,
            ..PATIENT
        },
        endless,
    );
    let mut stuck: Vec<_> = (0..CLIENTS_MAX).map(|_| daemon.connect()).collect();
    for client in &mut stuck {
        client
            .get_mut()
            .write_all(b"{\"verb\":\"flows\"}\n")
            .unwrap();
    }
    eventually("a place is free", || {
        Client::connect(&daemon.path).unwrap().status().is_ok()
    });
}

#[test]
fn a_round_of_the_audit_may_take_longer_than_an_answer() {
    let (mut rounds, mut unanswered) = (Vec::new(), Vec::new());
    let mut meanwhile = 0;
    let daemon = Daemon::start(
        Patience {
            driver: SHORT,
            ..PATIENT
        },
        move |ask| match ask {
            Ask::AuditNow(_) => rounds.push(ask),
            _ => {
                unanswered.push(ask);
                meanwhile += rounds.len();
                if meanwhile > 3 {
                    rounds.drain(..).for_each(answer);
                }
            }
        },
    );
    thread::scope(|scope| {
        let audit = scope.spawn(|| Client::connect(&daemon.path).unwrap().audit_now());
        while !audit.is_finished() {
            let status = Client::connect(&daemon.path).unwrap().status();
            assert!(status.is_err(), "nobody answers that in time");
        }
        assert_eq!(audit.join().unwrap().unwrap(), report());
    });
}

#[test]
fn driver_that_does_not_answer_is_reported() {
    let mut kept = Vec::new();
    let daemon = Daemon::start(
        Patience {
            driver: SHORT,
            ..PATIENT
        },
        move |ask| kept.push(ask),
    );
    let refusal = Client::connect(&daemon.path).unwrap().status().unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the daemon refused: the daemon is too busy to answer"
    );
}

#[test]
fn driver_that_is_gone_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let (sender, asks) = asks();
    drop(asks);
    let _server = Server::start(&path, Box::new(|| ()), sender).unwrap();
    let refusal = Client::connect(&path).unwrap().status().unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the daemon refused: the daemon is stopping"
    );
}

#[test]
fn dropped_server_cuts_clients_off_and_removes_the_socket() {
    let Daemon {
        server,
        path,
        _directory,
    } = Daemon::start(PATIENT, answer);
    let mut client = Client::connect(&path).unwrap();
    client.status().unwrap();
    drop(server);
    assert!(!path.exists());
    let error = client.status().unwrap_err().to_string();
    assert!(error.contains("went away"), "{error}");
}

#[test]
fn dropped_server_leaves_the_socket_of_another() {
    let Daemon {
        server,
        path,
        _directory,
    } = Daemon::start(PATIENT, answer);
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(server);
    assert!(path.exists());
}

#[test]
fn directory_is_made_and_the_socket_is_for_owner_and_group() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctsync/control.sock");
    let _server = Server::start(&path, Box::new(|| ()), asks().0).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o660
    );
}

#[test]
fn directory_without_parent_is_refused() {
    assert_eq!(
        start_error(Path::new("/nowhere/at/all.sock")),
        "cannot make the directory of the control socket /nowhere/at/all.sock \
         (No such file or directory (os error 2)); check `control.socket`"
    );
}

#[test]
fn socket_that_nobody_listens_on_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a killed daemon leaves it");
    let _server = Server::start(&path, Box::new(|| ()), asks().0).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn socket_of_a_running_daemon_is_left_alone() {
    let daemon = Daemon::start(PATIENT, answer);
    assert_eq!(
        start_error(&daemon.path),
        format!(
            "another ctsync answers at {}; stop it first, or set `control.socket` to another path",
            daemon.path.display()
        )
    );
    Client::connect(&daemon.path).unwrap().status().unwrap();
}

#[test]
fn file_in_the_place_of_the_socket_is_left_alone() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = start_error(file.path());
    assert!(
        error.contains("is in the way and not a socket; remove it"),
        "{error}"
    );
    assert!(file.path().exists());
}

#[test]
fn without_a_daemon_the_client_says_what_to_look_at() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let expected = format!(
        "no daemon answers at {}: is it running? See `systemctl status ctsync`",
        path.display()
    );
    assert_eq!(Client::connect(&path).unwrap_err().to_string(), expected);
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(Client::connect(&path).unwrap_err().to_string(), expected);
}

#[test]
fn answer_of_a_stranger_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let stranger = thread::spawn(move || {
        for answer in [
            "{\"hello\":1}\n",
            "no json\n",
            "{\"end\":{\"count\":5}}\n",
            "{\"cut\":",
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            line(&mut BufReader::new(&stream));
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let ask = || Client::connect(&path).unwrap();
    assert!(matches!(ask().status(), Err(ClientError::Garbled { .. })));
    assert!(matches!(ask().status(), Err(ClientError::Garbled { .. })));
    assert!(
        matches!(
            ask().flows().unwrap().next(),
            Some(Err(ClientError::Io { .. }))
        ),
        "five were promised"
    );
    assert!(matches!(ask().status(), Err(ClientError::Io { .. })));
    stranger.join().unwrap();
}

fn start_error(path: &Path) -> String {
    Server::start(path, Box::new(|| ()), asks().0)
        .unwrap_err()
        .to_string()
}
