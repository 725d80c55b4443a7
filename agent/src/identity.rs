//! The key of a member: what it proves its identity with. Its public half stands in the configuration of every member.
//!
//! A file holds it as `openssl genpkey -algorithm ed25519` writes one too: PKCS#8 (RFC 8410) in PEM, which only its
//! owner may read. [`MemberKey::create`] makes such a file, [`MemberKey::load`] reads it.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::SigningKey;
use zeroize::Zeroizing;

/// Where the key is when nobody says otherwise.
pub const DEFAULT_FILE: &str = "/etc/ctsync/member.key";
/// What systemd calls the key when it passes it (`LoadCredential=member.key:...`).
const CREDENTIAL: &str = "member.key";

const BEGIN: &[u8] = b"-----BEGIN PRIVATE KEY-----";
const END: &[u8] = b"-----END PRIVATE KEY-----";
/// A key takes 119 bytes; with the public half in it, and other people's line lengths, less than twice that.
const FILE_BYTES_MAX: usize = 512;
/// What stands before the 32 bytes of a private key: `PrivateKeyInfo` of RFC 8410 section 7.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
];

/// The public half of a member's key: 32 bytes, written as 44 characters of base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

/// Text that is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKeyError {
    /// It is not base64.
    NotBase64,
    /// It is, but not of 32 bytes.
    Length {
        /// But of so many.
        bytes: usize,
    },
}

/// A member's key. It is never printed.
#[derive(Clone)]
pub struct MemberKey {
    public: PublicKey,
    signing: Arc<dyn SigningKey>,
}

/// Why there is no key.
#[derive(Debug)]
pub struct KeyError {
    file: PathBuf,
    kind: KeyErrorKind,
}

#[derive(Debug)]
enum KeyErrorKind {
    Missing,
    Unreadable(io::Error),
    NotAFile,
    TooOpen { mode: u32 },
    NotAKey,
    Exists,
    Unwritable(io::Error),
    NoRandomNumbers,
}

impl PublicKey {
    /// The bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let bytes = STANDARD
            .decode(text)
            .map_err(|_| PublicKeyError::NotBase64)?;
        match bytes.try_into() {
            Ok(bytes) => Ok(Self(bytes)),
            Err(bytes) => Err(PublicKeyError::Length { bytes: bytes.len() }),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl MemberKey {
    /// Reads the key in the file at `path`.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        read(path).map_err(|kind| KeyError {
            file: path.to_owned(),
            kind,
        })
    }

    /// Makes a key, and a file for it that nobody but its owner can read. A file that is there stays as it is.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        create(path).map_err(|kind| KeyError {
            file: path.to_owned(),
            kind,
        })
    }

    /// The half that others may know.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The other half, as TLS takes it.
    pub fn signing(&self) -> Arc<dyn SigningKey> {
        Arc::clone(&self.signing)
    }

    /// `None` if this is not a key, or its public half is not of its private one.
    fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
        let public = PublicKey(pair.public_key().as_ref().try_into().ok()?);
        let signing =
            rustls::crypto::ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(der)).ok()?;
        Some(Self { public, signing })
    }
}

impl fmt::Debug for MemberKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

/// Where a member's key is: what systemd passes stands in for a file that the configuration does not name.
pub fn file(configured: &Path) -> PathBuf {
    credential(
        configured,
        std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
    )
}

fn credential(configured: &Path, directory: Option<PathBuf>) -> PathBuf {
    let passed = directory.map(|directory| directory.join(CREDENTIAL));
    match passed {
        Some(passed) if configured == Path::new(DEFAULT_FILE) && passed.exists() => passed,
        Some(_) | None => configured.to_owned(),
    }
}

fn read(path: &Path) -> Result<MemberKey, KeyErrorKind> {
    // Without O_NONBLOCK, a FIFO in the place of the file would hold the daemon here for ever.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => KeyErrorKind::Missing,
            _ => KeyErrorKind::Unreadable(error),
        })?;
    let metadata = file.metadata().map_err(KeyErrorKind::Unreadable)?;
    if !metadata.is_file() {
        return Err(KeyErrorKind::NotAFile);
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyErrorKind::TooOpen { mode });
    }
    // A buffer that never grows: growing would leave a copy behind that nobody wipes.
    let mut text = Zeroizing::new([0; FILE_BYTES_MAX + 1]);
    let mut len = 0;
    while len < text.len() {
        match (&file)
            .read(&mut text[len..])
            .map_err(KeyErrorKind::Unreadable)?
        {
            0 => break,
            read => len += read,
        }
    }
    from_pem(&text[..len]).ok_or(KeyErrorKind::NotAKey)
}

