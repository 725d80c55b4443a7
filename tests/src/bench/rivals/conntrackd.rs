//! Debian's conntrackd: the package's example for FT-FW between two nodes, with the buffer sizes that it has.

use std::path::Path;
use std::process::Command;

use super::{Copies, Daemon, Files};
use crate::bench::gateways::{SYNC, SYNC_A, SYNC_B, TABLE_SIZE};
use crate::netns::Namespace;

/// The manual asks for twice the size of the kernel's table.
const HASH_LIMIT: u32 = TABLE_SIZE * 2;
/// The example has four entries a bucket.
const HASH_SIZE: u32 = HASH_LIMIT / 4;

/// Starts one of the two.
pub(super) fn start(files: &Files, copies: Copies, gateway: &Namespace, side: usize) -> Daemon {
    let directory = files.0.display();
    let address = [SYNC_A, SYNC_B][side];
    let external_cache_off = match copies {
        Copies::Usual => "Off",
        Copies::InKernel => "On",
    };
    let config = files.write(
        &format!("conntrackd{side}.conf"),
        &format!(
            "Sync {{
    Mode FTFW {{
        DisableExternalCache {external_cache_off}
    }}
    Multicast {{
        IPv4_address 225.0.0.50
        Group 3780
        IPv4_interface {address}
        Interface {SYNC}
        SndSocketBuffer 1249280
        RcvSocketBuffer 1249280
        Checksum on
    }}
}}
General {{
    HashSize {HASH_SIZE}
    HashLimit {HASH_LIMIT}
    LogFile {directory}/conntrackd{side}.log
    LockFile {directory}/conntrackd{side}.lock
    UNIX {{
        Path {directory}/conntrackd{side}.sock
    }}
    NetlinkBufferSize 2097152
    NetlinkBufferSizeMaxGrowth 8388608
    Filter From Userspace {{
        Protocol Accept {{
            TCP
            SCTP
            DCCP
        }}
        Address Ignore {{
            IPv4_address 127.0.0.1
            IPv4_address {SYNC_A}
            IPv4_address {SYNC_B}
        }}
    }}
}}
"
        ),
    );
    let mut command = gateway.command("conntrackd");
    command.arg("-C").arg(&config);
    files.start(&format!("conntrackd{side}"), &mut command, config)
}

/// Whether it has begun to work.
pub(super) fn is_ready(daemon: &Daemon) -> bool {
    statistics(&daemon.config).is_some()
}

/// Flows in its external cache: those that its peer told it.
pub(super) fn external_flows(daemon: &Daemon) -> u64 {
    cached_flows(daemon, "cache external:")
}

/// Flows in its internal cache: those of its own kernel.
pub(super) fn internal_flows(daemon: &Daemon) -> u64 {
    cached_flows(daemon, "cache internal:")
}

fn cached_flows(daemon: &Daemon, cache: &str) -> u64 {
    let statistics = statistics(&daemon.config).unwrap_or_default();
    let cache = statistics.split_once(cache).map_or("", |(_, rest)| rest);
    let count = cache
        .split_once("current active connections:")
        .map_or("", |(_, rest)| rest);
    // It does not answer while it is far behind: then it has none that we know of.
    count
        .split_ascii_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

fn statistics(config: &Path) -> Option<String> {
    let output = Command::new("conntrackd")
        .arg("-C")
        .arg(config)
        .arg("-s")
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
