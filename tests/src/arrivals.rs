//! How long a flow takes to a kernel's table: flows that are opened one after the other, and when each arrives, which the
//! tool `conntrack` tells as the kernel does.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::{Family, Lab, Path};
use crate::netns::{Namespace, Process, wait_until};

/// Between two flows of [`open_flows`].
const INTERVAL: Duration = Duration::from_millis(2);
/// How long one flow may take to be answered.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// A UDP flow, which keeps its port as long as it lives.
#[derive(Debug)]
pub struct Flow {
    socket: UdpSocket,
    /// When its first datagram was sent.
    pub sent: Instant,
}

impl Flow {
    /// The client's port.
    pub fn port(&self) -> u16 {
        let address = self.socket.local_addr();
        address.expect("a socket has an address").port()
    }
}

/// Opens flows through the active gateway at a steady pace, each with a datagram there and one back.
#[track_caller]
pub fn open_flows(lab: &Lab, duration: Duration) -> Vec<Flow> {
    let (client, server) = (
        Path::Plain.client(Family::Ipv4),
        Path::Plain.server(Family::Ipv4),
    );
    let listener = lab.server.udp_socket((server, 0), ANSWER_DEADLINE);
    let port = listener
        .local_addr()
        .expect("a socket has an address")
        .port();
    lab.client.inside(|| {
        let start = Instant::now();
        let mut flows = Vec::new();
        while start.elapsed() < duration {
            let socket = UdpSocket::bind((client, 0)).expect("a port is free");
            let sent = Instant::now();
            socket
                .send_to(b"a", (server, port))
                .expect("there is a route");
            let (_, from) = listener.recv_from(&mut [0]).expect("the datagram arrives");
            listener.send_to(b"b", from).expect("there is a route");
            flows.push(Flow { socket, sent });
            thread::sleep(INTERVAL);
        }
        flows
    })
}

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
        // A network that fails is made good for at once: hundreds of flows come in one burst, and none may go unseen.
        command.args(["--buffer-size", "16777216"]);
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
