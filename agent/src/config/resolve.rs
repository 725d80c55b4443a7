//! From what the file says to what it means: fills in defaults, and finds every value that cannot be.
//!
//! Each function takes a part of [`file::File`] and gives the part of [`Config`] that it means, or the first fault.

use std::path::PathBuf;
use std::time::Duration;

use super::error::{Fault, Problem};
use super::file::{self, File};
use super::roles::DEFAULT_STATE_DIRECTORY;
use super::scalar::print_duration;
use super::{
    Config, Control, DEFAULT_COPY_BIT, DEFAULT_SOCKET, Delta, Keys, Level, Liveness, Log, Member,
    Network, Sync,
};
use crate::config::spanned::Spanned;

mod accounting;
mod audit;
mod hold;
mod kernel;
mod members;
mod metrics;
pub mod networks;
pub mod policy;
mod roles;
mod values;

use values::{Limits, absolute, duration, fault, nonzero, number, place};

const MAX_AGE: Limits<Duration> = Limits {
    min: Duration::from_secs(1),
    default: Duration::from_secs(3600),
    max: Duration::from_secs(24 * 3600),
};
const MAX_PACKETS: Limits<u64> = Limits {
    min: 1_000,
    default: 1_000_000_000,
    max: 1 << 32,
};
const FLUSH: Limits<Duration> = Limits {
    min: Duration::from_micros(100),
    default: Duration::from_millis(1),
    max: Duration::from_millis(100),
};
const HELLO: Limits<Duration> = Limits {
    min: Duration::from_millis(10),
    default: Duration::from_millis(100),
    max: Duration::from_secs(10),
};
const DEAD_AFTER: Limits<Duration> = Limits {
    min: Duration::from_millis(50),
    default: Duration::from_secs(1),
    max: Duration::from_secs(60),
};
/// `sun_path` of `sockaddr_un` has 108 bytes, one for the NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// What is wrong, part by part: who mends one thing should not meet the next only then.
#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    /// The part, unless something is wrong with it, which is kept.
    fn sift<T>(&mut self, judged: Result<T, Fault>) -> Option<T> {
        judged.map_err(|fault| self.0.push(fault)).ok()
    }
}

/// The configuration that `file` means, or the first fault of each part.
pub(super) fn resolve(mut file: File) -> Result<Config, Vec<Fault>> {
    let mut faults = Faults::default();
    let cluster = faults.sift(number(&file.cluster, "cluster", 1, u16::MAX));
    let kernel = faults.sift(kernel::kernel(file.kernel.take().unwrap_or_default()));
    let members = faults.sift(networks_and_members(&file));
    let control = faults.sift(control(file.control.unwrap_or_default()));
    let key_file = faults.sift(match &file.key_file {
        Some(key_file) => absolute(key_file, "key_file"),
        None => Ok(crate::identity::DEFAULT_FILE.into()),
    });
    let keys = faults.sift(keys(file.keys.unwrap_or_default()));
    let delta = faults.sift(delta(file.delta.unwrap_or_default()));
    let liveness = faults.sift(liveness(file.liveness.unwrap_or_default()));
    let copy_bit = kernel.as_ref().map_or(DEFAULT_COPY_BIT, |it| it.copy_bit);
    let hold = faults.sift(hold::hold(file.hold.unwrap_or_default(), copy_bit));
    let audit = faults.sift(audit::audit(&file.audit.unwrap_or_default()));
    let accounting = faults.sift(accounting::accounting(&file.accounting.unwrap_or_default()));
    let metrics = faults.sift(metrics::metrics(file.metrics.unwrap_or_default()));
    // They name members: without these nothing can be said of them.
    let roles = (members.as_ref().zip(control.as_ref())).and_then(|((_, this, peers), control)| {
        let names = peers.iter().chain([this]).map(|it| it.name.clone());
        let written = file.roles.unwrap_or_default();
        faults.sift(roles::roles(written, names.collect(), &control.socket))
    });
    let interfaces = faults.sift(roles::interfaces(file.interfaces.unwrap_or_default()));
    let checks = faults.sift(roles::checks(file.checks.unwrap_or_default()));
    let hooks = faults.sift(roles::hooks(file.hooks.unwrap_or_default()));
    let state_directory = faults.sift(match &file.state_directory {
        Some(directory) => absolute(directory, "state_directory"),
        None => Ok(DEFAULT_STATE_DIRECTORY.into()),
    });
    let log = faults.sift(log(file.log.unwrap_or_default()));
    let whole = move || {
        let (networks, this, peers) = members?;
        Some(Config {
            cluster: nonzero(cluster?),
            this,
            peers,
            networks,
            sync: Sync {
                duplicate: file.sync.unwrap_or_default().duplicate.unwrap_or(false),
            },
            key_file: key_file?,
            keys: keys?,
            delta: delta?,
            liveness: liveness?,
            hold: hold?,
            kernel: kernel?,
            policy: policy::policy(file.policy.unwrap_or_default()),
            audit: audit?,
            accounting: accounting?,
            metrics: metrics?,
            roles: roles?,
            interfaces: interfaces?,
            checks: checks?,
            hooks: hooks?,
            state_directory: state_directory?,
            control: control?,
            log: log?,
        })
    };
    whole().ok_or(faults.0)
}

