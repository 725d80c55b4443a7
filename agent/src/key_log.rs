//! The keys of datagrams, written to a file for who has to read a capture of the sync network.
//!
//! Off unless the operator turns it on (`log: {datagram_keys: FILE}`), and then the log says so: who has the file can read
//! and forge what members say for as long as the keys are in use. A line a key, as the Wireshark dissector reads them:
//!
//! ```text
//! CTSYNC_KEY <member> <incarnation, 16 hex digits> <epoch> <key, 64 hex digits>
//! ```

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use ccp::record::MemberId;
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::core::keys::KeyOffer;

/// A key, by whose it is, of which run, and its epoch.
type Name = (MemberId, u64, u8);

/// Keys of so many members, each with a few, are remembered as written; an older one is written once more.
const WRITTEN_MAX: usize = 4 * MemberId::MAX;

/// The file that keys are written to.
#[derive(Debug)]
pub struct KeyLog {
    file: File,
    written: Vec<Name>,
}

impl KeyLog {
    /// Appends to the file, or makes it, readable to its owner alone. Refuses a symbolic link, what is no file, and a file that
    /// others can read.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Without O_NONBLOCK, a FIFO in the place of the file would hold the daemon here for ever.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(io::Error::other(format!(
                "others can read it, or write it (mode {mode:04o}); delete it, or `chmod 600` it"
            )));
        }
        Ok(Self {
            file,
            written: Vec::new(),
        })
    }

    /// Writes the key that `member` hands out, once.
    pub fn write(&mut self, member: MemberId, offer: &KeyOffer) -> io::Result<()> {
        let name = (member, offer.incarnation, offer.epoch);
        if self.written.contains(&name) {
            return Ok(());
        }
        let mut line = Zeroizing::new(format!(
            "CTSYNC_KEY {} {:016x} {} ",
            member.get(),
            offer.incarnation,
            offer.epoch
        ));
        line.reserve_exact(2 * offer.key.bytes().len() + 1);
        for byte in offer.key.bytes() {
            let _ = write!(*line, "{byte:02x}");
        }
        line.push('\n');
        self.file.write_all(line.as_bytes())?;
        if self.written.len() == WRITTEN_MAX {
            self.written.remove(0);
        }
        self.written.push(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::KeyLog;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn only_a_file_that_its_owner_alone_can_read_takes_keys() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        assert!(KeyLog::open(&path).is_ok());
        assert!(KeyLog::open(&path).is_ok(), "that one is appended to");
        for mode in [0o644, 0o640, 0o620, 0o606] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(KeyLog::open(&path).is_err(), "{mode:o}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(KeyLog::open(&link).is_err());
        assert!(KeyLog::open(directory.path()).is_err());
    }
}
