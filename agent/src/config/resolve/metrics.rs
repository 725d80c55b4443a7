//! What the section `metrics` means.

use std::net::SocketAddr;

use super::super::error::{Fault, Problem};
use super::super::file::metrics as file;
use super::super::{Listen, Metrics};
use super::socket_path;
use super::values::fault;

pub fn metrics(written: file::Metrics) -> Result<Metrics, Fault> {
    let Some(listen) = written.listen else {
        return Ok(Metrics { listen: None });
    };
    let listen = if listen.value.starts_with('/') {
        Listen::Socket(socket_path(&listen, "listen")?)
    } else {
        // Whoever reaches it may read it: it must not be reached from outside.
        let loopback = |address: &SocketAddr| address.ip().is_loopback() && address.port() != 0;
        let address = listen.value.parse().ok().filter(loopback);
        Listen::Tcp(address.ok_or_else(|| {
            let given = listen.value.clone();
            fault(&listen, Problem::NotLoopback { given })
        })?)
    };
    Ok(Metrics {
        listen: Some(listen),
    })
}
