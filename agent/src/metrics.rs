//! What Prometheus reads: OpenMetrics over HTTP, on the loopback or a Unix socket, and only if the configuration says so.
//!
//! The answer is made of a [`Status`](crate::control::answer::Status), asked of the driver as the control socket asks:
//! what is counted has one list, and the texts about it are those of the manual. Of HTTP there is as much as a scraper
//! needs: one `GET` a connection. Everything that a client can make it do has a bound, as on the control socket.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::config::Listen;
use crate::control::{Ask, Wake};

mod text;

/// Scrapers served at a time; more are closed at once.
pub const SCRAPERS_MAX: usize = 4;
/// Request line and headers; what Prometheus sends is a tenth of it.
const REQUEST_BYTES_MAX: usize = 4096;
/// For a request to come, the driver to answer, and the answer to be taken, together.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failed accept, which is for want of descriptors: others may close some meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Metrics {
    socket: Option<PathBuf>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Where a scraper comes in.
enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What every scraper's task shares.
struct Desk {
    wake: Wake,
    asks: mpsc::Sender<Ask>,
}

impl Metrics {
    /// Listens, and serves what the driver answers to `asks`.
    pub fn start(listen: &Listen, wake: Wake, asks: mpsc::Sender<Ask>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (door, socket) = {
            let _context = runtime.enter();
            match listen {
                Listen::Tcp(address) => (Door::Tcp(listen_tcp(*address)?), None),
                Listen::Socket(path) => (Door::Unix(listen_unix(path)?), Some(path.clone())),
            }
        };
        let (stop, stopped) = oneshot::channel();
        let desk = Arc::new(Desk { wake, asks });
        let thread = std::thread::Builder::new()
            .name("metrics".into())
            .spawn(move || serve(&runtime, door, desk, stopped))?;
        Ok(Self {
            socket,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(event = "defect", "the thread of the metrics panicked");
        }
        if let Some(socket) = &self.socket {
            // If somebody else has removed it, it is gone as well.
            let _ = std::fs::remove_file(socket);
        }
    }
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn listen_unix(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let is_socket = |it: std::fs::Metadata| it.file_type().is_socket();
    // One that a killed daemon has left. There is no other daemon: the control socket was free.
    if std::fs::symlink_metadata(path).is_ok_and(is_socket) {
        std::fs::remove_file(path)?;
    }
    let listener = StdUnixListener::bind(path)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

fn serve(runtime: &Runtime, door: Door, desk: Arc<Desk>, stopped: oneshot::Receiver<()>) {
    runtime.spawn(async move {
        let places = Arc::new(Semaphore::new(SCRAPERS_MAX));
        loop {
            let stream: io::Result<Box<dyn Stream>> = match &door {
                Door::Tcp(listener) => listener.accept().await.map(|(it, _)| Box::new(it) as _),
                Door::Unix(listener) => listener.accept().await.map(|(it, _)| Box::new(it) as _),
            };
            let Ok(stream) = stream else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    // A scraper that goes away, or takes too long, comes again.
                    let _ = timeout(PATIENCE, desk.converse(stream)).await;
                    drop(place);
                });
            }
        }
    });
    // Nothing is ever sent: the other half is dropped when it is time to go.
    let _ = runtime.block_on(stopped);
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Desk {
    /// Reads one request and answers it.
    async fn converse(&self, mut stream: Box<dyn Stream>) -> io::Result<()> {
        let mut request = Vec::new();
        let mut bounded = (&mut stream).take(REQUEST_BYTES_MAX as u64);
        while !request.windows(4).any(|it| it == b"\r\n\r\n") {
            if bounded.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let line = request.split(|it| *it == b'\r').next().unwrap_or_default();
        let answer = match line {
            b"GET /metrics HTTP/1.0" | b"GET /metrics HTTP/1.1" => self.metrics().await,
            line if line.starts_with(b"GET ") => answer("404 Not Found", PLAIN, "see /metrics\n"),
            _ => answer("405 Method Not Allowed", PLAIN, "GET /metrics\n"),
        };
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    }

    async fn metrics(&self) -> String {
        if let Some(status) = self.ask(Ask::Status).await
            && let Some(passed) = self.ask(Ask::Accounting).await
        {
            let page = text::render(&status, &passed.since_start);
            return answer("200 OK", text::CONTENT_TYPE, &page);
        }
        answer(
            "503 Service Unavailable",
            PLAIN,
            "the daemon does not answer\n",
        )
    }

    async fn ask<T>(&self, ask: fn(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        self.asks.try_send(ask(sender)).ok()?;
        (self.wake)();
        answer.await.ok()
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

fn answer(status: &str, content_type: &str, body: &str) -> String {
    let bytes = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests;
