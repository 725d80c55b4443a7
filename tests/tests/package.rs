//! The packages, as an operator meets them: on a fresh Debian, from the first command to the last.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::cluster::program;
use tests::crowd::Crowd;
use tests::keepalived;
use tests::lab::{self, Family, Lab};
use tests::leftovers::Directory;
use tests::netns::{run, wait_until};
use tests::nspawn::Machine;
use tests::table::wait_equal;
use tests::traffic::{Connection, Kind};

/// How long anything may take: a hung daemon is noticed in 10 s.
const DEADLINE: Duration = Duration::from_secs(60);
/// The kernel forwards without the daemon, so an upgrade is nothing that a connection would notice.
const GAP_MAX: Duration = Duration::from_secs(1);

/// Makes the packages in a directory, and returns the one of this format.
#[track_caller]
fn build(directory: &Path, format: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/build");
    let printed = run(Command::new(script)
        .arg("--binary")
        .arg(program())
        .arg("--out")
        .arg(directory)
        .arg(format));
    printed.trim_end().into()
}

/// Two gateways of a lab, each with a Debian in which nobody has done anything yet, and the package at hand.
struct Gateways {
    machines: Vec<Machine>,
    lab: Lab,
    files: Directory,
}

impl Gateways {
    #[track_caller]
    fn boot() -> Gateways {
        let files = Directory::new("package");
        let deb = build(files.path(), "deb");
        fs::rename(deb, files.path().join("ctsync.deb")).expect("it is in the same directory");
        let lab = Lab::new(2);
        let machines = lab
            .gateways
            .iter()
            .map(|it| Machine::boot(it, files.path()))
            .collect();
        Gateways {
            machines,
            lab,
            files,
        }
    }

    /// As the manual says: install, make a key, write the configuration, look at it, enable.
    #[track_caller]
    fn set_up(&self) {
        let keys = self.machines.iter().map(|machine| {
            machine.run("dpkg --install /t/ctsync.deb");
            machine.run("ctsync keygen").trim_end().to_owned()
        });
        let members: String = (1..)
            .zip(keys)
            .map(|(id, key)| {
                let address = lab::sync_address(id - 1, Family::Ipv4);
                format!(
                    "  - {{ id: {id}, name: gw-{id}, addresses: {{ sync: {address} }}, public_key: {key} }}\n"
                )
            })
            .collect();
        for (id, machine) in (1..).zip(&self.machines) {
            let config = format!(
                "cluster: 7\nmember: {id}\nmembers:\n{members}networks: [ {{ name: sync, interface: sync0 }} ]\n\
                 control: {{ monitor_socket: /run/ctsync-monitor/monitor.sock }}\n"
            );
            machine.run(&format!(
                "cat >/etc/ctsync/ctsync.yaml <<'END'\n{config}END"
            ));
            machine.run("ctsync check");
            machine.run("systemctl enable --now ctsync");
        }
        self.wait_in_step();
    }

    #[track_caller]
    fn wait_in_step(&self) {
        wait_until("both gateways are in step", DEADLINE, || {
            self.machines.iter().all(|machine| {
                let peer = &status(machine)["peers"][0];
                peer["state"] == "live" && peer["synced"] == true
            })
        });
    }
}

