//! When flows arrive in a kernel's table: the tool `conntrack` tells of each as the kernel does.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::netns::{Namespace, Process, wait_until};

/// Listens to a gateway's kernel, as long as it lives.
#[derive(Debug)]
pub struct Arrivals {
    /// By the client's port.
    seen: Arc<Mutex<HashMap<u16, Instant>>>,
    _listener: Process,
}

impl Arrivals {
    /// Notes when each UDP flow from the source address enters the gateway's table. Returns when the kernel has been told
    /// that it is listened to.
    #[track_caller]
    pub fn listen(gateway: &Namespace, source: &str) -> Arrivals {
        let listeners = listener_count(gateway);
        let mut command = gateway.command("conntrack");
        command.args(["-E", "-e", "NEW", "-p", "udp", "-s", source]);
        let mut listener = Process::spawn(
            "conntrack -E",
            command.stdout(Stdio::piped()).stderr(Stdio::null()),
        );
        wait_until("conntrack listens", Duration::from_secs(5), || {
            listener_count(gateway) > listeners
        });
        let lines =
            BufReader::new(listener.child().stdout.take().expect("it was asked for")).lines();
        let seen = Arc::new(Mutex::new(HashMap::new()));
        let noted = Arc::clone(&seen);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let port = line
                    .split_ascii_whitespace()
                    .find_map(|word| word.strip_prefix("sport="));
                if let Some(port) = port.and_then(|it| it.parse().ok()) {
                    noted
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(port, Instant::now());
                }
            }
        });
        Arrivals {
            seen,
            _listener: listener,
        }
    }

    /// How many have arrived.
    pub fn count(&self) -> usize {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// When the flow from this port arrived, if it has.
    pub fn of(&self, port: u16) -> Option<Instant> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&port)
            .copied()
    }
}

/// How many sockets are members of the multicast group of new flows (group 1: bit 0).
fn listener_count(gateway: &Namespace) -> usize {
    let sockets = gateway.inside(|| fs::read_to_string("/proc/thread-self/net/netlink"));
    // A line: address, protocol (12 is netfilter), port id, groups in hexadecimal, ...
    let is_listener = |line: &&str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (protocol, groups) = (words.next(), words.nth(1));
        let groups = groups.and_then(|it| u32::from_str_radix(it, 16).ok());
        protocol == Some("12") && groups.is_some_and(|it| it & 1 != 0)
    };
    sockets
        .unwrap_or_default()
        .lines()
        .filter(is_listener)
        .count()
}
