//! Network namespaces: a machine each, made with `ip`, gone when dropped, also when a test panics.
//!
//! It knows nothing of gateways and clusters; [`crate::lab`] builds those from it. What fails here fails the test: every
//! function panics with the command and what it printed, at the line of the caller.
//!
//! A process is the program itself, not `ip netns exec`: its id is the one to signal.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Socket, Type};

use crate::leftovers::unique_name;

/// How long what must happen may take, also on a machine that is busy with other things.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How long [`wait_until`] rests between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// One network namespace, with everything in it. Dropping it kills the processes that run inside and removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    label: String,
}

impl Namespace {
    /// Makes a namespace with its loopback up. `label` is its name in texts, and part of its name to `ip netns`.
    #[track_caller]
    pub fn new(label: &str) -> Namespace {
        let name = unique_name(label);
        run(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Namespace {
            name,
            label: label.to_owned(),
        };
        namespace.ip("link set lo up");
        namespace
    }

    /// Its name to `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The label it was made with.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// A command that will run inside. The process is `program` itself: its id is the one to signal.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a command line, split at blanks, inside, and returns what it printed.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        let mut words = line.split_ascii_whitespace();
        run(self
            .command(words.next().expect("a command line has a program"))
            .args(words))
    }

    /// Runs one `ip` command a line, in one process; stops at the first that fails.
    #[track_caller]
    pub fn ip(&self, lines: &str) {
        run_with_input(
            Command::new("ip").args(["-n", &self.name, "-batch", "-"]),
            lines,
        );
    }

    /// As [`Namespace::ip`], but goes on past a command that fails, and says nothing of it.
    pub fn ip_forgiving(&self, lines: &str) {
        let mut command = Command::new("ip");
        command
            .args(["-n", &self.name, "-force", "-batch", "-"])
            .stderr(Stdio::null());
        if let Ok(mut child) = command.stdin(Stdio::piped()).spawn() {
            let _ = child
                .stdin
                .take()
                .expect("it was asked for")
                .write_all(lines.as_bytes());
            let _ = child.wait();
        }
    }

    /// Loads an nftables ruleset, on top of what is there.
    #[track_caller]
    pub fn nft(&self, ruleset: &str) {
        run_with_input(self.command("nft").args(["-f", "-"]), ruleset);
    }

    /// Sets a sysctl below `net`, such as `ipv4.ip_forward`.
    #[track_caller]
    pub fn sysctl(&self, key: &str, value: impl ToString) {
        let path = format!("/proc/sys/net/{}", key.replace('.', "/"));
        let value = value.to_string();
        self.inside(|| fs::write(&path, &value).unwrap_or_else(|error| panic!("{path}: {error}")));
    }

    /// Runs `work` in a thread of its own inside: sockets opened there belong to the namespace, also when they come out.
    #[track_caller]
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let name = &self.name;
        let work = move || {
            enter(name);
            work()
        };
        thread::scope(|scope| scope.spawn(work).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Starts a thread that lives inside, for as long as it likes.
    pub fn spawn_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let name = self.name.clone();
        thread::spawn(move || {
            enter(&name);
            work()
        })
    }

    /// A UDP socket inside, on this address. A datagram that has not come after `patience` is an error.
    #[track_caller]
    pub fn udp_socket(&self, address: impl ToSocketAddrs + Send, patience: Duration) -> UdpSocket {
        let socket = self.inside(|| UdpSocket::bind(address));
        let socket = socket.unwrap_or_else(|error| panic!("{}: {error}", self.label));
        socket
            .set_read_timeout(Some(patience))
            .expect("a timeout that is not zero");
        socket
    }

    /// A TCP connection from inside, from this address, whose port may be in use by connections that have ended. What takes
    /// longer than `patience`, to connect or to read, is an error.
    #[track_caller]
    pub fn connect(&self, from: SocketAddr, to: SocketAddr, patience: Duration) -> TcpStream {
        let stream = self.inside(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&from.into())?;
            socket.connect_timeout(&to.into(), patience)?;
            socket.set_read_timeout(Some(patience))?;
            Ok::<_, std::io::Error>(TcpStream::from(socket))
        });
        stream.unwrap_or_else(|error| panic!("{}: {from} to {to}: {error}", self.label))
    }

    /// Makes a cable: interface `name` here, `peer_name` in `peer`, both up.
    #[track_caller]
    pub fn cable(&self, name: &str, peer: &Namespace, peer_name: &str) {
        self.ip(&format!(
            "link add {name} type veth peer name {peer_name} netns {}",
            peer.name
        ));
        self.ip(&format!("link set {name} up"));
        peer.ip(&format!("link set {peer_name} up"));
    }

    /// The hardware address of an interface.
    #[track_caller]
    pub fn hardware_address(&self, interface: &str) -> String {
        let path = format!("/sys/class/net/{interface}/address");
        run(self.command("cat").arg(&path)).trim().to_owned()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// A process that is killed, and waited for, when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// What it is, for texts.
    name: String,
}

impl Process {
    /// Starts a command.
    #[track_caller]
    pub fn spawn(name: &str, command: &mut Command) -> Process {
        match command.spawn() {
            Ok(child) => Process {
                child,
                name: name.to_owned(),
            },
            Err(error) => panic!("{name}: cannot start {command:?}: {error}"),
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal; does nothing when the process has ended.
    pub fn signal(&self, signal: Signal) {
        // Not waited for yet, so the id is still this process's.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// `kill -9`, and waits until it is dead.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let name = self.name.clone();
        let mut status = None;
        wait_until(&format!("{name} ends"), deadline, || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        status.expect("wait_until returns when it is set")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Looks again and again until `condition` holds, and panics with `what` was waited for when `deadline` has passed.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, condition: impl FnMut() -> bool) {
    assert!(
        holds_within(deadline, condition),
        "waited {deadline:?} in vain until {what}"
    );
}

/// Looks again and again until `condition` holds (true) or `deadline` has passed (false).
pub fn holds_within(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// Runs a command to its end and returns what it printed; panics with its errors when it fails.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    finish(command, output)
}

#[track_caller]
fn run_with_input(command: &mut Command, input: &str) -> String {
    let output = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            let mut stdin = child.stdin.take().expect("it was asked for");
            // A command that stops at an error early closes its end: its own words tell more.
            let _ = stdin.write_all(input.as_bytes());
            drop(stdin);
            child.wait_with_output()
        });
    finish(command, output)
}

#[track_caller]
fn finish(command: &Command, output: std::io::Result<Output>) -> String {
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            panic!("{command:?}: {}\n{}", output.status, errors.trim_end());
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}

/// Moves the calling thread into a namespace.
fn enter(name: &str) {
    let path = PathBuf::from("/run/netns").join(name);
    fs::File::open(&path)
        .and_then(|file| {
            use std::os::fd::AsFd as _;
            Ok(move_into_link_name_space(
                file.as_fd(),
                Some(LinkNameSpaceType::Network),
            )?)
        })
        .unwrap_or_else(|error| panic!("cannot enter {}: {error}", path.display()));
}

/// Kills what runs in a namespace and removes it. Called from `drop`, so it never panics.
pub(crate) fn remove(name: &str) {
    let inside = Command::new("ip").args(["netns", "pids", name]).output();
    let inside = inside.map(|output| output.stdout).unwrap_or_default();
    for pid in String::from_utf8_lossy(&inside).split_ascii_whitespace() {
        if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}
