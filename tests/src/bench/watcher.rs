//! Notes when a flow appears in gateway B's kernel: a listener to the kernel's NEW events, apart from any contestant.
//!
//! It sleeps in `recv`, one event a call, and takes the time as soon as it returns, where [`conntrack::EventSocket`] would
//! rest to collect several; and it asks for no other events, so that the kernel makes none for it.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use conntrack::decode::decode_event;
use conntrack::{L4, Tuple};
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketType, bind, recv, socket, sockopt};

use super::generator::{FlowNumber, now};
use crate::netns::Namespace;

/// `NFNLGRP_CONNTRACK_NEW`, as a mask of groups.
const NEW_EVENTS: u32 = 1;

/// Room for what a slow moment leaves behind.
const BUFFER_BYTES: usize = 64 << 20;

/// How often the thread looks whether it is still wanted while nothing happens.
const LOOK_UP: Duration = Duration::from_millis(50);

/// A thread in a gateway that notes every flow of the generator as its NEW event appears.
pub struct Watcher {
    seen: Receiver<(FlowNumber, Duration)>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts to watch.
    pub fn start(gateway: &Namespace) -> Watcher {
        let (sender, seen) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let events = gateway.inside(|| subscribe().expect("root can listen to conntrack events"));
        let stopped = Arc::clone(&stop);
        let thread = gateway.spawn_thread(move || {
            let mut buffer = [0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((len, _)) = recv(&events, &mut buffer[..], RecvFlags::empty()) else {
                    continue; // nothing within LOOK_UP, or an overrun: what it lost counts as not seen
                };
                let time = now();
                if let Some(flow) = generated(&buffer[..len]) {
                    let _ = sender.send((flow, time));
                }
            }
        });
        Watcher {
            seen,
            stop,
            thread: Some(thread),
        }
    }

    /// When `flow` appeared; `None` when it did not within `patience`.
    pub fn wait_for(&self, flow: FlowNumber, patience: Duration) -> Option<Duration> {
        let deadline = Instant::now() + patience;
        loop {
            match self
                .seen
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok((seen, time)) if seen == flow => return Some(time),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// All that appeared since it was asked last.
    pub fn drain(&self) -> Vec<(FlowNumber, Duration)> {
        self.seen.try_iter().collect()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn subscribe() -> rustix::io::Result<OwnedFd> {
    let events = socket(
        AddressFamily::NETLINK,
        SocketType::RAW,
        Some(netlink::NETFILTER),
    )?;
    sockopt::set_socket_recv_buffer_size_force(&events, BUFFER_BYTES)?;
    sockopt::set_socket_timeout(&events, sockopt::Timeout::Recv, Some(LOOK_UP))?;
    bind(&events, &SocketAddrNetlink::new(0, NEW_EVENTS))?;
    Ok(events)
}

/// The generator's flow that a message tells of.
fn generated(message: &[u8]) -> Option<FlowNumber> {
    match decode_event(message).ok()?.flow.orig {
        Tuple {
            src: IpAddr::V4(address),
            l4: L4::Ports { src: port, .. },
            ..
        } => FlowNumber::of_client(address, port),
        _ => None,
    }
}
