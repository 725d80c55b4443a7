//! ctsync: the configuration that a newcomer writes, all else as it comes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::{Daemon, Files};
use crate::bench::gateways::{SYNC, SYNC_A, SYNC_B};
use crate::cluster::keygen;
use crate::netns::Namespace;

/// The program beside this one: both come from one build.
pub fn program() -> PathBuf {
    let this = std::env::current_exe().expect("a process knows its program");
    this.with_file_name("ctsync")
}

/// Starts one of the two, with `more` in its configuration.
pub(super) fn start(files: &Files, gateway: &Namespace, side: usize, more: &str) -> Daemon {
    // Of its own, as on a machine of its own: the track file is beside the socket.
    fs::create_dir_all(files.0.join(format!("run{side}"))).expect("it can be made");
    let directory = files.0.display();
    let member = side + 1;
    let keys = [0, 1].map(|side| files.0.join(format!("ctsync{side}.key")));
    let [public_a, public_b] = keys.each_ref().map(|key| keygen(key));
    let config = files.write(
        &format!("ctsync{side}.yaml"),
        &format!(
            "cluster: 7
member: {member}
members:
  - id: 1
    name: gw-a
    addresses: {{ sync: {SYNC_A} }}
    public_key: {public_a}
  - id: 2
    name: gw-b
    addresses: {{ sync: {SYNC_B} }}
    public_key: {public_b}
networks:
  - name: sync
    interface: {SYNC}
key_file: {key}
state_directory: {directory}/state{side}
control:
  socket: {directory}/run{side}/control.sock
{more}",
            key = keys[side].display()
        ),
    );
    let mut command = gateway.command(program());
    command.args(["run", "--config"]).arg(&config);
    files.start(&format!("ctsync{side}"), &mut command, config)
}

/// Whether every peer of a daemon is live and has told all it knows.
pub(super) fn is_ready(daemon: &Daemon) -> bool {
    let status = status(daemon);
    let peers = status["peers"].as_array().map_or(&[][..], Vec::as_slice);
    !peers.is_empty()
        && peers
            .iter()
            .all(|peer| peer["state"] == "live" && peer["synced"] == true)
}

/// Whether it says that it has everything, after it has met its peer.
pub(super) fn is_joined(daemon: &Daemon) -> bool {
    let status = status(daemon);
    status["sync"]["complete"] == true && status["peers"][0]["state"] == "live"
}

/// Flows that it knows of its own kernel.
pub(super) fn own_flows(daemon: &Daemon) -> u64 {
    let flows = &status(daemon)["flows"];
    ["own", "found"]
        .map(|it| flows[it].as_u64().unwrap_or(0))
        .iter()
        .sum()
}

/// What it says of itself; nothing while it does not answer.
fn status(daemon: &Daemon) -> Value {
    let output = Command::new(program())
        .args(["status", "--json", "--config"])
        .arg(&daemon.config)
        .output();
    let stdout = output.map(|output| output.stdout).unwrap_or_default();
    serde_json::from_slice(&stdout).unwrap_or(Value::Null)
}
