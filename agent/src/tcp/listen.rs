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
use tracing::{error, warn};

use super::{HANDSHAKE_TIMEOUT, Report, Reports};
use crate::config::Member;
use crate::keys::PublicKey;
use crate::log::Interval;
use crate::tls::{self, Refusal};

/// Handshakes under way at a time; who comes then waits in the kernel's queue, which is as long.
pub(super) const HANDSHAKES_MAX: usize = 16;
/// After a failed accept, which is for want of descriptors: others may close some meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Of strangers is told at most so often.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

pub(super) type Stream = TlsStream<TcpStream>;

/// A member that may dial us.
pub(super) struct Known {
    pub public_key: PublicKey,
    member: MemberId,
    address: IpAddr,
    /// Takes the connections that it proved to be at the other end of.
    streams: mpsc::Sender<Stream>,
}

impl Known {
    pub fn new(peer: &Member, streams: mpsc::Sender<Stream>) -> Self {
        Self {
            public_key: peer.public_key,
            member: peer.id,
            address: peer.address.ip(),
            streams,
        }
    }
}

pub(super) struct Listener {
    pub socket: std::net::TcpListener,
    pub acceptor: TlsAcceptor,
    pub known: Vec<Known>,
    pub reports: Reports,
}

impl Listener {
    /// Accepts for ever.
    pub async fn run(self) {
        let Self {
            socket,
            acceptor,
            known,
            reports,
        } = self;
        let listener = match TcpListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => return error!(%error, "cannot listen for the members' links"),
        };
        let members: Vec<_> = (known.iter())
            .map(|known| (known.member, known.public_key))
            .collect();
        let mut complaint = Interval::new(LOG_INTERVAL);
        let mut refuse = |refusal: Refusal, from: SocketAddr, reason: &dyn std::fmt::Display| {
            if let Some(suppressed) = complaint.tick() {
                let from = from.ip();
                warn!(%from, %reason, suppressed, "somebody was refused who wanted a link");
            }
            match refusal {
                Refusal::Stranger => Report::Stranger,
                Refusal::Other => Report::Failure,
            }
        };
        let mut handshakes = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if handshakes.len() < HANDSHAKES_MAX => match accepted {
                    Ok((stream, from)) if known.iter().any(|known| known.address == from.ip()) => {
                        let acceptor = acceptor.clone();
                        handshakes.spawn(async move { (from, shake_hands(&acceptor, stream).await) });
                    }
                    Ok((_, from)) => {
                        let reason = "no member that dials this one has the address";
                        reports.send(refuse(Refusal::Stranger, from, &reason)).await;
                    }
                    Err(_) => sleep(ACCEPT_PAUSE).await,
                },
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