fn networks_and_members(file: &File) -> Result<(Vec<Network>, Member, Vec<Member>), Fault> {
    let (networks, members) = networks::networks_and_members(file)?;
    let (this, peers) = members::this_and_peers(file, members)?;
    Ok((networks, this, peers))
}

fn keys(written: file::Keys) -> Result<Keys, Fault> {
    Ok(Keys {
        max_age: duration(written.max_age.as_ref(), "max_age", &MAX_AGE)?,
        max_packets: match &written.max_packets {
            Some(packets) => number(packets, "max_packets", MAX_PACKETS.min, MAX_PACKETS.max)?,
            None => MAX_PACKETS.default,
        },
    })
}

fn delta(written: file::Delta) -> Result<Delta, Fault> {
    Ok(Delta {
        flush: duration(written.flush.as_ref(), "flush", &FLUSH)?,
    })
}

fn liveness(written: file::Liveness) -> Result<Liveness, Fault> {
    let hello = duration(written.hello.as_ref(), "hello", &HELLO)?;
    let dead_after = duration(written.dead_after.as_ref(), "dead_after", &DEAD_AFTER)?;
    if hello * 2 >= dead_after {
        let culprit = written.hello.as_ref().or(written.dead_after.as_ref());
        let problem = Problem::HelloTooSlow {
            hello: print_duration(hello),
            dead_after: print_duration(dead_after),
        };
        return Err(Fault {
            place: culprit.and_then(place),
            problem,
        });
    }
    Ok(Liveness { hello, dead_after })
}

fn log(written: file::Log) -> Result<Log, Fault> {
    Ok(Log {
        level: written.level.unwrap_or(Level::Info),
        datagram_keys: (written.datagram_keys.as_ref())
            .map(|path| absolute(path, "datagram_keys"))
            .transpose()?,
    })
}

fn control(written: file::Control) -> Result<Control, Fault> {
    let socket = match &written.socket {
        Some(socket) => socket_path(socket, "socket")?,
        None => DEFAULT_SOCKET.into(),
    };
    let monitor_socket = (written.monitor_socket.as_ref())
        .map(|socket| socket_path(socket, "monitor_socket"))
        .transpose()?;
    if let Some(written) = written.monitor_socket.as_ref()
        && monitor_socket.as_ref() == Some(&socket)
    {
        return Err(fault(written, Problem::SameSocket));
    }
    Ok(Control {
        socket,
        monitor_socket,
    })
}

/// The absolute path of a socket, which fits `sockaddr_un`.
fn socket_path(written: &Spanned<String>, key: &'static str) -> Result<PathBuf, Fault> {
    let bytes = written.value.len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        let bytes_max = SOCKET_PATH_BYTES_MAX;
        return Err(fault(
            written,
            Problem::SocketPathTooLong { bytes, bytes_max },
        ));
    }
    absolute(written, key)
}
