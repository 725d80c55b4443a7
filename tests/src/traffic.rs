//! Traffic through the lab: one connection, opened once, that counts what arrives and how long nothing did.
//!
//! A connection that is cut is never opened anew, so what it reports after a failover is true of the same connection.
//! Sockets are opened inside the namespaces of client and server; the threads that use them live in this process.
//!
//! The subtle thing is who speaks first in a UDP flow. A gateway that has no entry takes the client's next datagram for a
//! new flow, and nothing is proven. So after the client's first datagram it is the server that sends and the client that
//! echoes: then only a gateway that knows the flow lets the next datagram in.

use std::fmt;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{Family, Lab, Path};
use crate::netns::wait_until;

/// How long a connection may take to open and bring its first bytes.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// How soon a thread that waits for its socket notices that it is to stop.
const NOTICE_STOP: Duration = Duration::from_millis(20);
/// Between two requests of an interactive connection.
const REQUEST_INTERVAL: Duration = Duration::from_millis(50);
/// Between two datagrams of a UDP flow.
const DATAGRAM_INTERVAL: Duration = Duration::from_millis(10);
/// A bulk stream pauses this long after each piece: 64 KiB every 2 ms are 260 Mbit/s, which leaves two cores their breath.
const BULK_INTERVAL: Duration = Duration::from_millis(2);
/// What a bulk stream writes at once.
const BULK_PIECE_BYTES: usize = 64 * 1024;

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP, a numbered stream from client to server, of which every byte is verified.
    Bulk,
    /// TCP, a request and its reply every 50 ms.
    Interactive,
    /// UDP, numbered datagrams from the server every 10 ms, echoed by the client.
    Datagrams,
}

/// A connection through the lab. Dropping it ends it.
#[derive(Debug)]
pub struct Connection {
    /// What it carries.
    pub kind: Kind,
    /// How it is led.
    pub path: Path,
    /// IPv4 or IPv6.
    pub family: Family,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What a connection has done so far.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Bytes verified, replies, or echoes, by kind.
    pub count: u64,
    /// Datagrams sent that were not echoed; always 0 for TCP.
    pub lost: u64,
    /// The longest time in which nothing arrived, the present silence included.
    pub longest_gap: Duration,
    /// How long nothing has arrived now.
    pub silence: Duration,
    /// Why it can't go on, when the connection was reset, or brought what was not sent.
    pub failure: Option<String>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    tally: Mutex<Tally>,
}

#[derive(Debug)]
struct Tally {
    sent: u64,
    count: u64,
    last: Instant,
    longest_gap: Duration,
    failure: Option<String>,
}

/// Why a connection's thread ended.
enum End {
    /// It was asked to.
    Stopped,
    /// The connection is no more.
    Failed(String),
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> End {
        End::Failed(error.to_string())
    }
}

impl Connection {
    /// Opens a connection, and returns when the first bytes have come through.
    #[track_caller]
    pub fn open(lab: &Lab, kind: Kind, path: Path, family: Family) -> Connection {
        let tally = Tally {
            sent: 0,
            count: 0,
            last: Instant::now(),
            longest_gap: Duration::ZERO,
            failure: None,
        };
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            tally: Mutex::new(tally),
        });
        let threads = match kind {
            Kind::Bulk => {
                let (client, server) = tcp(lab, path, family);
                [
                    shared.spawn(|it| send_bulk(it, client)),
                    shared.spawn(|it| receive_bulk(it, server)),
                ]
            }
            Kind::Interactive => {
                let (client, server) = tcp(lab, path, family);
                [
                    shared.spawn(|it| ask(it, client)),
                    shared.spawn(|it| answer(it, server)),
                ]
            }
            Kind::Datagrams => {
                let (client, server, peer) = udp(lab, path, family);
                [
                    shared.spawn(|it| echo_datagrams(it, client)),
                    shared.spawn(move |it| send_datagrams(it, server, peer)),
                ]
            }
        };
        let connection = Connection {
            kind,
            path,
            family,
            shared,
            threads: threads.into(),
        };
        wait_until("a connection brings its first bytes", OPEN_DEADLINE, || {
            connection.progress().count > 0
        });
        // The gaps of interest begin now: opening is not one of them.
        connection.shared.tally().longest_gap = Duration::ZERO;
        connection
    }

    /// What it has done so far.
    pub fn progress(&self) -> Progress {
        let tally = self.shared.tally();
        let silence = tally.last.elapsed();
        Progress {
            count: tally.count,
            lost: tally.sent.saturating_sub(tally.count),
            longest_gap: tally.longest_gap.max(silence),
            silence,
            failure: tally.failure.clone(),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Bulk => "TCP bulk",
            Kind::Interactive => "TCP interactive",
            Kind::Datagrams => "UDP",
        })
    }
}