/// What `ctsync status` says; null while no daemon answers.
fn status(machine: &Machine) -> Value {
    let output = machine.output("ctsync status --json");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// The id of the daemon's process.
#[track_caller]
fn main_pid(machine: &Machine) -> String {
    machine
        .run("systemctl show --property=MainPID --value ctsync")
        .trim_end()
        .to_owned()
}

#[test]
fn the_same_input_makes_packages_of_the_same_bytes() {
    for format in ["deb", "rpm"] {
        let directories = [Directory::new("package"), Directory::new("package")];
        let [first, second] = directories
            .each_ref()
            .map(|directory| fs::read(build(directory.path(), format)).expect("it was made"));
        assert!(
            first == second,
            "two .{format} of {} bytes differ",
            first.len()
        );
    }
}

#[test]
fn the_rpm_holds_what_the_deb_holds_and_its_scripts_are_sound() {
    let directory = Directory::new("package");
    let [deb, rpm] = ["deb", "rpm"].map(|format| build(directory.path(), format));
    run(Command::new("rpm").arg("-K").arg(&rpm));
    let query = |option: &str| run(Command::new("rpm").args(["-qp", option]).arg(&rpm));
    assert!(
        query("--requires").lines().any(|it| it == "nftables"),
        "{}",
        query("--requires")
    );
    assert_eq!(query("--configfiles").trim_end(), "/etc/ctsync/ctsync.yaml");
    for script in ["post", "preun", "postun"] {
        let file = format!("{}/../packaging/rpm/{script}", env!("CARGO_MANIFEST_DIR"));
        run(Command::new("sh").args(["-n", &file]));
    }

    let [of_deb, of_rpm] = ["deb", "rpm"].map(|it| directory.path().join(it));
    run(Command::new("dpkg-deb")
        .arg("--extract")
        .arg(&deb)
        .arg(&of_deb));
    run(Command::new("rpm")
        .arg("--root")
        .arg(&of_rpm)
        .args(["--install", "--nodeps", "--noscripts"])
        .arg(&rpm));
    fs::remove_file(of_rpm.join("usr/share/doc/ctsync/LICENSE-APACHE"))
        .expect("Debian has its own");
    // The page of the configuration shows the example, whatever keys it has got meanwhile.
    let page = of_deb.join("usr/share/man/man5/ctsync.yaml.5.gz");
    let page = run(Command::new("gzip").arg("-dc").arg(page));
    for part in ["cluster: 7", "monitor_socket: ", "\n.SH SEE ALSO"] {
        assert!(
            page.contains(part) && !page.contains("@CONFIGURATION@"),
            "{part}: {page}"
        );
    }

    let files = |root: &Path| {
        run(Command::new("find")
            .arg(".")
            .args(["-type", "f", "-path", "*ctsync*"])
            .current_dir(root))
    };
    let sorted = |root: &Path| {
        let mut names: Vec<_> = files(root).lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(sorted(&of_deb), sorted(&of_rpm));
}

#[test]
fn a_fresh_debian_becomes_a_gateway_that_is_upgraded_and_removed_under_traffic() {
    let gateways = Gateways::boot();
    let Gateways {
        machines,
        lab,
        files,
    } = &gateways;
    let [a, b] = machines.as_slice() else {
        panic!("a lab of two")
    };

    a.run("dpkg --install /t/ctsync.deb");
    assert_eq!(
        a.run("systemctl show --property=ActiveState,UnitFileState --value ctsync"),
        "inactive\ndisabled\n"
    );
    let refused = a.output("ctsync check");
    assert_eq!(
        refused.status.code(),
        Some(1),
        "an empty configuration is none"
    );
    // It is not tried again before somebody has filled it in, with a key or without.
    for line in ["true", "ctsync keygen --out /etc/ctsync/member.key"] {
        a.run(line);
        assert!(!a.output("systemctl start ctsync").status.success());
        let state = a.run("systemctl show --property=ActiveState,NRestarts --value ctsync");
        assert_eq!(state, "0\nfailed\n");
    }
    a.run("rm /etc/ctsync/member.key");
    gateways.set_up();
    let exposure = a.run("systemd-analyze security --no-pager ctsync.service");
    let (_, level) = exposure
        .rsplit_once("ctsync.service: ")
        .expect("it ends with the sum");
    let level: f64 = level
        .split(' ')
        .next()
        .and_then(|it| it.parse().ok())
        .expect("a number");
    assert!(level <= 2.0, "{exposure}");

    let journal = a.run("journalctl --output=json CTSYNC_EVENT=peer-live");
    assert!(journal.contains("\"CTSYNC_MEMBER\":\"2\""), "{journal}");
    let explained = a.run("journalctl --catalog CTSYNC_EVENT=peer-live");
    assert!(
        explained.contains("Member 2 (gw-2) is heard, and hears us."),
        "{explained}"
    );

    // The unit lets it hold packets, whatever the kernel queues them with.
    let journal = a.run("journalctl --output cat CTSYNC_EVENT=not-held");
    assert!(!journal.contains("packets are not held"), "{journal}");
    assert!(a.run("nft list ruleset").contains("chain held"));

    // A reload is done when systemctl says so; one that fails changes nothing, and systemctl says that, too.
    let before = main_pid(a);
    a.run("echo 'services: { dns: { protocol: udp, ports: 53, sync: never } }' >/etc/ctsync/policy.yaml");
    a.run("systemctl reload ctsync");
    a.run("echo 'services: [' >/etc/ctsync/policy.yaml");
    assert!(!a.output("systemctl reload ctsync").status.success());
    a.run("rm /etc/ctsync/policy.yaml && systemctl reload ctsync");
    assert_eq!(main_pid(a), before, "it is the same daemon");

    // Who is of the group may ask the socket for monitoring, and nothing else.
    let monitor = "setpriv --reuid=nobody --regid=ctsync-monitor --clear-groups ctsync";
    let socket = "--socket /run/ctsync-monitor/monitor.sock";
    a.run(&format!("{monitor} status {socket}"));
    for refused in [
        format!("{monitor} keys roll {socket}"),
        format!("{monitor} status"),
    ] {
        assert_eq!(a.output(&refused).status.code(), Some(1), "{refused}");
    }

    let connections: Vec<_> = [Kind::Bulk, Kind::Interactive, Kind::Datagrams]
        .into_iter()
        .map(|kind| Connection::open(lab, kind, lab::Path::Redirected, Family::Ipv4))
        .collect();
    let mut crowd = Crowd::default();
    crowd.tcp(lab, lab::Path::Plain, Family::Ipv6, 200);
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 203);

    upgraded(files.path());
    for machine in machines {
        let before = main_pid(machine);
        machine.run("dpkg --install /t/next.deb");
        assert_ne!(main_pid(machine), before, "the new daemon has taken over");
        machine.run("dpkg --install /t/next.deb && ctsync check");
    }
    gateways.wait_in_step();
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 203);
    lab.activate(1);
    lab.cut(0);
    for connection in &connections {
        let before = connection.progress().count;
        wait_until(
            "the connection goes on through the other gateway",
            DEADLINE,
            || connection.progress().count > before + 5,
        );
        let progress = connection.progress();
        assert!(
            progress.failure.is_none() && progress.longest_gap < GAP_MAX,
            "{progress:?}"
        );
    }

    b.run("dpkg --remove ctsync");
    assert_eq!(b.run("systemctl is-active ctsync || true"), "inactive\n");
    assert!(!b.run("nft list tables").contains("ctsync"));
    b.run("test -e /etc/ctsync/ctsync.yaml -a -e /etc/ctsync/member.key");
    b.run("dpkg --purge ctsync");
    b.run("test ! -e /etc/ctsync -a ! -e /var/lib/ctsync -a ! -e /run/ctsync");
    assert_eq!(b.run("systemctl --failed --quiet list-units 'ctsync*'"), "");
}

