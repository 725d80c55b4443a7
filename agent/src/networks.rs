//! The sync networks of this member together: what comes over any, and what goes over which.

use crate::addresses::LocalAddresses;
use crate::config::Config;
use crate::control::answer::NetworkStatus;
use crate::log::Faults;
use crate::udp::Udp;
use ccp::modes::Mode;
use ccp::network::{NetworkId, Routes};
use ccp::time::Instant;
use std::io;
use std::os::fd::BorrowedFd;
use tracing::{info, warn};

/// The longest datagram that UDP can carry.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// All of them, in the order of the configuration.
pub struct Networks {
    list: Vec<Udp>,
    buffer: Box<[u8]>,
}

impl Networks {
    /// Opens those whose interfaces are there; fails with the first one's name if none is.
    pub fn open(config: &Config, addresses: &LocalAddresses) -> Result<Self, (String, io::Error)> {
        let mut list: Vec<_> = NetworkId::all()
            .map_while(|network| Udp::new(config, network))
            .collect();
        let mut failed = None;
        for udp in &mut list {
            if let Err(error) = udp.follow(addresses) {
                let (network, interface) = (&udp.name, &udp.device);
                warn!(event = "interface-gone", %network, %interface, %error, "the interface of a sync network is missing or has no address; the network is used once it appears");
                failed.get_or_insert((udp.device.clone(), error));
            }
        }
        match failed {
            Some(failed) if list.iter().all(|udp| !udp.is_open()) => Err(failed),
            Some(_) | None => Ok(Self {
                list,
                buffer: vec![0; DATAGRAM_BYTES_MAX].into(),
            }),
        }
    }

    /// Follows interfaces that came, went, or were made anew.
    pub fn follow(&mut self, addresses: &LocalAddresses, faults: &mut Faults) {
        for udp in &mut self.list {
            let was_open = udp.is_open();
            let followed = udp.follow(addresses);
            let (network, interface) = (&udp.name, &udp.device);
            match followed {
                Ok(true) => {
                    info!(event = "interface-back", %network, %interface, "the interface of a sync network is there")
                }
                Ok(false) => {}
                Err(error) if was_open => {
                    warn!(event = "interface-gone", %network, %interface, %error, "the interface of a sync network is gone");
                }
                Err(error) => {
                    faults.survive("open a sync network", Err::<(), _>(error));
                }
            }
        }
    }

    /// From now on, datagrams for all leave so.
    pub fn set_mode(&mut self, network: NetworkId, mode: Mode) {
        if let Some(udp) = self.list.get_mut(network.index()) {
            udp.mode = mode;
        }
    }

    /// The name of a network.
    pub fn name(&self, network: NetworkId) -> &str {
        let udp = self.list.get(network.index());
        udp.map_or("", |udp| &udp.name)
    }

    /// About a second has passed: rates are taken.
    pub fn handle_second(&mut self, now: Instant) {
        for udp in &mut self.list {
            udp.rates.take(udp.traffic, now);
        }
    }

    /// Each network, for the operator.
    pub fn status(&self) -> Vec<NetworkStatus> {
        self.list.iter().map(Udp::status).collect()
    }

    /// Greatest payload of a datagram that every network takes in one piece.
    pub fn datagram_bytes_max(&self) -> usize {
        let each = self.list.iter().map(Udp::datagram_bytes_max);
        each.min().unwrap_or(DATAGRAM_BYTES_MAX)
    }

    /// Readable when there are datagrams; those that are open.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.list.iter().filter_map(Udp::fd)
    }

    /// The next datagram that came over a network; `None` when there is none.
    pub fn receive(&mut self, network: NetworkId) -> io::Result<Option<&mut [u8]>> {
        match self.list.get_mut(network.index()) {
            Some(udp) => udp.receive(&mut self.buffer),
            None => Ok(None),
        }
    }

    /// Sends a datagram to those it is for; returns how many copies the kernel would not send.
    pub fn send(&mut self, routes: &Routes, datagram: &[u8]) -> u64 {
        let mut unsent = 0;
        for (network, members) in routes.iter() {
            if let Some(udp) = self.list.get_mut(network.index()) {
                let by = match routes.to_all {
                    true => routes.by.unwrap_or(udp.mode),
                    false => Mode::Unicast,
                };
                unsent += udp.send(members, by, datagram);
            }
        }
        unsent
    }
}
