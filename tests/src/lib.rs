//! Whole-system tests of ctsync: gateways in network namespaces and with systemd, traffic through them, the simulation, the benchmark.

pub mod arrivals;
pub mod bench;
pub mod bird;
pub mod cluster;
pub mod connects;
pub mod crowd;
pub mod failover;
pub mod keepalived;
pub mod lab;
pub mod leftovers;
pub mod netns;
pub mod nspawn;
pub mod shorts;
pub mod sim;
pub mod split;
pub mod story;
pub mod table;
pub mod traffic;
pub mod vm;
pub mod wan;
pub mod wire;
