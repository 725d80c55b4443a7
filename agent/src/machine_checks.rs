//! What of the machine the election has to know: how full the kernel's table is, and whether the state directory can be
//! written. It only looks; [`crate::core`] judges.

use std::fs;
use std::path::PathBuf;

use crate::config::Config;
use crate::core::Core;
use rustix::fs::{Access, access};

const TABLE_COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
/// Not `net.nf_conntrack_max`, which is the same, but only the first network namespace has it.
const TABLE_MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// What is looked at.
#[derive(Debug)]
pub struct MachineChecks {
    /// `None` if it may be what it is.
    state_directory: Option<PathBuf>,
}

impl MachineChecks {
    /// Those that the configuration asks for.
    pub fn new(config: &Config) -> Self {
        let directory = &config.state_directory;
        Self {
            state_directory: config.checks.state_directory.then(|| directory.clone()),
        }
    }

    /// Looks, and tells `core`.
    pub fn look(&self, core: &mut Core) {
        if let (Some(count), Some(max)) = (number(TABLE_COUNT), table_max()) {
            core.set_table_fill(count, max);
        }
        if let Some(directory) = &self.state_directory {
            let fault = access(directory, Access::WRITE_OK | Access::EXEC_OK).err();
            let directory = directory.display();
            core.set_storage(fault.map(|error| format!("{directory} cannot be written ({error})")));
        }
    }
}

/// How many entries the kernel's table takes; 0 if it takes any number, `None` if the kernel does not say.
pub fn table_max() -> Option<u64> {
    number(TABLE_MAX)
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
