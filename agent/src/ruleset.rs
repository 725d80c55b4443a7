//! Our nftables table: it makes the kernel tell when the first packet passes through a copy.
//!
//! Every entry that we inject has the copy bit in its connmark. A rule clears it with the first packet that is forwarded
//! through the entry, which makes one event: the flow has moved here. It costs nothing more per packet than to look at
//! the mark. The rule stands after the operator's, so that a packet they drop moves nothing; their tables are not
//! touched. The table is made when the daemon starts, replacing one that a crash left behind, and goes when it stops.

use std::fmt;
use std::io::{self, Write};
use std::process::{Command, Stdio};

/// The bit of the connmark that marks a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyBit(u8);

impl CopyBit {
    /// `None` unless `number` is 0 to 31.
    pub const fn new(number: u8) -> Option<Self> {
        if number < 32 {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number of the bit.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// A mask with this bit alone.
    pub const fn mask(self) -> u32 {
        1 << self.0
    }
}

/// The table, as long as it is installed.
#[derive(Debug)]
pub struct Ruleset(());

/// Why the table could not be installed. `Display` says what to do.
#[derive(Debug)]
pub enum RulesetError {
    /// There is no `nft`, or it could not be run.
    Run(io::Error),
    /// `nft` refused.
    Refused(String),
}

impl fmt::Display for RulesetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cure = "or write `copy_bit: none` under `kernel` to do without";
        match self {
            Self::Run(error) => write!(f, "run nft: {error}; install the package nftables, {cure}"),
            Self::Refused(said) => write!(
                f,
                "nft refused the table of ctsync: {}; give ctsync CAP_NET_ADMIN and a kernel with nf_tables, {cure}",
                said.trim()
            ),
        }
    }
}

impl std::error::Error for RulesetError {}

impl Ruleset {
    /// Installs the table in this network namespace.
    pub fn install(copy_bit: CopyBit) -> Result<Self, RulesetError> {
        nft(&text(copy_bit))?;
        Ok(Self(()))
    }
}

impl Drop for Ruleset {
    fn drop(&mut self) {
        if let Err(error) = nft("delete table inet ctsync\n") {
            tracing::warn!(%error, "the table of ctsync stays in the ruleset; it harms nothing");
        }
    }
}

/// What `nft` is told. Naming the table before it is deleted makes that work whether or not it was there.
fn text(copy_bit: CopyBit) -> String {
    let (set, cleared) = (copy_bit.mask(), !copy_bit.mask());
    format!(
        "table inet ctsync\n\
         delete table inet ctsync\n\
         table inet ctsync {{\n\
         \tcomment \"made and removed by ctsync\"\n\
         \tchain moved {{\n\
         \t\ttype filter hook forward priority 300; policy accept;\n\
         \t\tct mark & {set:#010x} != 0 ct mark set ct mark & {cleared:#010x}\n\
         \t}}\n\
         }}\n"
    )
}

fn nft(text: &str) -> Result<(), RulesetError> {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(RulesetError::Run)?;
    if let Some(mut stdin) = nft.stdin.take() {
        // If nft ends before it has read all, its exit status says more than the broken pipe.
        let _ = stdin.write_all(text.as_bytes());
    }
    let output = nft.wait_with_output().map_err(RulesetError::Run)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(RulesetError::Refused(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    }
}
