//! BIRD on the gateways of a lab, with the example that the package ships, and on a neighbour who hears what they announce.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::netns::{Namespace, Process, wait_until};

const SHIPPED: &str = include_str!("../../packaging/bird/bird.conf");
const TOLD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/bird/ctsync-bird");
const DEADLINE: Duration = Duration::from_secs(60);

/// On a gateway, with a hook for its daemon that does what the shipped unit does when the track file changes.
#[track_caller]
pub fn gateway(gateway: &Namespace, index: usize, place: &Path) -> Process {
    let control = place.join("bird.ctl");
    let id = format!("10.0.0.{}", 11 + index);
    let process = start(gateway, place, &SHIPPED.replace("10.0.0.11", &id));
    let hooks = place.join("hooks");
    fs::create_dir_all(&hooks).expect("the directory is ours");
    let hook = hooks.join("bird");
    let text = format!(
        "#!/bin/sh\nBIRDC='birdc -s {}' exec {TOLD} {}\n",
        control.display(),
        place.join("track").display()
    );
    fs::write(&hook, text).expect("the directory is ours");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("it is ours");
    process
}

/// On a host, which takes the routes of two gateways into its kernel.
#[track_caller]
pub fn neighbour(host: &Namespace, place: &Path) -> Process {
    host.ip_forgiving("route del default\nroute del 203.0.113.0/24");
    let sessions = ["10.0.0.11", "10.0.0.12"].map(|it| {
        format!(
            "protocol bgp {{ local as 65000; neighbor {it} as 65001; connect retry time 1; error wait time 1, 2;
                ipv4 {{ import all; export none; }}; }}\n"
        )
    });
    let config = format!(
        "router id 10.0.0.100;
         protocol device {{ }}
         protocol kernel {{ ipv4 {{ import none; export all; }}; }}
         {}",
        sessions.concat()
    );
    start(host, &place.join("neighbour"), &config)
}

/// Waits until the route of a host to the announced network goes by the gateway of this number.
#[track_caller]
pub fn wait_route(host: &Namespace, index: usize) {
    let by = format!("via 10.0.0.{} ", 11 + index);
    wait_until(&format!("the route goes {by}"), DEADLINE, || {
        host.run("ip route show 203.0.113.0/24").contains(&by)
    });
}

#[track_caller]
fn start(machine: &Namespace, place: &Path, config: &str) -> Process {
    fs::create_dir_all(place).expect("the directory is ours");
    let file = place.join("bird.conf");
    fs::write(&file, config).expect("the directory is ours");
    let mut command = machine.command("bird");
    command
        .args(["-f", "-c"])
        .arg(&file)
        .arg("-s")
        .arg(place.join("bird.ctl"))
        .arg("-P")
        .arg(place.join("bird.pid"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Process::spawn("bird", &mut command)
}
