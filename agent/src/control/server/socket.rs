//! The socket of the control server in the file system: made, found in the way, told from another daemon's.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Why there is no control socket.
#[derive(Debug)]
pub enum StartError {
    /// Another daemon listens there.
    Taken {
        /// Path of the socket.
        path: PathBuf,
    },
    /// Something that is not a socket is there.
    NotASocket {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The system refused.
    Io {
        /// What was to be done with the socket.
        what: &'static str,
        /// Path of the socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Listens at `path`, in place of a socket that nobody listens on any more.
pub(super) fn listen(path: &Path) -> Result<UnixListener, StartError> {
    let failed = |what| failed(what, path);
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        fs::create_dir(directory).map_err(failed("make the directory of"))?;
    }
    clear(path)?;
    let listener = UnixListener::bind(path).map_err(failed("make"))?;
    fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(failed("set the mode of"))?;
    listener.set_nonblocking(true).map_err(failed("make"))?;
    Ok(listener)
}

/// Removes the socket of a daemon that is gone.
fn clear(path: &Path) -> Result<(), StartError> {
    let failed = |what| failed(what, path);
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
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed("remove the old"))
        }
        Err(error) => Err(failed("look who listens at")(error)),
        Ok(_) => Err(StartError::Taken {
            path: path.to_owned(),
        }),
    }
}

/// Device and inode of the socket at `path`.
pub(super) fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Makes a [`StartError`] of what the system said: this could not be done with the socket at `path`.
pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::Io {
        what,
        path: path.to_owned(),
        error,
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
