//! Which interfaces are monitored, and whether their links are up: the configuration's names against what the kernel has.
//!
//! Of an interface with VLANs, those that the configuration chooses are monitored in its place. A VLAN is called by its parent
//! and its number, `eth1.30`, whatever the device is called. What the configuration names and the kernel has not is down:
//! the required set is what is written, not what was seen.

use crate::addresses::Link;
use crate::config::roles::{Monitored, Vlans};

/// An interface that has to be up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// As the configuration calls it.
    pub name: String,
    /// How it is.
    pub link: LinkState,
}

/// How an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It is up, and has a carrier.
    Up,
    /// It is not.
    Down,
    /// There is no such interface.
    Missing,
}

/// What is monitored, given these links.
pub fn watched(monitored: &[Monitored], links: &[Link]) -> Vec<Watched> {
    let is_left_out = |name: &str| {
        let mut out = monitored.iter().filter(|it| !it.monitor);
        out.any(|it| it.name.as_str() == name)
    };
    let mut all = Vec::new();
    for each in monitored.iter().filter(|it| it.monitor) {
        let name = each.name.as_str();
        let device = find(name, links);
        let mut vlans: Vec<u16> = device.map_or_else(Vec::new, |device| {
            let of_it = links.iter().filter(|it| it.parent == Some(device.index));
            of_it.filter_map(|it| it.vlan).collect()
        });
        vlans.retain(|vlan| !is_left_out(&format!("{name}.{vlan}")));
        vlans.sort_unstable();
        let chosen = choose(&each.vlans, &vlans);
        if chosen.is_empty() {
            let link = state(device);
            let name = name.to_owned();
            all.push(Watched { name, link });
        }
        all.extend(chosen.into_iter().map(|vlan| {
            let name = format!("{name}.{vlan}");
            let link = state(find(&name, links));
            Watched { name, link }
        }));
    }
    all
}

/// Of these VLANs, by ascending number, those that are monitored.
fn choose(wanted: &Vlans, vlans: &[u16]) -> Vec<u16> {
    let (lowest, highest) = (vlans.first().copied(), vlans.last().copied());
    match wanted {
        Vlans::Lowest => lowest.into_iter().collect(),
        Vlans::Highest => highest.into_iter().collect(),
        Vlans::Both => {
            let highest = highest.filter(|it| Some(*it) != lowest);
            lowest.into_iter().chain(highest).collect()
        }
        Vlans::All => vlans.to_vec(),
        Vlans::List(list) => list.clone(),
    }
}

/// By the name of the device, or by parent and number of a VLAN.
fn find<'a>(name: &str, links: &'a [Link]) -> Option<&'a Link> {
    let device = |name: &str| links.iter().find(|it| it.name == name);
    let vlan = || {
        let (parent, number) = name.rsplit_once('.')?;
        let (parent, number) = (device(parent)?, number.parse().ok()?);
        let mut of_it = links.iter().filter(|it| it.parent == Some(parent.index));
        of_it.find(|it| it.vlan == Some(number))
    };
    vlan().or_else(|| device(name))
}

fn state(link: Option<&Link>) -> LinkState {
    match link {
        None => LinkState::Missing,
        Some(link) if link.is_up => LinkState::Up,
        Some(_) => LinkState::Down,
    }
}

#[cfg(test)]
mod tests;
