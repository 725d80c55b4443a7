//! Which interfaces are monitored, and whether their links are up: the configuration's names against what the kernel has.
//!
//! Of an interface with VLANs, those that the configuration chooses are monitored in its place. A VLAN is called by its parent
//! and its number, `eth1.30`, whatever the device is called. What the configuration names and the kernel has not is down:
//! the required set is what is written, not what was seen.

use crate::addresses::Link;
use crate::config::roles::{Monitored, Vlans};
use ccp::probe::{INTERFACES_MAX, Link as State};

/// An interface that has to be up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// As the configuration calls it.
    pub name: String,
    /// How it is.
    pub link: State,
    /// Its number, and what the kernel calls it, if it is there.
    pub device: Option<(u32, String)>,
}

impl Found {
    /// True if it is the device of this number by this name.
    pub fn is(&self, name: &str, index: u32) -> bool {
        let device = self.device.as_ref();
        self.name == name && device.is_some_and(|(its, _)| *its == index)
    }

    fn new(name: String, link: Option<&Link>) -> Self {
        Self {
            name,
            link: match link {
                None => State::Missing,
                Some(link) if link.is_up => State::Up,
                Some(_) => State::Down,
            },
            device: link.map(|link| (link.index, link.name.clone())),
        }
    }
}

/// What is monitored, given these links; no more than can be probed.
pub fn found(monitored: &[Monitored], links: &[Link]) -> Vec<Found> {
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
            all.push(Found::new(name.to_owned(), device));
        }
        all.extend(chosen.into_iter().map(|vlan| {
            let name = format!("{name}.{vlan}");
            let device = find(&name, links);
            Found::new(name, device)
        }));
    }
    all.truncate(INTERFACES_MAX);
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

#[cfg(test)]
mod tests;
