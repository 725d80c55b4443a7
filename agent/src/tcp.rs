//! Links: one TCP connection to each peer, inside TLS, over which members hand each other the keys of their
//! datagrams, and whole tables.
//!
//! Of two members the one with the smaller number dials; it tries again for ever, at once when the peer is heard under
//! a key that we have not. All of this runs on a thread of its own that knows nothing of flows: what comes is a [`Report`]
//! in a bounded queue, what goes is taken from a bounded queue a peer. A link that nobody reads from, or that says
//! nonsense, ends and is made anew; whoever is not a configured member is refused before anything he says is looked at.

mod frame;
mod listen;
mod peer;
mod place;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ccp::network::NetworkId;
use ccp::record::MemberId;
use ccp::snapshot;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::config::{Config, Member};
use crate::control::Wake;
use crate::core::LinkMessage;
use crate::identity::MemberKey;
use crate::tls::Identity;
use listen::{Door, Listener};
use peer::{Dialler, Link, Order};
use place::Place;

/// Reports that wait for the driver; a link whose peer says more waits itself.
const REPORTS_MAX: usize = 64;
/// Orders that wait for a link: more than is said to a peer before it takes something in (keys and nudges, a full sync in
/// each direction), so that what has to be said never waits for room.
const ORDERS_MAX: usize = 16 + snapshot::WINDOW as usize;
/// Who has not proven himself by then is put out.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// An idle connection is probed after, and every, so long; it is dead when the probes are not answered so many times,
/// or what was sent is not acknowledged for so long.
const KEEPALIVE: Duration = Duration::from_secs(1);
const KEEPALIVE_RETRIES: u32 = 3;
const USER_TIMEOUT: Duration = Duration::from_secs(4);

/// What becomes of links.
#[derive(Debug)]
pub enum Report {
    /// There is a link to a peer; it replaces one that there was.
    Up(MemberId),
    /// There is none any longer.
    Down(MemberId),
    /// A peer said something.
    Said(MemberId, LinkMessage),
    /// Somebody was refused who has not the key of the member that he should be.
    Stranger,
    /// A handshake failed otherwise.
    Failure,
}

/// All links of this member; they end when this is dropped.
#[derive(Debug)]
pub struct Links {
    peers: Vec<(MemberId, mpsc::Sender<Order>)>,
    reports: mpsc::Receiver<Report>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Where links report to.
#[derive(Clone)]
struct Reports {
    queue: mpsc::Sender<Report>,
    wake: Arc<Wake>,
}

impl Reports {
    async fn send(&self, report: Report) {
        // It fails when the daemon ends, and we with it.
        let _ = self.queue.send(report).await;
        (self.wake)();
    }
}

impl Links {
    /// Listens for those who dial us, and dials the others, on every network. `wake` is called after each report.
    pub fn start(config: &Config, key: &MemberKey, wake: Wake) -> io::Result<Self> {
        let identity = Identity::new(key);
        let (queue, reports) = mpsc::channel(REPORTS_MAX);
        let reporter = Reports {
            queue,
            wake: Arc::new(wake),
        };
        let mut orders = Vec::new();
        let mut diallers = Vec::new();
        let mut listeners = Vec::new();
        let mut known = Vec::new();
        for peer in &config.peers {
            let (sender, receiver) = mpsc::channel(ORDERS_MAX);
            orders.push((peer.id, sender));
            let link = Link::new(peer, receiver, reporter.clone());
            if peer.id < config.this.id {
                let (streams, incoming) = mpsc::channel(1);
                known.push(listen::Known::new(peer, streams));
                listeners.push((link, incoming));
            } else {
                let tls = identity
                    .dialling(&peer.public_key)
                    .map_err(io::Error::other)?;
                diallers.push(Dialler {
                    link,
                    ways: ways(config, peer),
                    way: 0,
                    connector: TlsConnector::from(tls),
                    members: vec![(peer.id, peer.public_key)],
                });
            }
        }
        let tls = identity
            .listening(known.iter().map(|known| known.public_key).collect())
            .map_err(io::Error::other)?;
        let listener = Listener {
            doors: places(config)
                .into_iter()
                .map(Door::open)
                .collect::<io::Result<_>>()?,
            acceptor: TlsAcceptor::from(tls),
            known,
            reports: reporter,
        };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("links".into())
            .spawn(move || serve(&runtime, listener, listeners, diallers, stopped))?;
        Ok(Self {
            peers: orders,
            reports,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The next thing that happened.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.try_recv().ok()
    }

    /// True if [`Self::tell`] will take something for the peer now.
    pub fn has_room(&self, member: MemberId) -> bool {
        self.orders(member)
            .is_some_and(|orders| orders.capacity() > 0)
    }

    /// Tells a peer something. It is dropped if there is no link; the next one begins anew.
    pub fn tell(&self, member: MemberId, message: LinkMessage) {
        self.order(member, Order::Tell(message));
    }

    /// The peer was heard, but under a key that we have not: the link to it is worth a look.
    pub fn nudge(&self, member: MemberId) {
        self.order(member, Order::Nudge);
    }

    /// Nothing arrives over this network: a link that goes over it is made anew over another.
    pub fn leave(&self, member: MemberId, network: NetworkId) {
        self.order(member, Order::Leave(network));
    }

    fn order(&self, member: MemberId, order: Order) {
        if let Some(orders) = self.orders(member) {
            // Full: somebody forges datagrams, and one nudge is as good as eight; or nobody asked `has_room`.
            let _ = orders.try_send(order);
        }
    }

    fn orders(&self, member: MemberId) -> Option<&mpsc::Sender<Order>> {
        let peer = self.peers.iter().find(|(peer, _)| *peer == member);
        peer.map(|(_, orders)| orders)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(event = "defect", "the thread of the links panicked");
        }
    }
}

fn serve(
    runtime: &Runtime,
    listener: Listener,
    listeners: Vec<(Link, mpsc::Receiver<listen::Stream>)>,
    diallers: Vec<Dialler>,
    stopped: oneshot::Receiver<()>,
) {
    runtime.spawn(listener.run());
    for (link, incoming) in listeners {
        runtime.spawn(link.serve_each(incoming));
    }
    for dialler in diallers {
        runtime.spawn(dialler.run());
    }
    // Nothing is ever sent: the other half is dropped when it is time to go. Links are cut off with the runtime.
    let _ = runtime.block_on(stopped);
}

/// This member's place on each network.
fn places(config: &Config) -> Vec<Place> {
    (config.networks.iter().zip(&config.this.addresses))
        .map(|(network, address)| Place {
            address: *address,
            device: network.interface.to_string(),
        })
        .collect()
}

/// From each of them to a peer.
fn ways(config: &Config, peer: &Member) -> Vec<(Place, SocketAddr)> {
    let places = places(config).into_iter();
    places.zip(peer.addresses.iter().copied()).collect()
}

#[cfg(test)]
mod tests;
