//! What tests make outside of themselves, namespaces and directories, and how it goes when they cannot see to it.
//!
//! Everything is removed by its owner's `drop`, also on a panic. But who is killed drops nothing: so names carry the
//! process id of their maker, and the first name that a process takes sweeps away what dead makers have left behind.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::netns;

/// What every name of ours begins with; the maker's process id follows.
const PREFIX: &str = "ctsync-";

/// A name that nothing else has, for a namespace or a directory.
pub fn unique_name(label: &str) -> String {
    static SWEEP: Once = Once::new();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    SWEEP.call_once(|| remove_all_of(|maker| !Path::new("/proc").join(maker).exists()));
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}-{count}-{label}", std::process::id())
}

/// From here on, Ctrl-C and SIGTERM remove what this process has made before they end it.
pub fn remove_on_interrupt() {
    let mut signals = Signals::new([SIGINT, SIGTERM]).expect("these two signals can be caught");
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let own = std::process::id().to_string();
            remove_all_of(|maker| maker == own);
            std::process::exit(128 + signal);
        }
    });
}

/// A directory that goes with its owner.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Makes one below the system's directory for temporary files, which only its owner can read.
    #[track_caller]
    pub fn new(label: &str) -> Directory {
        let path = std::env::temp_dir().join(unique_name(label));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Directory(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes everything whose maker's process id is meant.
fn remove_all_of(is_meant: impl Fn(&str) -> bool) {
    let is_meant = |name: &String| {
        let maker = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        maker.is_some_and(|maker| maker.parse::<u32>().is_ok() && is_meant(maker))
    };
    for name in names_in(Path::new("/run/netns")).filter(is_meant) {
        netns::remove(&name);
    }
    let temporary = std::env::temp_dir();
    for name in names_in(&temporary).filter(is_meant) {
        let _ = fs::remove_dir_all(temporary.join(name));
    }
}

fn names_in(directory: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}