impl Shared {
    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        // A tally is right after every statement: a panic elsewhere does not spoil it.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advance(&self, count: u64) {
        let now = Instant::now();
        let mut tally = self.tally();
        tally.longest_gap = tally.longest_gap.max(now - tally.last);
        tally.last = now;
        tally.count += count;
    }

    fn is_stopped(&self) -> Result<(), End> {
        if self.stop.load(Ordering::Relaxed) {
            Err(End::Stopped)
        } else {
            Ok(())
        }
    }

    fn spawn(
        self: &Arc<Shared>,
        work: impl FnOnce(&Shared) -> Result<(), End> + Send + 'static,
    ) -> JoinHandle<()> {
        let shared = Arc::clone(self);
        thread::spawn(move || {
            if let Err(End::Failed(reason)) = work(&shared)
                && shared.is_stopped().is_ok()
            {
                shared.tally().failure.get_or_insert(reason);
            }
        })
    }
}

fn send_bulk(shared: &Shared, mut stream: TcpStream) -> Result<(), End> {
    let mut piece = vec![0; BULK_PIECE_BYTES];
    let mut number = 0;
    loop {
        number = write_numbers(&mut piece, number);
        let mut written = 0;
        while written < piece.len() {
            written += retried(shared, || stream.write(&piece[written..]))?;
        }
        thread::sleep(BULK_INTERVAL);
    }
}

fn receive_bulk(shared: &Shared, mut stream: TcpStream) -> Result<(), End> {
    let mut expected = vec![0; BULK_PIECE_BYTES];
    let mut bytes = vec![0; BULK_PIECE_BYTES];
    let mut number = 0;
    loop {
        number = write_numbers(&mut expected, number);
        let mut position = 0;
        while position < expected.len() {
            let room = expected.len() - position;
            let length = retried(shared, || stream.read(&mut bytes[..room]))?;
            if bytes[..length] != expected[position..position + length] {
                return Err(End::Failed("received what was not sent".to_owned()));
            }
            position += length;
            shared.advance(length as u64);
        }
    }
}

/// Fills a piece of the stream, which is the numbers from 0 on, 8 bytes each, and returns the next number.
fn write_numbers(piece: &mut [u8], first: u64) -> u64 {
    let mut number = first;
    for place in piece.chunks_exact_mut(8) {
        place.copy_from_slice(&number.to_le_bytes());
        number += 1;
    }
    number
}

fn ask(shared: &Shared, mut stream: TcpStream) -> Result<(), End> {
    for number in 0_u64.. {
        let request = number.to_le_bytes();
        stream.write_all(&request)?;
        let mut reply = [0; 8];
        read_whole(shared, &mut stream, &mut reply)?;
        if reply != request {
            return Err(End::Failed(format!(
                "request {number} got the reply of another"
            )));
        }
        shared.advance(1);
        thread::sleep(REQUEST_INTERVAL);
    }
    Ok(())
}

fn answer(shared: &Shared, mut stream: TcpStream) -> Result<(), End> {
    loop {
        let mut request = [0; 8];
        read_whole(shared, &mut stream, &mut request)?;
        stream.write_all(&request)?;
    }
}

fn read_whole(shared: &Shared, stream: &mut TcpStream, bytes: &mut [u8]) -> Result<(), End> {
    let mut position = 0;
    while position < bytes.len() {
        position += retried(shared, || stream.read(&mut bytes[position..]))?;
    }
    Ok(())
}

