//! Whole-system tests of ctsync: what `tests/tests`, the demonstration and the benchmark are made of.
//!
//! - Machines: [`netns`] (network namespaces), [`nspawn`] and [`vm`] (whole systems), [`leftovers`] (what a killed run left).
//! - Gateways: [`lab`] (a client, a server, gateways between them), [`cluster`] (ctsync on each), [`wan`] (members far apart),
//!   [`keepalived`] and [`bird`] (who moves addresses and routes).
//! - Traffic: [`traffic`] (connections that go on), [`connects`] (how long opening takes), [`crowd`] (many flows at once),
//!   [`shorts`] (short connections at a steady rate).
//! - What is seen: [`table`] (the kernels' tables), [`wire`] (datagrams), [`arrivals`] (when a flow is in a kernel).
//! - The whole: [`sim`] (a cluster without a kernel, by seeds), [`demo`] (the demonstration), [`mod@bench`] (the benchmark).

pub mod arrivals;
pub mod bench;
pub mod bird;
pub mod cluster;
pub mod connects;
pub mod crowd;
pub mod demo;
pub mod keepalived;
pub mod lab;
pub mod leftovers;
pub mod netns;
pub mod nspawn;
pub mod shorts;
pub mod sim;
pub mod table;
pub mod traffic;
pub mod vm;
pub mod wan;
pub mod wire;
