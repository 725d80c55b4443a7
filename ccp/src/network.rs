//! The networks between members, and over which of them a datagram goes to whom.

use crate::modes::Mode;
use crate::record::{MemberId, MemberSet};
use core::fmt;

/// A sync network, by its place in the configuration, which is the same on every member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId(u8);

impl NetworkId {
    /// Networks there can be.
    pub const MAX: usize = 4;
    /// The first in the configuration.
    pub const FIRST: Self = Self(0);

    /// The network with this number, counted from 0.
    pub const fn new(number: u8) -> Option<Self> {
        if (number as usize) < Self::MAX {
            Some(Self(number))
        } else {
            None
        }
    }

    /// Its number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Where it stands in an array of [`NetworkId::MAX`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Every network there can be, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::MAX as u8).map(Self)
    }
}

impl fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "network {}", self.0)
    }
}

/// A set of networks.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct NetworkSet(u8);

impl NetworkSet {
    /// The first `count` networks of the configuration.
    pub fn first(count: usize) -> Self {
        NetworkId::all().take(count).collect()
    }

    /// The set as bits, the first network in the lowest; bits past the last network are dropped.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & ((1 << NetworkId::MAX) - 1))
    }

    /// See [`Self::from_bits`].
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Adds a network.
    pub fn insert(&mut self, network: NetworkId) {
        self.0 |= 1 << network.0;
    }

    /// Takes a network out.
    pub fn remove(&mut self, network: NetworkId) {
        self.0 &= !(1 << network.0);
    }

    /// True if it is in the set.
    pub fn contains(self, network: NetworkId) -> bool {
        self.0 & 1 << network.0 != 0
    }

    /// True if none is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Its networks, in order.
    pub fn iter(self) -> impl Iterator<Item = NetworkId> {
        NetworkId::all().filter(move |network| self.contains(*network))
    }
}

impl FromIterator<NetworkId> for NetworkSet {
    fn from_iter<I: IntoIterator<Item = NetworkId>>(networks: I) -> Self {
        let mut set = Self::default();
        networks.into_iter().for_each(|network| set.insert(network));
        set
    }
}

impl fmt::Debug for NetworkSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Over which networks a datagram goes, and to which members over each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    over: [MemberSet; NetworkId::MAX],
    /// It is for whoever is there, so that one to the group of a network will do.
    pub to_all: bool,
    /// By another mode than the network's: it is tried.
    pub by: Option<Mode>,
}

impl Routes {
    /// For whoever is there, over no network yet.
    pub fn to_all() -> Self {
        Self {
            to_all: true,
            ..Self::default()
        }
    }

    /// Adds a member that it goes to over `network`.
    pub fn insert(&mut self, network: NetworkId, member: MemberId) {
        if let Some(members) = self.over.get_mut(network.index()) {
            members.insert(member);
        }
    }

    /// Sets to whom it goes over `network`.
    pub fn set(&mut self, network: NetworkId, to: MemberSet) {
        if let Some(members) = self.over.get_mut(network.index()) {
            *members = to;
        }
    }

    /// To whom it goes over `network`.
    pub fn over(&self, network: NetworkId) -> MemberSet {
        self.over.get(network.index()).copied().unwrap_or_default()
    }

    /// The networks that it goes over, with those that it reaches there.
    pub fn iter(&self) -> impl Iterator<Item = (NetworkId, MemberSet)> {
        NetworkId::all()
            .zip(self.over)
            .filter(|(_, members)| !members.is_empty())
    }

    /// The one network that it goes over; `None` if there are several, or none.
    pub fn only(&self) -> Option<NetworkId> {
        let mut networks = self.iter();
        let first = networks.next();
        first
            .filter(|_| networks.next().is_none())
            .map(|(network, _)| network)
    }
}
