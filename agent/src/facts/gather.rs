//! Looking at this machine.

use std::fs;
use std::io;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Facts, INTERFACE, NETWORK};
use crate::addresses;
use crate::config::Config;
use crate::control::{Ask, Wake};

/// From one look to the next: who mends what `ctsync doctor` has found runs it again soon. It is some 60 small files.
const INTERVAL: Duration = Duration::from_secs(10);
/// Where the settings of connection tracking are.
const SETTINGS: &str = "/proc/sys/net/netfilter";
/// Settings elsewhere without which flows that move here go nowhere.
const FORWARDING: &[(&str, &str)] = &[
    ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
    (
        "net.ipv6.conf.all.forwarding",
        "/proc/sys/net/ipv6/conf/all/forwarding",
    ),
];

/// What this machine is like, as far as it can be read.
pub fn gather(config: &Config) -> Facts {
    let forwarding = FORWARDING
        .iter()
        .filter_map(|(name, file)| Some(((*name).to_owned(), number(file)?)));
    settings()
        .chain(forwarding)
        .chain(interfaces(config))
        .collect()
}

/// Settings of connection tracking that are a number. How many entries there are is none.
pub(super) fn settings() -> impl Iterator<Item = (String, u64)> {
    let files = fs::read_dir(SETTINGS).into_iter().flatten().flatten();
    files.filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        let is_setting = name.starts_with("nf_conntrack_") || name.starts_with("nf_flowtable_");
        let value = number(file.path().to_str()?)?;
        (is_setting && name != "nf_conntrack_count")
            .then(|| (format!("net.netfilter.{name}"), value))
    })
}

/// The MTU of each interface; those of sync networks go by the names of these.
fn interfaces(config: &Config) -> Vec<(String, u64)> {
    let name_of = |interface: &str| {
        let mut networks = config.networks.iter();
        match networks.find(|network| network.interface.as_str() == interface) {
            Some(network) => format!("{NETWORK}{}", network.name),
            None => format!("{INTERFACE}{interface}"),
        }
    };
    let links = addresses::links().unwrap_or_default();
    let links = links.iter().filter(|link| link.name != "lo");
    links
        .map(|link| (name_of(&link.name), link.mtu_bytes.into()))
        .collect()
}

fn number(file: &str) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Looks at this machine again and again, on a thread of its own that ends with the daemon, and tells the driver.
pub fn watch(config: &Config, asks: mpsc::Sender<Ask>, wake: Wake) -> io::Result<()> {
    let config = config.clone();
    let watch = move || {
        while !asks.is_closed() {
            // Full: the driver has more urgent things to do, and the next look is as good.
            let _ = asks.try_send(Ask::TakeFacts(gather(&config)));
            wake();
            std::thread::sleep(INTERVAL);
        }
    };
    let thread = std::thread::Builder::new().name("facts".into());
    thread.spawn(watch).map(drop)
}
