//! A sync network as long as a continent: what reaches a gateway over it is held for a while, and now and then lost.
//!
//! The kernel here can't delay packets by itself (netem); so they wait in a queue for a verdict of ours.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use conntrack::{PacketId, QueueItem, QueueOptions, QueueSocket, Verdict};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::AsFd as _;

use crate::netns::Namespace;

const QUEUE: u16 = 81;
const PACKETS_MAX: u32 = 10_000;

/// The way to one gateway, as long as it lives.
#[derive(Debug)]
pub struct Wan {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wan {
    /// From now on, every packet that reaches the gateway by `interface` takes `delay` longer, and every `lost`th is lost.
    #[track_caller]
    pub fn before(gateway: &Namespace, interface: &str, delay: Duration, lost: u64) -> Wan {
        let queue = gateway.inside(|| {
            QueueSocket::open(&QueueOptions {
                queues: QUEUE..=QUEUE,
                length_max: PACKETS_MAX,
                when_full: Verdict::Drop,
            })
        });
        let queue = queue.expect("root may bind a queue");
        gateway.run(&format!(
            "iptables -w -t raw -A PREROUTING -i {interface} -j NFQUEUE --queue-num {QUEUE}"
        ));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        Wan {
            stop,
            thread: Some(std::thread::spawn(move || {
                carry(queue, delay, lost, &stopped)
            })),
        }
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panicked, and said so.
            let _ = thread.join();
        }
    }
}

fn carry(mut queue: QueueSocket, delay: Duration, lost: u64, stop: &AtomicBool) {
    let mut waiting: VecDeque<(Instant, PacketId)> = VecDeque::new();
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let next = waiting.front().map(|(due, _)| *due);
        let pause = next.map_or(delay, |due| due.saturating_duration_since(Instant::now()));
        let timeout =
            Timespec::try_from(pause.min(Duration::from_millis(50))).expect("it is short");
        let mut fds = [PollFd::from_borrowed_fd(queue.as_fd(), PollFlags::IN)];
        // Interrupted or not, what is there is looked at.
        let _ = poll(&mut fds, Some(&timeout));
        let due = Instant::now() + delay;
        let mut arrived = Vec::new();
        let drained = queue.drain(1000, &mut |item| {
            if let QueueItem::Held(held) = item {
                arrived.push(held.id);
            }
        });
        drained.expect("a queue can be read");
        for packet in arrived {
            count += 1;
            if count % lost == 0 {
                queue.judge(packet, Verdict::Drop);
            } else {
                waiting.push_back((due, packet));
            }
        }
        while let Some((due, packet)) = waiting.front().copied()
            && due <= Instant::now()
        {
            waiting.pop_front();
            queue.judge(packet, Verdict::Accept);
        }
        queue.commit().expect("verdicts can be sent");
    }
}
