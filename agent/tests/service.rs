//! The daemon as systemd runs it: with one capability, told of by notifications, ended by a signal.
//!
//! Needs root, iproute2 and util-linux; works in a network namespace of its own.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent::control::Client;
use agent::identity::MemberKey;
use rustix::process::{Pid, Signal, kill_process};

const DEADLINE: Duration = Duration::from_secs(20);

const CONFIG: &str = "\
cluster: 7
member: 1
members:
  - id: 1
    name: gw-a
    addresses: { sync: 192.0.2.1 }
    public_key: PUBLIC_KEY
  - id: 2
    name: gw-b
    addresses: { sync: 192.0.2.2 }
    public_key: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
networks:
  - name: sync
    interface: sync0
key_file: DIRECTORY/member.key
state_directory: DIRECTORY/state
control:
  socket: DIRECTORY/run/control.sock
";

/// A network namespace with the sync network in it, and a directory with the configuration; both go with it.
struct Place {
    namespace: String,
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            namespace: format!("ctsync-service-{}", std::process::id()),
            directory: tempfile::tempdir().unwrap(),
        };
        ip(&["netns", "add", &place.namespace]);
        place.ip("link add sync0 type veth peer name sync1");
        place.ip("address add 192.0.2.1/24 dev sync0");
        place.ip("link set sync1 up");
        place.ip("link set sync0 up");
        let key = MemberKey::create(&place.path("member.key")).unwrap();
        let config = CONFIG
            .replace("DIRECTORY", place.directory.path().to_str().unwrap())
            .replace("PUBLIC_KEY", &key.public().to_string());
        fs::write(place.path("ctsync.yaml"), config).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn ip(&self, arguments: &str) {
        let mut all = vec!["-n", &self.namespace];
        all.extend(arguments.split(' '));
        ip(&all);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.namespace]);
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip")
        .args(arguments)
        .status()
        .expect("iproute2 is installed");
    assert!(
        status.success() || std::thread::panicking(),
        "ip {arguments:?}: {status}; this test needs root"
    );
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended by itself in a test that passes.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The next notification that is not a sign of life.
fn notification(socket: &UnixDatagram) -> String {
    loop {
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).expect("it tells how it is");
        let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
        if text.trim_end() != "WATCHDOG=1" {
            return text.trim_end().to_owned();
        }
    }
}

#[test]
fn daemon_with_one_capability_is_ready_lives_and_ends_cleanly() {
    let place = Place::new();
    let notifications = UnixDatagram::bind(place.path("notify.sock")).unwrap();
    notifications.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut daemon = Command::new("ip");
    daemon
        .args([
            "netns",
            "exec",
            &place.namespace,
            "setpriv",
            "--bounding-set=-all,+net_admin",
            "--no-new-privs",
        ])
        .arg(env!("CARGO_BIN_EXE_ctsync"))
        .args(["run", "--config"])
        .arg(place.path("ctsync.yaml"))
        .env("NOTIFY_SOCKET", place.path("notify.sock"))
        .env("WATCHDOG_USEC", "200000")
        .env_remove("WATCHDOG_PID")
        .env_remove("JOURNAL_STREAM")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut daemon = Running(daemon.spawn().unwrap());

    assert_eq!(notification(&notifications), "READY=1");
    let socket = place.path("run/control.sock");
    let status = Client::connect(&socket).unwrap().status().unwrap();
    assert_eq!((status.cluster, status.member.name.as_str()), (7, "gw-a"));
    let mut buffer = [0; 64];
    let length = notifications
        .recv(&mut buffer)
        .expect("it says that it lives");
    assert_eq!(buffer[..length].trim_ascii_end(), b"WATCHDOG=1");

    kill_process(Pid::from_child(&daemon.0), Signal::TERM).unwrap();
    assert_eq!(notification(&notifications), "STOPPING=1");
    let ended = daemon.0.wait().unwrap();
    let log = std::io::read_to_string(daemon.0.stderr.take().unwrap()).unwrap();
    assert!(ended.success(), "{ended}: {log}");
    assert!(!socket.exists(), "the socket is removed");
    assert!(
        log.contains("INFO") && !log.contains("WARN") && !log.contains("ERROR"),
        "{log}"
    );
    assert!(
        !log.contains('\u{1b}'),
        "no colours where there is no terminal: {log}"
    );
}
