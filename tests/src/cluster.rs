//! One ctsync daemon on each gateway of a lab: configured, started, asked, killed.
//!
//! It speaks to a daemon as an operator does, through the command line. The subtle thing is [`Cluster::start`]: it
//! returns when every member has every other in step, so that what a test opens then is replicated from its first packet.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::lab::{Family, Lab, network_address};
use crate::leftovers::Directory;
use crate::netns::{Namespace, Process, run, wait_until};

/// How long members may take to find each other and get in step.
const IN_STEP_DEADLINE: Duration = Duration::from_secs(60);

/// How members reach each other, as the configuration writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A datagram for each peer.
    Unicast,
    /// One for all, to a group.
    Multicast,
    /// One for all, to the network.
    Broadcast,
}

/// What of the configuration a test chooses.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How members reach each other.
    pub transport: Transport,
    /// The family of the sync networks.
    pub family: Family,
    /// How many of them there are.
    pub networks: usize,
    /// More of the configuration file, such as `kernel: { label_mask: 0xff }`; `PLACE` stands for a path of this member's own.
    pub more: &'static str,
    /// The service policy, the same for all.
    pub policy: &'static str,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            transport: Transport::Unicast,
            family: Family::Ipv4,
            networks: 1,
            more: "",
            policy: "",
        }
    }
}

/// The daemons of a lab, in the order of its gateways.
#[derive(Debug)]
pub struct Cluster {
    /// A daemon each; the member ids are 1, 2, ...
    pub members: Vec<Daemon>,
    /// Outlives the daemons: their files are in it.
    _directory: Directory,
}

/// A daemon, or the place for one.
#[derive(Debug)]
pub struct Daemon {
    gateway: String,
    config: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Cluster {
    /// Starts a daemon on every gateway, and waits until they are in step.
    #[track_caller]
    pub fn start(lab: &Lab, transport: Transport) -> Cluster {
        let settings = Settings {
            transport,
            ..Settings::default()
        };
        Cluster::start_with(lab, settings)
    }

    /// As [`Cluster::start`], with more to choose.
    #[track_caller]
    pub fn start_with(lab: &Lab, settings: Settings) -> Cluster {
        let mut cluster = Cluster::configure(lab, settings);
        for (member, gateway) in cluster.members.iter_mut().zip(&lab.gateways) {
            member.start(gateway);
        }
        cluster.wait_in_step();
        cluster
    }

    /// Writes the configuration of every gateway's daemon, and starts none.
    #[track_caller]
    pub fn configure(lab: &Lab, settings: Settings) -> Cluster {
        let directory = Directory::new("cluster");
        write_private(&directory.path().join("policy.yaml"), settings.policy);
        let members = (0..lab.gateways.len())
            .map(|index| Daemon::configure(lab, index, settings, directory.path()))
            .collect();
        Cluster {
            members,
            _directory: directory,
        }
    }

    /// Waits until every member that runs has every other that runs in step.
    #[track_caller]
    pub fn wait_in_step(&self) {
        let running: Vec<_> = self.running().map(|(id, _)| id).collect();
        wait_until("all members are in step", IN_STEP_DEADLINE, || {
            self.running().all(|(_, daemon)| {
                daemon
                    .status()
                    .is_some_and(|status| is_in_step(&status, &running))
            })
        });
    }

    /// The daemons that were started, with their member ids.
    fn running(&self) -> impl Iterator<Item = (u64, &Daemon)> {
        let started = (1..).zip(&self.members);
        started.filter(|(_, daemon)| daemon.process.is_some())
    }
}

impl Daemon {
    #[track_caller]
    fn configure(lab: &Lab, index: usize, settings: Settings, directory: &Path) -> Daemon {
        let gateway = &lab.gateways[index];
        let config = directory.join(format!("{}.yaml", gateway.label()));
        write_config(&config, lab, index, settings);
        Daemon {
            gateway: gateway.label().to_owned(),
            config,
            log: directory.join(format!("{}.log", gateway.label())),
            process: None,
        }
    }

    /// Starts it on the gateway it was configured for. If it runs already, that run ends first, with SIGKILL.
    #[track_caller]
    pub fn start(&mut self, gateway: &Namespace) {
        self.run(gateway, gateway.command(program()));
    }

    /// The same where only the programs of this directory can be found.
    #[track_caller]
    pub fn start_with_programs_of(&mut self, gateway: &Namespace, directory: &Path) {
        let mut command = gateway.command(program());
        command.env("PATH", directory);
        self.run(gateway, command);
    }

    #[track_caller]
    fn run(&mut self, gateway: &Namespace, mut command: Command) {
        assert_eq!(
            gateway.label(),
            self.gateway,
            "a daemon stays where it was configured for"
        );
        self.process = None;
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("the directory is ours");
        command
            .args(["run", "--config"])
            .arg(&self.config)
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let name = format!("ctsync of {}", self.gateway);
        self.process = Some(Process::spawn(&name, &mut command));
    }

    /// Its process: to kill, stop, continue.
    #[track_caller]
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    /// What `ctsync status --json` says; nothing while no daemon answers.
    pub fn status(&self) -> Option<Value> {
        let output = self.outcome(&["status", "--json"]);
        // 1 says that a peer is not as it should be, which a test may want to see; or that the answer came too late.
        let answered = matches!(output.status.code(), Some(0 | 1)) && !output.stdout.is_empty();
        answered.then(|| {
            let text = String::from_utf8_lossy(&output.stdout);
            serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("status --json: {error}: {text}"))
        })
    }

