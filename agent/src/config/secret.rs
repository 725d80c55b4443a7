//! The secret that all members of a cluster share: 32 bytes, in a file that nobody but its owner can touch.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// 64 digits and an end of line; whoever writes more has written something else.
const FILE_BYTES_MAX: usize = 66;

/// 32 secret bytes. They are wiped when dropped, and never printed.
pub struct Secret(Zeroizing<[u8; 32]>);

/// Why there is no secret.
#[derive(Debug)]
pub struct SecretError {
    file: PathBuf,
    kind: SecretErrorKind,
}

#[derive(Debug)]
enum SecretErrorKind {
    Missing,
    Unreadable(io::Error),
    NotAFile,
    TooOpen { mode: u32 },
    NotHex,
}

impl Secret {
    /// Reads the secret from `path`: 64 hexadecimal digits, of which only the owner of the file knows.
    pub fn load(path: &Path) -> Result<Self, SecretError> {
        read(path).map_err(|kind| SecretError {
            file: path.to_owned(),
            kind,
        })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn from_hex(text: &[u8]) -> Option<Self> {
        let (pairs, rest) = text.as_chunks::<2>();
        let mut bytes = Zeroizing::new([0; 32]);
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return None;
        }
        for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = (nibble(high)? << 4) | nibble(low)?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

fn read(path: &Path) -> Result<Secret, SecretErrorKind> {
    // Without O_NONBLOCK, a FIFO in the place of the file would hold the daemon here for ever.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SecretErrorKind::Missing,
            _ => SecretErrorKind::Unreadable(error),
        })?;
    let metadata = file.metadata().map_err(SecretErrorKind::Unreadable)?;
    if !metadata.is_file() {
        return Err(SecretErrorKind::NotAFile);
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretErrorKind::TooOpen { mode });
    }
    // A buffer that never grows: growing would leave a copy behind that nobody wipes.
    let mut text = Zeroizing::new([0; FILE_BYTES_MAX + 1]);
    let mut len = 0;
    while len < text.len() {
        match (&file)
            .read(&mut text[len..])
            .map_err(SecretErrorKind::Unreadable)?
        {
            0 => break,
            read => len += read,
        }
    }
    Secret::from_hex(text[..len].trim_ascii_end()).ok_or(SecretErrorKind::NotHex)
}

fn nibble(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    Some(u8::try_from(value).expect("a hexadecimal digit is less than 16"))
}

impl SecretError {
    /// The file that is wrong.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What is wrong.
    pub fn reason(&self) -> String {
        match &self.kind {
            SecretErrorKind::Missing => {
                "there is no such file, and members prove with it that they belong together".into()
            }
            SecretErrorKind::Unreadable(error) => format!("the secret cannot be read ({error})"),
            SecretErrorKind::NotAFile => "this is not a regular file".into(),
            SecretErrorKind::TooOpen { mode } => {
                format!("the secret is open to others than its owner (mode {mode:04o})")
            }
            SecretErrorKind::NotHex => {
                "the secret is not 32 bytes in the form of 64 hexadecimal digits".into()
            }
        }
    }

    /// What to do about it.
    pub fn cure(&self) -> String {
        let file = self.file.display();
        match &self.kind {
            SecretErrorKind::Missing | SecretErrorKind::NotHex => format!(
                "make one on one member with `(umask 077; openssl rand -hex 32 > {file})` and copy it to the others"
            ),
            SecretErrorKind::Unreadable(_) => "let the user that ctsync runs as own it".into(),
            SecretErrorKind::NotAFile => {
                "name the file that holds the secret with `secret_file`".into()
            }
            SecretErrorKind::TooOpen { .. } => format!("run `chmod 600 {file}`"),
        }
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}; {}",
            self.file.display(),
            self.reason(),
            self.cure()
        )
    }
}

impl std::error::Error for SecretError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            SecretErrorKind::Unreadable(error) => Some(error),
            SecretErrorKind::Missing
            | SecretErrorKind::NotAFile
            | SecretErrorKind::TooOpen { .. }
            | SecretErrorKind::NotHex => None,
        }
    }
}

#[cfg(test)]
mod tests;
