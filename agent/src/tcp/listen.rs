//! Those who dial us: accepted from the addresses of members alone, and given a bounded time to prove who they are.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ccp::record::MemberId;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsStream};
use tracing::warn;

use super::place::Place;
use super::{HANDSHAKE_TIMEOUT, Report, Reports};
use crate::config::Member;
use crate::identity::PublicKey;
use crate::log::Interval;
use crate::tls::{self, Refusal};

/// Handshakes under way at a time; who comes then waits in the kernel's queue, which is as long.
pub(super) const HANDSHAKES_MAX: usize = 16;
/// After a failed accept, which is for want of descriptors: others may close some meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked whether an interface is there, and the one that it was.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Of strangers is told at most so often.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

pub(super) type Stream = TlsStream<TcpStream>;

/// A member that may dial us.
pub(super) struct Known {
    pub public_key: PublicKey,
    member: MemberId,
    addresses: Vec<IpAddr>,
    /// Takes the connections that it proved to be at the other end of.
    streams: mpsc::Sender<Stream>,
}

impl Known {
    pub fn new(peer: &Member, streams: mpsc::Sender<Stream>) -> Self {
        Self {
            public_key: peer.public_key,
            member: peer.id,
            addresses: peer.addresses.iter().map(SocketAddr::ip).collect(),
            streams,
        }
    }
}

/// Where members come in: the socket on one network, whose interface may come and go.
pub(super) struct Door {
    place: Place,
    /// The socket, and the number of the interface that it belongs to.
    open: Option<(std::net::TcpListener, u32)>,
}

impl Door {
    /// An error says that somebody else listens there; if the interface is not there, it may come.
    pub fn open(place: Place) -> io::Result<Self> {
        match place.listen() {
            Ok(open) => Ok(Self {
                place,
                open: Some(open),
            }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
            Err(_) => Ok(Self { place, open: None }),
        }
    }

    /// Accepts for ever; looks once a second whether the interface is there, and the one that it was.
    async fn accept(mut self, queue: mpsc::Sender<(TcpStream, SocketAddr)>) {
        loop {
            let opened = self.open.take().map_or_else(|| self.place.listen(), Ok);
            if let Ok((socket, index)) = opened
                && let Ok(listener) = TcpListener::from_std(socket)
            {
                self.accept_until_left(&listener, index, &queue).await;
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    async fn accept_until_left(
        &self,
        listener: &TcpListener,
        index: u32,
        queue: &mpsc::Sender<(TcpStream, SocketAddr)>,
    ) {
        loop {
            match timeout(LOOK_INTERVAL, listener.accept()).await {
                Ok(Ok(accepted)) => {
                    // It fails when the daemon ends, and we with it.
                    let _ = queue.send(accepted).await;
                }
                Ok(Err(_)) => sleep(ACCEPT_PAUSE).await,
                Err(_) if self.place.has_left(index, listener) => return,
                Err(_) => {}
            }
        }
    }
}

pub(super) struct Listener {
    pub doors: Vec<Door>,
    pub acceptor: TlsAcceptor,
    pub known: Vec<Known>,
    pub reports: Reports,
}

impl Listener {
    /// Accepts for ever.
    pub async fn run(self) {
        let Self {
            doors,
            acceptor,
            known,
            reports,
        } = self;
        let (queue, mut accepted) = mpsc::channel(1);
        for door in doors {
            tokio::spawn(door.accept(queue.clone()));
        }
        drop(queue);
        let members: Vec<_> = (known.iter())
            .map(|known| (known.member, known.public_key))
            .collect();
        let mut complaints = [(); Refusal::KINDS].map(|()| Interval::new(LOG_INTERVAL));
        let mut refuse = |refusal: Refusal, from: SocketAddr, reason: &dyn std::fmt::Display| {
            if let Some(suppressed) = complaints[refusal as usize].tick() {
                let from = from.ip();
                warn!(event = "stranger", %from, %reason, suppressed, "refused a connection to the link port");
            }
            match refusal {
                Refusal::Stranger => Report::Stranger,
                Refusal::Denied | Refusal::Other => Report::Failure,
            }
        };
        let mut handshakes = JoinSet::new();
        loop {
            tokio::select! {
                Some((stream, from)) = accepted.recv(), if handshakes.len() < HANDSHAKES_MAX => {
                    if known.iter().any(|known| known.addresses.contains(&from.ip())) {
                        let acceptor = acceptor.clone();
                        handshakes.spawn(async move { (from, shake_hands(&acceptor, stream).await) });
                    } else {
                        let reason = "no member that dials this one has the address";
                        reports.send(refuse(Refusal::Stranger, from, &reason)).await;
                    }
                }
                Some(done) = handshakes.join_next() => {
                    let Ok((from, shaken)) = done else { continue };
                    let Err(error) = shaken.and_then(|stream| hand_over(stream, &members, &known))
                    else {
                        continue;
                    };
                    let report = match refusal(&error) {
                        Refusal::Stranger => {
                            let reason = "it has the key of no member that dials this one";
                            refuse(Refusal::Stranger, from, &reason)
                        }
                        Refusal::Denied => {
                            let reason = "it refuses our key: its configuration has another public_key for this member";
                            refuse(Refusal::Denied, from, &reason)
                        }
                        Refusal::Other => refuse(Refusal::Other, from, &error),
                    };
                    reports.send(report).await;
                }
            }
        }
    }
}

async fn shake_hands(acceptor: &TlsAcceptor, stream: TcpStream) -> io::Result<Stream> {
    match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(accepted) => accepted.map(TlsStream::from),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn hand_over(stream: Stream, members: &[(MemberId, PublicKey)], known: &[Known]) -> io::Result<()> {
    let (_, state) = stream.get_ref();
    let member = tls::member(state, members)
        .ok_or_else(|| io::Error::other("it speaks another protocol inside TLS"))?;
    if let Some(known) = known.iter().find(|known| known.member == member) {
        // Full: one that came a moment ago is there, and the peer will dial again if it does not want that.
        let _ = known.streams.try_send(stream);
    }
    Ok(())
}

/// What a failed handshake says about the other end.
pub(super) fn refusal(error: &io::Error) -> Refusal {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.map_or(Refusal::Other, Refusal::of)
}
