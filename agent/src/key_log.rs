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
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ccp::record::MemberId;
use zeroize::Zeroizing;

use crate::core::keys::KeyOffer;

/// A key, by whose it is, of which run, and its epoch.
type Name = (MemberId, u64, u8);

/// Keys of so many members, each with a few, are remembered as written; an older one is written once more.
const WRITTEN_MAX: usize = 4 * MemberId::MAX;

/// The file.
#[derive(Debug)]
pub struct KeyLog {
    file: File,
    written: Vec<Name>,
}

impl KeyLog {
    /// Appends to the file, or makes it, readable to its owner alone.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
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
