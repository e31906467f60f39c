//! Frames put on the wire as they are: what no host's own stack would send.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, ensure};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike as _, bind, send, socket,
};

use crate::netns::Namespace;

/// Sends frames from one interface of a namespace.
#[derive(Debug)]
pub struct Injector {
    socket: OwnedFd,
}

impl Injector {
    /// Sends from `interface` of `namespace`; fails where there is none of this name.
    pub fn new(namespace: &Namespace, interface: &str) -> anyhow::Result<Self> {
        let socket = namespace.inside(|| open(interface))??;
        Ok(Self { socket })
    }

    /// Sends a frame that begins with its hardware addresses.
    pub fn send(&self, frame: &[u8]) -> anyhow::Result<()> {
        let sent = send(self.socket.as_raw_fd(), frame, MsgFlags::empty())
            .context("cannot send a frame")?;
        ensure!(sent == frame.len(), "{sent} bytes of {} were sent", frame.len());
        Ok(())
    }
}

/// The hardware address of `interface`; fails where there is none of this name.
pub fn hardware_address(namespace: &Namespace, interface: &str) -> anyhow::Result<[u8; 6]> {
    let address = namespace.inside(|| link(interface))??.addr();
    address.with_context(|| format!("{interface} has no hardware address"))
}

/// A socket that receives nothing: it is bound to an interface, but to no protocol.
fn open(interface: &str) -> anyhow::Result<OwnedFd> {
    let address = link(interface)?;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
        .context("cannot send frames: is AF_PACKET missing?")?;
    bind(socket.as_raw_fd(), &address).with_context(|| format!("cannot bind to {interface}"))?;
    Ok(socket)
}

/// The link address of an interface of the calling thread's namespace.
fn link(interface: &str) -> anyhow::Result<LinkAddr> {
    let mut all = getifaddrs().context("cannot list interfaces")?;
    let found = all.find_map(|one| {
        let address = one.address.filter(|_| one.interface_name == interface)?;
        address.as_link_addr().copied().filter(|_| address.family() == Some(AddressFamily::Packet))
    });
    found.with_context(|| format!("there is no interface {interface}"))
}
