//! Where a link begins: this member's address on a network, and the interface, which may come and go.

use std::io;
use std::net::SocketAddr;

use rustix::net::netdevice::name_to_index;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::{KEEPALIVE, KEEPALIVE_RETRIES, USER_TIMEOUT, listen};
use crate::udp::scoped;

/// This member's place on a network.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Its address there, with the port of the cluster.
    pub address: SocketAddr,
    /// The name of the interface.
    pub device: String,
}

impl Place {
    /// A socket that listens there, and the number of the interface that it belongs to.
    pub fn listen(&self) -> io::Result<(std::net::TcpListener, u32)> {
        let (socket, index) = self.socket()?;
        // Connections of the daemon before us may not have died out.
        socket.set_reuse_address(true)?;
        socket.bind(&scoped(self.address, index).into())?;
        socket.listen(i32::try_from(listen::HANDSHAKES_MAX).expect("it is a small number"))?;
        Ok((socket.into(), index))
    }

    /// A socket that can dial from there, and that address with the scope that it has there.
    pub fn dialling(&self, to: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
        let (socket, index) = self.socket()?;
        let mut from = scoped(self.address, index);
        from.set_port(0);
        socket.bind(&from.into())?;
        Ok((socket, scoped(to, index)))
    }

    /// True if the interface is not there, or not the one with this number.
    pub fn has_left(&self, index: u32, socket: impl std::os::fd::AsFd) -> bool {
        name_to_index(socket, &self.device) != Ok(index)
    }

    /// A socket on the network that notices when its peer is dead.
    fn socket(&self) -> io::Result<(Socket, u32)> {
        let domain = Domain::for_address(self.address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        let index = name_to_index(&socket, &self.device)?;
        socket.bind_device(Some(self.device.as_bytes()))?;
        // Those that are accepted inherit them.
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE)
            .with_retries(KEEPALIVE_RETRIES);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        socket.set_tcp_nodelay(true)?;
        Ok((socket, index))
    }
}