fn from_pem(text: &[u8]) -> Option<MemberKey> {
    let body = text.trim_ascii().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let mut digits = Zeroizing::new([0; FILE_BYTES_MAX]);
    let mut len = 0;
    for digit in body.iter().filter(|byte| !byte.is_ascii_whitespace()) {
        *digits.get_mut(len)? = *digit;
        len += 1;
    }
    let mut der = Zeroizing::new([0; FILE_BYTES_MAX]);
    let len = STANDARD.decode_slice(digits.get(..len)?, &mut *der).ok()?;
    MemberKey::from_pkcs8(der.get(..len)?)
}

fn create(path: &Path) -> Result<MemberKey, KeyErrorKind> {
    let mut der = Zeroizing::new([0; PKCS8_PREFIX.len() + 32]);
    let (prefix, seed) = der.split_at_mut(PKCS8_PREFIX.len());
    prefix.copy_from_slice(&PKCS8_PREFIX);
    SystemRandom::new()
        .fill(seed)
        .map_err(|_| KeyErrorKind::NoRandomNumbers)?;
    let mut file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => KeyErrorKind::Exists,
            _ => KeyErrorKind::Unwritable(error),
        })?;
    let mut digits = Zeroizing::new([0; 64]);
    let len = STANDARD
        .encode_slice(der.as_slice(), &mut *digits)
        .expect("48 bytes are 64 digits");
    let written = [BEGIN, b"\n", &digits[..len], b"\n", END, b"\n"]
        .iter()
        .try_for_each(|part| file.write_all(part))
        .and_then(|()| file.sync_all());
    if let Err(error) = written {
        // A key that is cut off helps nobody, and would be in the way the next time.
        let _ = std::fs::remove_file(path);
        return Err(KeyErrorKind::Unwritable(error));
    }
    Ok(MemberKey::from_pkcs8(der.as_slice()).expect("any 32 bytes are a private key"))
}

impl KeyError {
    /// The file that is wrong.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What is wrong.
    pub fn reason(&self) -> String {
        match &self.kind {
            KeyErrorKind::Missing => {
                "there is no such file, and a member proves with its key who it is".into()
            }
            KeyErrorKind::Unreadable(error) => format!("the key cannot be read ({error})"),
            KeyErrorKind::NotAFile => "this is not a regular file".into(),
            KeyErrorKind::TooOpen { mode } => {
                format!("the key is open to others than its owner (mode {mode:04o})")
            }
            KeyErrorKind::NotAKey => "this is not an Ed25519 key in PEM (PKCS#8)".into(),
            KeyErrorKind::Exists => "there is a file already, which may be a key in use".into(),
            KeyErrorKind::Unwritable(error) => format!("the key cannot be written ({error})"),
            KeyErrorKind::NoRandomNumbers => "the kernel gives no random numbers".into(),
        }
    }

    /// What to do about it.
    pub fn cure(&self) -> String {
        let file = self.file.display();
        match &self.kind {
            KeyErrorKind::Missing => format!(
                "make one with `ctsync keygen --out {file}`, and write what it prints into `members` everywhere"
            ),
            KeyErrorKind::NotAKey => format!(
                "move it away, make another with `ctsync keygen --out {file}`, and write what it prints into `members` everywhere"
            ),
            KeyErrorKind::Unreadable(_) => {
                "run it as root, with sudo; the unit hands the key to the daemon, a daemon without it has to own the file".into()
            }
            KeyErrorKind::NotAFile => "name the file that holds the key with `key_file`".into(),
            KeyErrorKind::TooOpen { .. } => format!("run `chmod 600 {file}`"),
            KeyErrorKind::Exists => {
                format!(
                    "see its public half with `ctsync keygen --public {file}`, or remove it first"
                )
            }
            KeyErrorKind::Unwritable(_) => {
                "make its directory, or name another file with --out".into()
            }
            KeyErrorKind::NoRandomNumbers => "try again when the system has started".into(),
        }
    }
}

impl fmt::Display for KeyError {
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

impl std::error::Error for KeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            KeyErrorKind::Unreadable(error) | KeyErrorKind::Unwritable(error) => Some(error),
            KeyErrorKind::Missing
            | KeyErrorKind::NotAFile
            | KeyErrorKind::TooOpen { .. }
            | KeyErrorKind::NotAKey
            | KeyErrorKind::Exists
            | KeyErrorKind::NoRandomNumbers => None,
        }
    }
}

#[cfg(test)]
mod tests;