/// Puts a package of a later version beside the first.
#[track_caller]
fn upgraded(files: &Path) {
    let tree = files.join("next");
    run(Command::new("dpkg-deb")
        .arg("--raw-extract")
        .arg(files.join("ctsync.deb"))
        .arg(&tree));
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).expect("every package has one");
    fs::write(&control, text.replace("\nVersion: ", "\nVersion: 99.")).expect("it is ours");
    run(Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Znone", "--build"])
        .arg(&tree)
        .arg(files.join("next.deb")));
    fs::remove_dir_all(tree).expect("it is ours");
}

#[test]
fn a_daemon_that_hangs_is_started_anew_and_gets_in_step() {
    let gateways = Gateways::boot();
    gateways.set_up();
    let machine = &gateways.machines[0];
    let hung = main_pid(machine);
    machine.run(&format!("kill -STOP {hung}"));
    wait_until("systemd has started it anew", DEADLINE, || {
        let now = main_pid(machine);
        now != hung && now != "0"
    });
    gateways.wait_in_step();
    let result = machine.run("journalctl --unit ctsync --output cat");
    assert!(result.contains("Watchdog timeout"), "{result}");
}

/// Not even systemd starts it anew, and yet what it has said last does not hold for ever.
#[test]
fn a_daemon_that_is_killed_costs_its_gateway_the_addresses() {
    let gateways = Gateways::boot();
    let lab = &gateways.lab;
    keepalived::hand_over_addresses(lab);
    for machine in &gateways.machines {
        machine.run(
            "mkdir -p /etc/systemd/system/ctsync.service.d
             printf '[Service]\nRestart=no\n' >/etc/systemd/system/ctsync.service.d/test.conf",
        );
    }
    gateways.set_up();
    let [a, b] = gateways.machines.as_slice() else {
        panic!("a lab of two")
    };
    let wait_state = |machine: &Machine, state: &str| {
        wait_until(state, DEADLINE, || {
            status(machine)["role"]["state"] == state
        });
    };
    wait_state(a, "active");
    for machine in &gateways.machines {
        let configuration = keepalived::configuration();
        machine.run(&format!(
            "cat >/etc/keepalived/keepalived.conf <<'END'\n{configuration}END\n\
             systemctl start keepalived"
        ));
    }
    let [on_a, on_b] = [0, 1].map(|index| move || keepalived::holds(&lab.gateways[index]));
    wait_until("the active one has the addresses", DEADLINE, on_a);
    let connection = Connection::open(lab, Kind::Datagrams, lab::Path::Plain, Family::Ipv4);

    a.run(&format!("kill -KILL {}", main_pid(a)));
    let killed = Instant::now();
    wait_until("the other has the addresses", DEADLINE, on_b);
    let moved = killed.elapsed();
    wait_state(b, "active");
    println!(
        "kill -9 of the active daemon: the addresses moved after {} ms, the other is active after {} ms",
        moved.as_millis(),
        killed.elapsed().as_millis()
    );
    let before = connection.progress().count;
    wait_until("the connection goes on", DEADLINE, || {
        connection.progress().count > before + 50
    });
    let progress = connection.progress();
    println!("UDP missed {} ms", progress.longest_gap.as_millis());
    assert_eq!(progress.failure, None);

    // Back again, it is no better than the one that has the role.
    a.run("systemctl start ctsync");
    gateways.wait_in_step();
    wait_state(a, "standby");
    assert!(on_b() && !on_a());

    // What the operator has chosen outlives what a boot takes away: the process, and all that is in memory.
    let reboot = || {
        b.run("systemctl stop ctsync && rm -r /run/ctsync && systemctl start ctsync");
        gateways.wait_in_step();
    };
    b.run("ctsync mode broadcast && ctsync down --persist");
    wait_state(a, "active");
    reboot();
    wait_state(b, "down");
    assert!(
        status(b)["role"]["why"]
            .to_string()
            .contains("asked to be down")
    );
    b.run("ctsync syncstat --json | grep '\"mode\": *\"broadcast\"'");
    b.run("ctsync up");
    reboot();
    wait_state(b, "standby");
}
