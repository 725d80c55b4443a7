//! The daemon's end of the control socket.
//!
//! Everything a client can make it do has a bound: clients, length of a request, time for a request to come, for the
//! driver to answer, and for an answer to be taken. Who passes one is told why, if he still listens, and put out.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::answer::{Cursor, SyncStat};
use super::{Ask, CLIENTS_MAX, End, Failure, Request, Total, Verb, Wake};
use crate::udp::speed_mbit;

/// No verb needs more; JSON of twice the length is noise.
const REQUEST_BYTES_MAX: usize = 1024;
/// Rows that the driver gathers at a time: some 10 us of its time, and 100 KB of JSON.
const PAGE_ROWS: usize = 512;
/// After a failed accept, which is for want of descriptors: others may close some meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The control socket; it is closed and removed when this is dropped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    /// Device and inode of our socket: another daemon's at the same path is not ours to remove.
    inode: (u64, u64),
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Why there is no control socket.
#[derive(Debug)]
pub enum StartError {
    /// Another daemon listens there.
    Taken {
        /// Where.
        path: PathBuf,
    },
    /// Something that is not a socket is there.
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// The system refused.
    Io {
        /// What.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// What the clients of a socket may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everything.
    All,
    /// Only what changes nothing.
    Monitoring,
}

/// How long a client may keep the server waiting, and the driver a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a request to come.
    pub request: Duration,
    /// For the driver to answer.
    pub driver: Duration,
    /// For a piece of an answer to be taken.
    pub write: Duration,
}

impl Patience {
    const USUAL: Self = Self {
        request: Duration::from_secs(30),
        driver: Duration::from_secs(5),
        write: Duration::from_secs(5),
    };
}

impl Server {
    /// Listens at `path` and serves until dropped.
    ///
    /// The directory is made if its parent exists. A socket that nobody listens on any more is replaced. Owner and
    /// group of the socket may connect (mode 0660).
    pub fn start(path: &Path, wake: Wake, asks: mpsc::Sender<Ask>) -> Result<Self, StartError> {
        Self::start_with(path, wake, asks, Access::All, Patience::USUAL)
    }

    /// The same for clients that may ask, and change nothing.
    pub fn start_for_monitoring(
        path: &Path,
        wake: Wake,
        asks: mpsc::Sender<Ask>,
    ) -> Result<Self, StartError> {
        Self::start_with(path, wake, asks, Access::Monitoring, Patience::USUAL)
    }

    pub(super) fn start_with(
        path: &Path,
        wake: Wake,
        asks: mpsc::Sender<Ask>,
        access: Access,
        patience: Patience,
    ) -> Result<Self, StartError> {
        let failed = |what| {
            move |error| StartError::Io {
                what,
                path: path.to_owned(),
                error,
            }
        };
        let listener = listen(path)?;
        let inode = inode(path).map_err(failed("look at"))?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed("serve"))?;
        let (stop, stopped) = oneshot::channel();
        let desk = Arc::new(Desk {
            wake,
            asks,
            access,
            patience,
        });
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || serve(&runtime, listener, desk, stopped))
            .map_err(failed("serve"))?;
        Ok(Self {
            path: path.to_owned(),
            inode,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(
                event = "defect",
                "the thread of the control socket panicked"
            );
        }
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            // It cannot fail but by someone else's doing, and then there is nothing to mend here.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn listen(path: &Path) -> Result<StdListener, StartError> {
    let failed = |what| {
        move |error| StartError::Io {
            what,
            path: path.to_owned(),
            error,
        }
    };
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        fs::create_dir(directory).map_err(failed("make the directory of"))?;
    }
    clear(path)?;
    let listener = StdListener::bind(path).map_err(failed("make"))?;
    fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(failed("set the mode of"))?;
    listener.set_nonblocking(true).map_err(failed("make"))?;
    Ok(listener)
}

/// Removes the socket of a daemon that is gone.
fn clear(path: &Path) -> Result<(), StartError> {
    let failed = |what| {
        move |error| StartError::Io {
            what,
            path: path.to_owned(),
            error,
        }
    };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(StartError::NotASocket {
            path: path.to_owned(),
        });
    }
    match StdStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed("remove the old"))
        }
        Err(error) => Err(failed("look who listens at")(error)),
        Ok(_) => Err(StartError::Taken {
            path: path.to_owned(),
        }),
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

