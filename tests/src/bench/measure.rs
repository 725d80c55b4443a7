//! What a daemon costs: processor time, memory, bytes on the sync link; and what many measurements say together.

use std::fs;
use std::time::Duration;

use super::gateways::{Gateways, Interfaces, SYNC};

/// Processor time of all threads of a process, user and system, to the nanosecond.
///
/// What the kernel does in a process's name is in it: interrupts that it is charged with, and the path of a datagram to
/// the other gateway, as a virtual cable has no other processor to do it.
pub fn processor_time(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap_or_else(|error| panic!("process {pid}: {error}"));
    let times = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}

/// Bytes of memory a process has for itself, and its share of what it has with others.
pub fn resident_bytes(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let kilobytes = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB"));
    let kilobytes: Option<u64> = kilobytes.and_then(|number| number.trim().parse().ok());
    kilobytes.unwrap_or_else(|| panic!("{path} has no Pss")) * 1024
}

/// What went over the sync link, both ways.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// IP packets.
    pub packets: u64,
    /// Their bytes, IP headers included, Ethernet's not.
    pub bytes: u64,
}

impl Wire {
    /// The counters as they stand.
    pub fn of(gateways: &Gateways) -> Wire {
        const ETHERNET_HEADER: u64 = 14;
        let (bytes, packets) = Interfaces::of(&gateways.a).both_ways(SYNC);
        Wire {
            packets,
            bytes: bytes - ETHERNET_HEADER * packets,
        }
    }
}

/// One figure, measured several times.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds a measurement.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one; of an even number the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len() % 2 == 1 {
            self.0[middle]
        } else {
            (self.0[middle - 1] + self.0[middle]) / 2.0
        }
    }

    /// The smallest and the largest.
    pub fn range(&self) -> (f64, f64) {
        (self.0[0], self.0[self.0.len() - 1])
    }

    /// All, from the smallest up.
    pub fn all(&self) -> &[f64] {
        &self.0
    }
}

/// The value that `share` (0 to 1) of all are not above.
pub fn quantile(values: &mut [Duration], share: f64) -> Duration {
    values.sort_unstable();
    let rank = (values.len() as f64 * share).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}

#[cfg(test)]
mod tests;
