//! TCP connections opened one after the other by several clients at a time, and how long each took to open.
//!
//! A connection is used before it counts: the client sends, the server answers and closes, the client sees the end.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::lab::{Family, Lab, Path};
use crate::netns::Namespace;

/// How long a connection may take to open before it counts as failed.
pub const OPEN_DEADLINE: Duration = Duration::from_secs(20);

/// The client's port of the first connection; each has the one after. A port that the machine chooses may be that of one that
/// closed a moment ago, whose last packets are still being told.
const PORT_FIRST: u16 = 10_000;

/// How long connections took to open, the shortest first.
#[derive(Clone, Debug, Default)]
pub struct Connects {
    sorted: Vec<Duration>,
    /// Those that did not open, or not to their end.
    pub failed: usize,
}

impl Connects {
    /// How long one took to open, or that it failed; they are sorted at the end.
    fn note(&mut self, took: std::io::Result<Duration>) {
        match took {
            Ok(took) => self.sorted.push(took),
            Err(_) => self.failed += 1,
        }
    }

    /// The time that so many in a hundred were within.
    pub fn percentile(&self, percent: usize) -> Duration {
        let at = (self.sorted.len() * percent).div_ceil(100).max(1) - 1;
        self.sorted.get(at).copied().unwrap_or_default()
    }

    /// These too.
    pub fn extend(&mut self, others: Connects) {
        self.sorted.extend(others.sorted);
        self.sorted.sort_unstable();
        self.failed += others.failed;
    }

    /// How many opened.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// How many took that long or longer.
    pub fn at_least(&self, limit: Duration) -> usize {
        self.sorted.len() - self.sorted.partition_point(|it| *it < limit)
    }
}

impl std::fmt::Display for Connects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} connects: p50 {:.1?}, p99 {:.1?}, longest {:.1?}, {} took 100 ms or more, {} failed",
            self.count(),
            self.percentile(50),
            self.percentile(99),
            self.percentile(100),
            self.at_least(Duration::from_millis(100)),
            self.failed
        )
    }
}

/// Opens `count` connections by a path, `clients` at a time.
#[track_caller]
pub fn connect(lab: &Lab, path: Path, family: Family, clients: usize, count: usize) -> Connects {
    connect_within(lab, path, family, clients, count, OPEN_DEADLINE)
}

/// As [`connect`], with how long a connection may take to open before it counts as failed.
#[track_caller]
pub fn connect_within(
    lab: &Lab,
    path: Path,
    family: Family,
    clients: usize,
    count: usize,
    patience: Duration,
) -> Connects {
    let addresses = [path.client(family), path.server(family)];
    let listener = path.listener(family);
    between(
        [&lab.client, &lab.server],
        addresses,
        listener,
        [clients, count],
        patience,
    )
}

/// The same between any two machines.
#[track_caller]
pub fn between(
    [client, server]: [&Namespace; 2],
    [from, to]: [IpAddr; 2],
    listen_on: IpAddr,
    [clients, count]: [usize; 2],
    patience: Duration,
) -> Connects {
    let listener = server.inside(|| {
        let address = SocketAddr::new(listen_on, 0);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.bind(&address.into())?;
        // More than come at a time: one SYN too many would be dropped, and sent again.
        socket.listen(4096)?;
        Ok::<TcpListener, std::io::Error>(socket.into())
    });
    let listener = listener.expect("the server has the address");
    let port = listener.local_addr().expect("it is bound").port();
    let served = thread::spawn(move || serve(&listener));
    let to = SocketAddr::new(to, port);
    let (next, connects) = (AtomicUsize::new(0), Mutex::new(Connects::default()));
    client.inside(|| {
        thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return;
                        }
                        let from =
                            SocketAddr::new(from, PORT_FIRST + u16::try_from(number).expect("few"));
                        let took = open_and_use(from, to, patience);
                        connects.lock().expect("nobody panics with it").note(took);
                    }
                });
            }
        });
    });
    // The one that ends the server comes from beside it.
    server.inside(|| drop(std::net::TcpStream::connect((listen_on, port))));
    served.join().expect("the server does not panic");
    let mut connects = connects.into_inner().expect("nobody panics with it");
    connects.sorted.sort_unstable();
    connects
}

/// Until a connection comes from its own address.
fn serve(listener: &TcpListener) {
    let own = listener.local_addr().expect("it is bound").ip();
    while let Ok((mut stream, from)) = listener.accept() {
        if from.ip() == own {
            return;
        }
        thread::spawn(move || {
            let _ = stream.set_read_timeout(Some(OPEN_DEADLINE));
            let mut request = [0; 8];
            if stream.read_exact(&mut request).is_ok() {
                let _ = stream.write_all(&request);
            }
        });
    }
}

fn open_and_use(from: SocketAddr, to: SocketAddr, patience: Duration) -> std::io::Result<Duration> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&from.into())?;
    let start = Instant::now();
    socket.connect_timeout(&to.into(), patience)?;
    let took = start.elapsed();
    let mut stream = std::net::TcpStream::from(socket);
    stream.set_read_timeout(Some(OPEN_DEADLINE))?;
    stream.write_all(b"question")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if answer == b"question" {
        Ok(took)
    } else {
        Err(std::io::ErrorKind::InvalidData.into())
    }
}
