//! Whole-system tests of ctsync: gateways in network namespaces, traffic through them, the simulation, the benchmark.

pub mod lab;
pub mod netns;
