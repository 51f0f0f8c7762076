//! The sockets of a link: one to speak with, and one for each network to hear broadcasts on.
//!
//! A socket that is bound to a broadcast address hears nothing else, so that it takes no message away from
//! another BACnet program on this machine.

use std::io;
use std::net::{SocketAddrV4, UdpSocket as StandardSocket};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
use tokio::net::UdpSocket;

/// A socket to speak with, on a port that others may have too.
pub(super) fn speaking(address: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = shared()?;
    bind(&socket, &address)?;
    UdpSocket::from_std(StandardSocket::from(socket))
}

/// A socket that hears what is sent to a broadcast address, as all others do that are bound to it.
pub(super) fn hearing(broadcast: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = shared()?;
    // Programs share the port in one way or the other; broadcasts come to all of either.
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &broadcast)?;
    UdpSocket::from_std(StandardSocket::from(socket))
}

fn shared() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_broadcast(&socket, true)?;
    Ok(socket)
}