    /// A counter of its status.
    #[track_caller]
    pub fn counter(&self, name: &str) -> u64 {
        let status = self.status().expect("the daemon answers");
        let counter = &status["counters"][name];
        counter
            .as_u64()
            .unwrap_or_else(|| panic!("no counter {name}: {status:#}"))
    }

    /// What `ctsync` prints when called with a verb of the operator, for this daemon.
    #[track_caller]
    pub fn ask(&self, verb: &str) -> String {
        run(Command::new(program())
            .args(verb.split_ascii_whitespace())
            .arg("--config")
            .arg(&self.config))
    }

    /// The same, with `--json`.
    #[track_caller]
    pub fn ask_json(&self, verb: &str) -> String {
        run(Command::new(program())
            .args([verb, "--json", "--config"])
            .arg(&self.config))
    }

    /// The flows that it knows: a row of `ctsync flows --json` each.
    #[track_caller]
    pub fn flows(&self) -> Vec<Value> {
        let listed = self.ask_json("flows");
        let rows = listed
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a row is JSON"));
        // The last line has their number.
        rows.filter(|row| row.get("end").is_none()).collect()
    }

    /// What comes of a verb: its exit status, and what it prints.
    pub fn outcome(&self, words: &[&str]) -> Output {
        let mut command = Command::new(program());
        command.args(words).arg("--config").arg(&self.config);
        let output = command.stdin(Stdio::null()).output();
        output.expect("ctsync can be started")
    }

    /// What a verb prints, also one that ends as a problem.
    pub fn shown(&self, words: &[&str]) -> String {
        String::from_utf8(self.outcome(words).stdout).expect("it is text")
    }

    /// The same, with `--json`; null if nothing is printed.
    pub fn answer(&self, words: &[&str]) -> Value {
        let text = self.shown(&[words, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Writes its policy anew; it has it from the next reload or start on.
    #[track_caller]
    pub fn write_policy(&self, text: &str) {
        let file = self.config.with_file_name("policy.yaml");
        fs::write(file, text).expect("the directory is ours");
    }

    /// The path that `PLACE` stands for in [`Settings::more`].
    pub fn place(&self) -> PathBuf {
        self.config.with_extension("")
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!("--- the end of the log of {}:", self.gateway);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// The binary under test: `$CTSYNC`, or the `ctsync` that was built beside the running program.
#[track_caller]
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("CTSYNC") {
        return path.into();
    }
    let own = std::env::current_exe().expect("a program knows where it is");
    let beside = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("ctsync"));
    beside.into_iter().find(|path| path.is_file()).expect(
        "ctsync is not built: `cargo build -p ctsync` for the same profile, or name it in $CTSYNC",
    )
}

/// Writes the configuration of one member. The keys of all members are beside it, made by who comes first.
#[track_caller]
pub fn write_config(path: &Path, lab: &Lab, index: usize, settings: Settings) {
    let directory = path.parent().expect("a file is in a directory");
    let key = |it: usize| directory.join(format!("{}.key", lab.gateways[it].label()));
    let members: String = (0..lab.gateways.len())
        .map(|it| {
            let (id, name) = (it + 1, lab.gateways[it].label());
            let addresses: Vec<_> = (0..settings.networks)
                .map(|network| {
                    let address = network_address(it, settings.family, network);
                    format!("{}: \"{address}\"", network_name(network))
                })
                .collect();
            let addresses = addresses.join(", ");
            let public_key = keygen(&key(it));
            format!(
                "  - id: {id}
    name: {name}
    addresses: {{ {addresses} }}
    public_key: {public_key}
"
            )
        })
        .collect();
    let transport = match settings.transport {
        Transport::Unicast => "unicast",
        Transport::Multicast => "multicast",
        Transport::Broadcast => "broadcast",
    };
    let networks: String = (0..settings.networks)
        .map(|network| {
            format!(
                "  - name: {name}
    interface: sync{network}
    transport: {transport}
",
                name = network_name(network)
            )
        })
        .collect();
    // Of its own, as on a machine of its own: the track file is beside the socket.
    let run = path.with_extension("run");
    fs::create_dir_all(&run).expect("it can be made");
    let text = format!(
        "cluster: 7
member: {id}
members:
{members}networks:
{networks}key_file: {key}
state_directory: {state}
control:
  socket: {socket}
{more}
",
        id = index + 1,
        key = key(index).display(),
        state = path.with_extension("state").display(),
        socket = run.join("control.sock").display(),
        more = (settings.more).replace("PLACE", &path.with_extension("").display().to_string()),
    );
    write_private(path, &text);
}

/// The name of a sync network in the configuration.
pub fn network_name(network: usize) -> String {
    match network {
        0 => "sync".to_owned(),
        _ => format!("sync{network}"),
    }
}

/// Makes a member's key, if it is not there, and returns its public half.
#[track_caller]
pub fn keygen(file: &Path) -> String {
    let action = if file.exists() { "--public" } else { "--out" };
    let mut command = Command::new(program());
    let printed = run(command.args(["keygen", action]).arg(file));
    printed.trim_end().to_owned()
}

#[track_caller]
fn write_private(path: &Path, text: &str) {
    use std::io::Write as _;
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Whether a member has every one of these, itself left out, in step.
fn is_in_step(status: &Value, members: &[u64]) -> bool {
    let peers = status["peers"].as_array().expect("a status has peers");
    members.iter().all(|id| {
        let is_it = |it: &&Value| it["id"] == *id;
        status["member"]["id"] == *id
            || peers
                .iter()
                .find(is_it)
                .is_some_and(|it| it["state"] == "live" && it["synced"] == true)
    })
}