fn send_datagrams(shared: &Shared, socket: UdpSocket, client: SocketAddr) -> Result<(), End> {
    let mut echoed = None;
    let mut next = Instant::now();
    for number in 0_u64.. {
        shared.tally().sent += 1;
        // A gateway that has lost its way may answer by ICMP; the next datagram tries again.
        let _ = socket.send_to(&number.to_le_bytes(), client);
        next += DATAGRAM_INTERVAL;
        while let Some(rest) = next
            .checked_duration_since(Instant::now())
            .filter(|it| !it.is_zero())
        {
            shared.is_stopped()?;
            socket.set_read_timeout(Some(rest))?;
            let mut bytes = [0; 8];
            if socket
                .recv_from(&mut bytes)
                .is_ok_and(|(length, from)| length == 8 && from == client)
            {
                let echo = u64::from_le_bytes(bytes);
                // An echo that comes twice or out of turn is not progress.
                if echoed < Some(echo) {
                    echoed = Some(echo);
                    shared.advance(1);
                }
            }
        }
    }
    Ok(())
}

fn echo_datagrams(shared: &Shared, socket: UdpSocket) -> Result<(), End> {
    loop {
        let mut bytes = [0; 8];
        let length = retried(shared, || socket.recv(&mut bytes).map(|it| it.max(1)))?;
        let _ = socket.send(&bytes[..length]);
    }
}

/// Repeats a call that waits for a socket until it has moved a byte, failed, or is no longer wanted.
fn retried(
    shared: &Shared,
    mut call: impl FnMut() -> std::io::Result<usize>,
) -> Result<usize, End> {
    loop {
        shared.is_stopped()?;
        match call() {
            Ok(0) => return Err(End::Failed("closed by the other end".to_owned())),
            Ok(length) => return Ok(length),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Opens a TCP connection through the lab and returns both ends.
#[track_caller]
fn tcp(lab: &Lab, path: Path, family: Family) -> (TcpStream, TcpStream) {
    let listener = lab
        .server
        .inside(|| TcpListener::bind((path.listener(family), 0)));
    let listener = listener.expect("the server has the address");
    let port = listener
        .local_addr()
        .expect("a listener has an address")
        .port();
    let client = lab.client.inside(|| {
        let socket = Socket::new(domain(family), Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::new(path.client(family), 0).into())?;
        let server = SocketAddr::new(path.server(family), port);
        socket.connect_timeout(&server.into(), OPEN_DEADLINE)?;
        Ok::<TcpStream, std::io::Error>(socket.into())
    });
    let client =
        client.unwrap_or_else(|error| panic!("cannot connect: {path:?} {family:?}: {error}"));
    let (server, _) = listener.accept().expect("it is connected");
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a socket is open");
        stream
            .set_read_timeout(Some(NOTICE_STOP))
            .expect("a timeout that is not zero");
        stream
            .set_write_timeout(Some(NOTICE_STOP))
            .expect("a timeout that is not zero");
    }
    (client, server)
}

/// Opens a UDP flow through the lab with one datagram from the client; returns both ends, and whom the server sees.
#[track_caller]
fn udp(lab: &Lab, path: Path, family: Family) -> (UdpSocket, UdpSocket, SocketAddr) {
    let server = (lab.server).udp_socket((path.listener(family), 0), OPEN_DEADLINE);
    let port = server.local_addr().expect("a socket has an address").port();
    let client = (lab.client).udp_socket((path.client(family), 0), NOTICE_STOP);
    client
        .connect((path.server(family), port))
        .expect("there is a route");
    client.send(b"open").expect("there is a route");
    let (_, peer) = server
        .recv_from(&mut [0; 8])
        .expect("the client's datagram comes through");
    (client, server, peer)
}

fn domain(family: Family) -> Domain {
    match family {
        Family::Ipv4 => Domain::IPV4,
        Family::Ipv6 => Domain::IPV6,
    }
}