fn serve(
    runtime: &Runtime,
    listener: StdListener,
    desk: Arc<Desk>,
    stopped: oneshot::Receiver<()>,
) {
    runtime.spawn(async move {
        match UnixListener::from_std(listener) {
            Ok(listener) => accept(listener, desk).await,
            Err(error) => {
                tracing::error!(event = "defect", %error, "cannot listen on the control socket")
            }
        }
    });
    // Nothing is ever sent: the other half is dropped when it is time to go. Clients are cut off with the runtime.
    let _ = runtime.block_on(stopped);
}

async fn accept(listener: UnixListener, desk: Arc<Desk>) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "cannot accept a client of the control socket");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    // A client that went away mid-answer is no matter of ours.
                    let _ = desk.converse(stream).await;
                    drop(place);
                });
            }
            Err(_) => {
                let line = line(&Failure {
                    error: format!("{CLIENTS_MAX} clients are connected: try again later"),
                });
                // A fresh socket has room for it; it must not wait for this client.
                let _ = stream.try_write(&line);
            }
        }
    }
}

/// What every client's task shares.
struct Desk {
    wake: Wake,
    asks: mpsc::Sender<Ask>,
    access: Access,
    patience: Patience,
}

impl Desk {
    /// Serves one client until it goes, or has to.
    async fn converse(&self, stream: UnixStream) -> io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let mut request = Vec::new();
        loop {
            request.clear();
            let mut bounded = (&mut reader).take(REQUEST_BYTES_MAX as u64);
            let read = bounded.read_until(b'\n', &mut request);
            match timeout(self.patience.request, read).await {
                Ok(read) => read?,
                Err(_) => {
                    return self
                        .refuse(&mut writer, "no request came for too long")
                        .await;
                }
            };
            if request.is_empty() {
                return Ok(());
            }
            if !request.ends_with(b"\n") {
                return self
                    .refuse(&mut writer, "a request is one line of at most 1024 bytes")
                    .await;
            }
            let answered = match serde_json::from_slice(&request) {
                Ok(Request { verb }) if verb.changes() && self.access == Access::Monitoring => {
                    let reason = "this socket is for monitoring and changes nothing: be root, or of the group of the control socket";
                    self.refuse(&mut writer, reason).await
                }
                Ok(Request { verb: Verb::Status }) => self.one_line(&mut writer, Ask::Status).await,
                Ok(Request {
                    verb: Verb::Syncstat,
                }) => match self.ask(Ask::SyncStat).await {
                    Ok(stat) => self.write(&mut writer, &line(&with_speeds(stat))).await,
                    Err(reason) => self.refuse(&mut writer, reason).await,
                },
                Ok(Request { verb: Verb::Flows }) => self.flows(&mut writer).await,
                Ok(Request {
                    verb: Verb::KeysRoll,
                }) => self.one_line(&mut writer, Ask::RollKeys).await,
                Ok(Request {
                    verb: Verb::Explain(flow),
                }) => {
                    let ask = |answer| Ask::Explain(flow, answer);
                    self.one_line(&mut writer, ask).await
                }
                Ok(Request { verb: Verb::Reload }) => match self.ask(Ask::Reload).await {
                    Ok(Ok(reloaded)) => self.write(&mut writer, &line(&reloaded)).await,
                    Ok(Err(reason)) => self.refuse(&mut writer, &reason).await,
                    Err(reason) => self.refuse(&mut writer, reason).await,
                },
                Ok(Request { verb: Verb::Resync }) => self.one_line(&mut writer, Ask::Resync).await,
                Ok(Request { verb: Verb::Audit }) => self.one_line(&mut writer, Ask::Audit).await,
                Ok(Request { verb: Verb::Paths }) => self.one_line(&mut writer, Ask::Paths).await,
                Ok(Request { verb: Verb::Facts }) => self.one_line(&mut writer, Ask::Facts).await,
                Ok(Request {
                    verb: Verb::Accounting,
                }) => self.one_line(&mut writer, Ask::Accounting).await,
                Ok(Request {
                    verb: Verb::Services,
                }) => self.one_line(&mut writer, Ask::Services).await,
                Ok(Request {
                    verb: Verb::AuditNow,
                }) => self.one_line(&mut writer, Ask::AuditNow).await,
                Ok(Request {
                    verb: Verb::Roles(request),
                }) => {
                    let ask = |answer| Ask::Roles(request, answer);
                    self.one_line(&mut writer, ask).await
                }
                Ok(Request {
                    verb: Verb::Mode(request),
                }) => {
                    let ask = |answer| Ask::Mode(request, answer);
                    self.one_line(&mut writer, ask).await
                }
                Err(error) => {
                    self.refuse(&mut writer, &format!("this request is not known: {error}"))
                        .await
                }
            };
            answered?;
        }
    }

    async fn one_line<T: Serialize>(
        &self,
        writer: &mut OwnedWriteHalf,
        ask: impl FnOnce(oneshot::Sender<T>) -> Ask,
    ) -> io::Result<()> {
        match self.ask(ask).await {
            Ok(answer) => self.write(writer, &line(&answer)).await,
            Err(reason) => self.refuse(writer, reason).await,
        }
    }

    async fn flows(&self, writer: &mut OwnedWriteHalf) -> io::Result<()> {
        let mut from = Cursor::default();
        let mut count = 0;
        loop {
            let page = match self
                .ask(|answer| Ask::Flows {
                    from,
                    limit: PAGE_ROWS,
                    answer,
                })
                .await
            {
                Ok(page) => page,
                Err(reason) => return self.refuse(writer, reason).await,
            };
            count += page.rows.len() as u64;
            let mut lines = Vec::new();
            for row in &page.rows {
                put_line(&mut lines, row);
            }
            self.write(writer, &lines).await?;
            match page.next {
                Some(next) => from = next,
                None => {
                    return self
                        .write(
                            writer,
                            &line(&End {
                                end: Total { count },
                            }),
                        )
                        .await;
                }
            }
        }
    }

    /// What the driver answers.
    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, &'static str> {
        let (sender, answer) = oneshot::channel();
        self.asks
            .try_send(ask(sender))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => "the daemon is too busy to answer",
                mpsc::error::TrySendError::Closed(_) => "the daemon is stopping",
            })?;
        (self.wake)();
        match timeout(self.patience.driver, answer).await {
            Ok(answer) => answer.map_err(|_| "the daemon is stopping"),
            Err(_) => Err("the daemon is too busy to answer"),
        }
    }

    async fn refuse(&self, writer: &mut OwnedWriteHalf, reason: &str) -> io::Result<()> {
        self.write(
            writer,
            &line(&Failure {
                error: reason.to_owned(),
            }),
        )
        .await?;
        Err(io::Error::other("the client was refused"))
    }

    async fn write(&self, writer: &mut OwnedWriteHalf, lines: &[u8]) -> io::Result<()> {
        match timeout(self.patience.write, writer.write_all(lines)).await {
            Ok(written) => written,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Interfaces say how fast they are only when their drivers have time, which the loop has not.
fn with_speeds(mut stat: SyncStat) -> SyncStat {
    for network in &mut stat.networks {
        network.speed_mbit = speed_mbit(&network.interface);
    }
    stat
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::new();
    put_line(&mut line, value);
    line
}

fn put_line(lines: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(&mut *lines, value).expect("names, numbers and text have a JSON form");
    lines.push(b'\n');
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Taken { path } => write!(
                f,
                "another ctsync answers at {}; stop it first, or set `control.socket` to another path",
                path.display()
            ),
            Self::NotASocket { path } => write!(
                f,
                "{} is in the way and not a socket; remove it, or set `control.socket` to another path",
                path.display()
            ),
            Self::Io { what, path, error } => {
                write!(
                    f,
                    "cannot {what} the control socket {} ({error}); check `control.socket`",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Taken { .. } | Self::NotASocket { .. } => None,
        }
    }
}
