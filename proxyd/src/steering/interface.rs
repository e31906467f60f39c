//! The network interfaces of this namespace, as the kernel tells them.

use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use rtnetlink::Handle;
use rtnetlink::packet_core::Nla as _;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkLayerType, LinkMessage, LinkXdp};

use super::SteeringError;

/// The bus of the device that an interface belongs to (`linux/if_link.h`); others do not have it.
const IFLA_PARENT_DEV_BUS_NAME: u16 = 57;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Interface index.
    pub(crate) index: u32,
    /// Name.
    pub(crate) name: String,
    /// Hardware address, of interfaces that have one of six bytes.
    pub(crate) address: Option<[u8; 6]>,
    /// Index of the bridge or bond it is a port of.
    pub(crate) controller: Option<u32>,
    /// Whether its frames start with an Ethernet header.
    pub(crate) is_ethernet: bool,
    /// Whether it belongs to a device on a bus, as a network card does.
    pub(crate) is_card: bool,
    /// Identifier of the XDP program at its driver.
    pub(crate) xdp_program: Option<u32>,
}

/// Every interface.
pub(crate) async fn list(handle: &Handle) -> Result<Vec<Interface>, SteeringError> {
    let messages = handle.link().get().execute().try_collect::<Vec<_>>();
    let messages =
        messages.await.map_err(|source| SteeringError::Netlink { what: "list links", source })?;
    Ok(messages.iter().map(from_message).collect())
}

/// The interface called `name`, which must speak Ethernet.
pub(crate) fn find<'a>(
    interfaces: &'a [Interface],
    name: &str,
) -> Result<&'a Interface, SteeringError> {
    let found = interfaces.iter().find(|interface| interface.name == name);
    let interface = found.ok_or_else(|| SteeringError::NoInterface { name: name.to_owned() })?;
    if !interface.is_ethernet {
        return Err(SteeringError::NotEthernet { name: name.to_owned() });
    }
    Ok(interface)
}

/// The addresses of this host in this namespace, sorted, without those of the loopback net.
pub(crate) async fn addresses(handle: &Handle) -> Result<Vec<IpAddr>, SteeringError> {
    let messages = handle.address().get().execute().try_collect::<Vec<_>>();
    let messages = messages
        .await
        .map_err(|source| SteeringError::Netlink { what: "list addresses", source })?;
    let mut addresses: Vec<_> = messages.iter().filter_map(own_address).collect();
    addresses.retain(|address| !address.is_loopback());
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

/// On a point-to-point link the address is the peer's, and the local one stands beside it.
fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let mut own = None;
    for attribute in &message.attributes {
        if let AddressAttribute::Local(address) = attribute {
            return Some(*address);
        } else if let AddressAttribute::Address(address) = attribute {
            own = Some(*address);
        }
    }
    own
}

fn from_message(message: &LinkMessage) -> Interface {
    let mut interface = Interface {
        index: message.header.index,
        name: String::new(),
        address: None,
        controller: None,
        is_ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        is_card: false,
        xdp_program: None,
    };
    for attribute in &message.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            interface.name.clone_from(name);
        } else if let LinkAttribute::Address(address) = attribute {
            interface.address = <[u8; 6]>::try_from(address.as_slice()).ok();
        } else if let LinkAttribute::Controller(index) = attribute {
            interface.controller = Some(*index);
        } else if let LinkAttribute::Xdp(attributes) = attribute {
            let id = |one: &LinkXdp| if let LinkXdp::ProgId(id) = one { Some(*id) } else { None };
            interface.xdp_program = attributes.iter().find_map(id);
        }
        interface.is_card |= attribute.kind() == IFLA_PARENT_DEV_BUS_NAME;
    }
    interface
}
