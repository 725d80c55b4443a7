//! The daemon's end of the control socket.
//!
//! Everything a client can make it do has a bound: clients, length of a request, time for a request to come, for the
//! driver to answer, and for an answer to be taken. Who passes one is told why, if he still listens, and put out.

mod handler;
mod socket;

use std::fs;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::sleep;

use super::{Ask, CLIENTS_MAX, Failure, Wake};
use handler::{Handler, line};
pub use socket::StartError;
use socket::{failed, inode, listen};

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
    /// For it to come to the end of a round of the audit: large tables take their time.
    pub round: Duration,
    /// For a piece of an answer to be taken.
    pub write: Duration,
}

impl Patience {
    const USUAL: Self = Self {
        request: Duration::from_secs(30),
        driver: Duration::from_secs(5),
        round: Duration::from_secs(60),
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
        let failed = |what| failed(what, path);
        let listener = listen(path)?;
        let inode = inode(path).map_err(failed("look at"))?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed("serve"))?;
        let (stop, stopped) = oneshot::channel();
        let handler = Arc::new(Handler {
            wake,
            asks,
            access,
            patience,
        });
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || serve(&runtime, listener, handler, stopped))
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

fn serve(
    runtime: &Runtime,
    listener: StdListener,
    handler: Arc<Handler>,
    stopped: oneshot::Receiver<()>,
) {
    runtime.spawn(async move {
        match UnixListener::from_std(listener) {
            Ok(listener) => accept(listener, handler).await,
            Err(error) => {
                tracing::error!(event = "defect", %error, "cannot listen on the control socket")
            }
        }
    });
    // Nothing is ever sent: the other half is dropped when it is time to go. Clients are cut off with the runtime.
    let _ = runtime.block_on(stopped);
}

async fn accept(listener: UnixListener, handler: Arc<Handler>) {
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
                let handler = Arc::clone(&handler);
                tokio::spawn(async move {
                    // A client that went away mid-answer is no matter of ours.
                    let _ = handler.converse(stream).await;
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
