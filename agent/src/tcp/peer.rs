//! One peer's link: made, served, lost, and made again.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ccp::network::NetworkId;
use ccp::record::MemberId;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, split};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::{TlsConnector, TlsStream};
use tracing::{info, warn};

use super::listen::{Stream, refusal};
use super::place::Place;
use super::{HANDSHAKE_TIMEOUT, Report, Reports, frame};
use crate::config::Member;
use crate::core::LinkMessage;
use crate::identity::PublicKey;
use crate::log::Interval;
use crate::tls::{self, Refusal};

/// Time between two attempts: doubled from one to the other while none works.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A peer that is there answers sooner; one that comes up is dialled anew sooner than TCP would repeat itself.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A peer that takes nothing for so long is as good as dead.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// A link is looked at at most so often.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// What does not work is told at most so often.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What a link is to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Say this.
    Tell(LinkMessage),
    /// See whether the peer is still there, or there again.
    Nudge,
    /// Nothing arrives over this network any longer.
    Leave(NetworkId),
}

/// The link to one peer, whoever dials.
pub(super) struct Link {
    member: MemberId,
    name: String,
    orders: mpsc::Receiver<Order>,
    reports: Reports,
    /// By kind.
    complaints: [Interval; Refusal::KINDS],
}

/// A peer that we dial.
pub(super) struct Dialler {
    pub link: Link,
    /// Over each network, from where to where.
    pub ways: Vec<(Place, SocketAddr)>,
    /// The one that is tried next, or that the link goes over.
    pub way: usize,
    pub connector: TlsConnector,
    /// The one that has to be at the other end.
    pub members: Vec<(MemberId, PublicKey)>,
}

impl Link {
    pub fn new(peer: &Member, orders: mpsc::Receiver<Order>, reports: Reports) -> Self {
        Self {
            member: peer.id,
            name: peer.name.clone(),
            orders,
            reports,
            complaints: [(); Refusal::KINDS].map(|()| Interval::new(LOG_INTERVAL)),
        }
    }

    /// Serves what the listener hands over; each replaces the one before.
    pub async fn serve_each(mut self, mut incoming: mpsc::Receiver<Stream>) {
        let mut next = incoming.recv().await;
        while let Some(stream) = next {
            next = tokio::select! {
                newer = incoming.recv() => newer,
                _ = self.serve(stream, None) => {
                    self.reports.send(Report::Down(self.member)).await;
                    incoming.recv().await
                }
            };
        }
    }

    /// Serves a link until it ends, or its network is to be left; true if the peer said anything.
    async fn serve<S: AsyncRead + AsyncWrite>(
        &mut self,
        stream: S,
        over: Option<NetworkId>,
    ) -> bool {
        // Meant for the link before; what this one needs is told when it is up.
        while self.orders.try_recv().is_ok() {}
        self.reports.send(Report::Up(self.member)).await;
        let (reader, writer) = split(stream);
        let mut heard = false;
        let end = tokio::select! {
            end = hear(reader, self.member, &self.reports, &mut heard) => end,
            end = tell(writer, &mut self.orders, over) => end,
        };
        // That it has ended is told elsewhere.
        if refusal(&end) == Refusal::Denied {
            self.explain(&end);
        }
        heard
    }

    /// Says what a failure means, if an operator should know.
    fn explain(&mut self, error: &io::Error) -> Refusal {
        let refusal = refusal(error);
        let (member, name) = (self.member.get(), &self.name);
        let Some(suppressed) = self.complaints[refusal as usize].tick() else {
            return refusal;
        };
        match refusal {
            Refusal::Stranger => warn!(
                event = "stranger",
                member,
                name,
                suppressed,
                "at the peer's address is somebody with another key than the configured one"
            ),
            Refusal::Denied => warn!(
                event = "key-refused",
                member,
                name,
                suppressed,
                "the peer refuses our key: its configuration has another public_key for this member"
            ),
            Refusal::Other => {
                info!(event = "no-link", member, name, %error, suppressed, "there is no link to the peer yet");
            }
        }
        refusal
    }

    /// Waits for a nudge, at most `pause`.
    async fn rest(&mut self, pause: Duration) {
        let nudged = async {
            // Meant for a link that is gone.
            while let Some(Order::Tell(_) | Order::Leave(_)) = self.orders.recv().await {}
        };
        let _ = timeout(pause, nudged).await;
    }
}

impl Dialler {
    /// Dials for ever.
    pub async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            let heard = match self.dial().await {
                Ok(stream) => {
                    let over = u8::try_from(self.way).ok().and_then(NetworkId::new);
                    let heard = self.link.serve(stream, over).await;
                    let down = Report::Down(self.link.member);
                    self.link.reports.send(down).await;
                    heard
                }
                Err(error) => {
                    self.complain(&error).await;
                    false
                }
            };
            sleep(PAUSE_MIN).await;
            self.way += 1;
            if self.way < self.ways.len() {
                continue;
            }
            self.way = 0;
            pause = match heard {
                true => PAUSE_MIN,
                false => (pause * 2).min(PAUSE_MAX),
            };
            self.link.rest(pause - PAUSE_MIN).await;
        }
    }

    async fn dial(&self) -> io::Result<Stream> {
        let Some((from, to)) = self.ways.get(self.way) else {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        };
        let (socket, to) = from.dialling(*to)?;
        let connect = TcpSocket::from_std_stream(socket.into()).connect(to);
        let stream = timeout(CONNECT_TIMEOUT, connect).await??;
        let handshake = self.connector.connect(tls::no_name(), stream);
        let stream = timeout(HANDSHAKE_TIMEOUT, handshake).await??;
        let (_, state) = stream.get_ref();
        match tls::member(state, &self.members) {
            Some(_) => Ok(TlsStream::from(stream)),
            None => Err(io::Error::other("it speaks another protocol inside TLS")),
        }
    }

    async fn complain(&mut self, error: &io::Error) {
        // A peer that is not there is no failure worth counting: its silence is told of elsewhere.
        if self.link.explain(error) == Refusal::Stranger {
            self.link.reports.send(Report::Stranger).await;
        }
    }
}

/// Reports what the peer says, until it can't be understood or the link is gone.
async fn hear<S: AsyncRead>(
    mut reader: ReadHalf<S>,
    member: MemberId,
    reports: &Reports,
    heard: &mut bool,
) -> io::Error {
    loop {
        match frame::read(&mut reader).await {
            Ok(message) => {
                *heard = true;
                reports.send(Report::Said(member, message)).await;
            }
            Err(error) => return error,
        }
    }
}

/// Does as it is told, until the link is gone.
async fn tell<S: AsyncWrite>(
    mut writer: WriteHalf<S>,
    orders: &mut mpsc::Receiver<Order>,
    over: Option<NetworkId>,
) -> io::Error {
    let mut pinged: Option<Instant> = None;
    while let Some(order) = orders.recv().await {
        let written = match order {
            Order::Tell(message) => {
                timeout(WRITE_TIMEOUT, frame::write(&mut writer, &message)).await
            }
            Order::Leave(network) if over == Some(network) => {
                return io::Error::other("nothing arrives over its network");
            }
            Order::Leave(_) => continue,
            Order::Nudge if pinged.is_some_and(|at| at.elapsed() < PING_INTERVAL) => continue,
            Order::Nudge => {
                pinged = Some(Instant::now());
                timeout(WRITE_TIMEOUT, frame::write_ping(&mut writer)).await
            }
        };
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(_) => return io::ErrorKind::TimedOut.into(),
        }
    }
    io::Error::other("the daemon ends")
}
