//! keepalived on each gateway of a lab, with the configuration that the package ships: who holds the shared addresses is its
//! doing, and the hosts' routes point to them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, Settings};
use crate::lab::{Lab, SHARED_IPV4};
use crate::netns::{Namespace, Process, wait_until};

const SHIPPED: &str = include_str!("../../packaging/keepalived/keepalived.conf");
/// How long a shared address may take to move, on a machine that does many things at a time.
const MOVED_DEADLINE: Duration = Duration::from_secs(30);

/// A lab whose gateways run ctsync and keepalived.
#[derive(Debug)]
pub struct Site {
    // What runs ends before the machines it runs on.
    keepalived: Vec<Option<Process>>,
    /// The daemons.
    pub cluster: Cluster,
    /// The machines.
    pub lab: Lab,
}

impl Site {
    /// Two gateways; returns when the first is active and has the shared addresses.
    #[track_caller]
    pub fn start(more: &'static str) -> Site {
        let lab = Lab::new(2);
        hand_over_addresses(&lab);
        let settings = Settings {
            more,
            ..Settings::default()
        };
        let cluster = Cluster::start_with(&lab, settings);
        let mut site = Site {
            keepalived: lab.gateways.iter().map(|_| None).collect(),
            cluster,
            lab,
        };
        site.wait_state(0, "active");
        site.wait_state(1, "standby");
        site.start_keepalived(0);
        site.start_keepalived(1);
        site.wait_holder(0);
        site
    }

    /// Starts keepalived on a gateway.
    #[track_caller]
    pub fn start_keepalived(&mut self, index: usize) {
        let place = self.cluster.members[index].place();
        let gateway = &self.lab.gateways[index];
        self.keepalived[index] = Some(start(gateway, &place, &self.track_file(index)));
    }

    /// The machine loses its power: nothing of it tells anybody anything.
    #[track_caller]
    pub fn kill(&mut self, index: usize) {
        self.cluster.members[index].process().kill();
        // Before keepalived, which would say that it goes.
        self.lab.cut(index);
        self.keepalived[index] = None;
    }

    /// What the daemon of a gateway says that it is.
    #[track_caller]
    pub fn state(&self, index: usize) -> String {
        let status = self.cluster.members[index].status();
        let state = status.map(|it| it["role"]["state"].as_str().unwrap_or("").to_owned());
        state.unwrap_or_default()
    }

    /// Waits until the daemon of a gateway says that it is this.
    #[track_caller]
    pub fn wait_state(&self, index: usize, state: &str) {
        wait_until(
            &format!("member {} is {state}", index + 1),
            MOVED_DEADLINE,
            || self.state(index) == state,
        );
    }

    /// Whether a gateway has the shared address.
    #[track_caller]
    pub fn holds(&self, index: usize) -> bool {
        holds(&self.lab.gateways[index])
    }

    /// Waits until a gateway has the shared addresses; returns how long that took.
    #[track_caller]
    pub fn wait_holder(&self, index: usize) -> Duration {
        let began = Instant::now();
        let what = format!("gateway {} has the shared address", index + 1);
        wait_until(&what, MOVED_DEADLINE, || self.holds(index));
        began.elapsed()
    }

    /// Waits until both gateways have the client's flows, which are at least `count`; what the gateways themselves say, such as
    /// IGMP, is left out.
    #[track_caller]
    pub fn wait_replicated(&self, count: usize) {
        wait_until(
            "both gateways have the client's flows",
            MOVED_DEADLINE,
            || {
                let [one, two] = [0, 1].map(|it| {
                    let flows = self.lab.gateways[it].run("conntrack -L -s 10.0.0.100");
                    flows.lines().count()
                });
                one >= count && one == two
            },
        );
    }

    /// What stands in a gateway's track file.
    #[track_caller]
    pub fn tracked(&self, index: usize) -> String {
        let text = fs::read_to_string(self.track_file(index));
        text.unwrap_or_default().trim_end().to_owned()
    }

    fn track_file(&self, index: usize) -> PathBuf {
        self.cluster.members[index].place().join("track")
    }
}

/// Whether a gateway has the shared address.
#[track_caller]
pub fn holds(gateway: &Namespace) -> bool {
    let addresses = gateway.run("ip -brief -4 address show dev wan");
    addresses.contains(&format!("{SHARED_IPV4}/24"))
}

/// The shared addresses become keepalived's, and every host's gateway.
#[track_caller]
pub fn hand_over_addresses(lab: &Lab) {
    for gateway in &lab.gateways {
        gateway.ip_forgiving(&format!("addr del {SHARED_IPV4}/24 dev wan"));
        gateway.nft("add rule inet filter input ip protocol vrrp accept");
        gateway.nft("add rule inet filter input udp dport 8116 accept");
        // What a network of the shared address would bring is there already.
        gateway.sysctl("ipv4.conf.all.arp_ignore", 0);
    }
    lab.client.ip("route replace default via 10.0.0.1");
    lab.server.ip(&format!(
        "neigh flush dev wan
         route replace 10.0.0.0/24 via {SHARED_IPV4}"
    ));
}

/// The shipped configuration, with the interfaces of the lab.
pub fn configuration() -> String {
    SHIPPED.replace("eth0", "lan").replace("eth1", "wan")
}

#[track_caller]
fn start(gateway: &Namespace, place: &Path, track_file: &Path) -> Process {
    let file = place.join("keepalived.conf");
    let text = configuration().replace("/run/ctsync/track", &track_file.display().to_string());
    fs::write(&file, text).expect("the daemon made the directory");
    let mut command = gateway.command("keepalived");
    command
        .args(["--dont-fork", "--vrrp", "--log-console", "--use-file"])
        .arg(&file)
        .arg("--pid")
        .arg(place.join("keepalived.pid"))
        .arg("--vrrp_pid")
        .arg(place.join("vrrp.pid"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Process::spawn("keepalived", &mut command)
}
