//! Short TCP connections at a steady rate: each is opened, asks, is answered, and is closed. Every one counts: one that fails,
//! or takes longer than `LOST_AFTER`, is lost.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{Family, Lab, Path};

/// A connection that has not come to its end by then is lost: TCP has tried its SYN four times.
const LOST_AFTER: Duration = Duration::from_secs(20);
/// Threads that open connections, so that one that waits holds up few others.
const CALLERS: u32 = 100;
/// Threads that answer.
const ANSWERERS: u32 = 4;

/// The connections, while they go on.
#[derive(Debug)]
pub struct Shorts {
    shared: Arc<Shared>,
    callers: Vec<JoinHandle<()>>,
    answerers: Vec<JoinHandle<()>>,
    server: SocketAddr,
    began: Instant,
}

/// How they went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Connections opened, answered and closed.
    pub done: u64,
    /// What became of those that were not.
    pub lost: Vec<String>,
    /// The longest that one took.
    pub slowest: Duration,
    /// How many a second there were.
    pub rate: u64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicU64,
    slowest: Mutex<Duration>,
    lost: Mutex<Vec<String>>,
}

impl Shorts {
    /// Begins to open `rate` of them a second, from client to server.
    #[track_caller]
    pub fn begin(lab: &Lab, rate: u32) -> Shorts {
        let listen = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&SocketAddr::new(Path::Plain.listener(Family::Ipv4), 0).into())?;
            socket.listen(1024)?;
            Ok::<TcpListener, std::io::Error>(socket.into())
        };
        let listener = lab
            .server
            .inside(listen)
            .expect("the server has the address");
        let server = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared::default());
        let answerers = (0..ANSWERERS).map(|_| {
            let listener = listener.try_clone().expect("descriptors are there");
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.answer(&listener))
        });
        let answerers = answerers.collect();
        let pace = Duration::from_secs(1) * CALLERS / rate;
        let callers = (0..CALLERS).map(|number| {
            let shared = Arc::clone(&shared);
            let first = pace * number / CALLERS;
            lab.client
                .spawn_thread(move || shared.call(server, first, pace))
        });
        Shorts {
            callers: callers.collect(),
            answerers,
            shared,
            server,
            began: Instant::now(),
        }
    }

    /// How many have come to their end.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Opens no more, and waits for those that are open.
    #[track_caller]
    pub fn end(self, lab: &Lab) -> Outcome {
        self.shared.stop.store(true, Ordering::Relaxed);
        let took = self.began.elapsed();
        for caller in self.callers {
            caller.join().expect("a caller does not panic");
        }
        // Those who answer wait for another connection: they get one each.
        for _ in &self.answerers {
            let _ = lab.server.inside(|| TcpStream::connect(self.server));
        }
        for answerer in self.answerers {
            answerer.join().expect("an answerer does not panic");
        }
        let done = self.shared.done.load(Ordering::Relaxed);
        Outcome {
            done,
            lost: lock(&self.shared.lost).clone(),
            slowest: *lock(&self.shared.slowest),
            rate: done * 1000 / u64::try_from(took.as_millis().max(1)).expect("tests are short"),
        }
    }
}

impl Shared {
    fn call(&self, server: SocketAddr, first: Duration, pace: Duration) {
        let mut next = Instant::now() + first;
        while !self.stop.load(Ordering::Relaxed) {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            let began = Instant::now();
            // What was missed is not made up for.
            next = (next + pace).max(began);
            match one(server) {
                Ok(()) => {
                    self.done.fetch_add(1, Ordering::Relaxed);
                    let mut slowest = lock(&self.slowest);
                    *slowest = (*slowest).max(began.elapsed());
                }
                Err(error) => lock(&self.lost).push(error.to_string()),
            }
        }
    }

    fn answer(&self, listener: &TcpListener) {
        while let Ok((mut stream, _)) = listener.accept() {
            // The server itself calls only to say that this is the end.
            let is_client =
                (stream.peer_addr()).is_ok_and(|it| it.ip() == Path::Plain.client(Family::Ipv4));
            if !is_client && self.stop.load(Ordering::Relaxed) {
                return;
            }
            let mut request = [0; 8];
            let _ = stream.set_read_timeout(Some(LOST_AFTER));
            if stream.read_exact(&mut request).is_ok() {
                let _ = stream.write_all(&request);
            }
        }
    }
}

fn one(server: SocketAddr) -> std::io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(Path::Plain.client(Family::Ipv4), 0).into())?;
    socket.connect_timeout(&server.into(), LOST_AFTER)?;
    let mut stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(LOST_AFTER))?;
    stream.write_all(b"question")?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
