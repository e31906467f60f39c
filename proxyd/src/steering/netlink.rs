//! What the kernel tells by netlink beyond routes and links: features of drivers, and whether there
//! are netfilter rules. One request and the first answer to it; the kernel gives it at once.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// More than the longest answer: the names of all features of a driver are 4 KiB.
const ANSWER_BYTES_MAX: usize = 32 * 1024;

/// Length of a message's header: length, type, flags, sequence number, port.
const HEADER_BYTES: usize = 16;
/// Length of the header of generic netlink: command, version, two reserved bytes.
const GENERIC_BYTES: usize = 4;
/// Length of an attribute's header: length and type.
const ATTRIBUTE_BYTES: usize = 4;
/// Two bits of an attribute's type are flags (`linux/netlink.h`); one says that it holds others.
const ATTRIBUTE_TYPE: u16 = 0x3fff;
const NESTED: u16 = 0x8000;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;

/// The family of generic netlink that knows the others, and its command (`linux/genetlink.h`).
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// Command and attributes of the family "netdev" (`linux/netdev.h`).
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
/// The driver sends frames that XDP programs redirect to it.
const NETDEV_XDP_ACT_NDO_XMIT: u64 = 4;

/// Command and attributes of the family "ethtool" (`linux/ethtool_netlink.h`).
const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;
/// The card takes the tags of 802.1Q or 802.1ad out of frames.
const STRIPS_TAGS: [&[u8]; 2] = [b"rx-vlan-hw-parse\0", b"rx-vlan-stag-hw-parse\0"];

/// Messages of nftables (`linux/netfilter/nf_tables.h`): its number above that of the message.
const NFT_MSG_NEWTABLE: u16 = 10 << 8;
const NFT_MSG_GETTABLE: u16 = NFT_MSG_NEWTABLE + 1;

/// Whether the driver of an interface takes frames that XDP programs redirect to it.
pub(crate) fn takes_redirected(ifindex: u32) -> io::Result<bool> {
    let request = attribute(NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes());
    let answer = ask_family("netdev", NETDEV_CMD_DEV_GET, &request)?;
    let features = find(&answer, NETDEV_A_DEV_XDP_FEATURES).and_then(|value| value.try_into().ok());
    let features = u64::from_ne_bytes(features.ok_or(io::ErrorKind::InvalidData)?);
    Ok(features & NETDEV_XDP_ACT_NDO_XMIT != 0)
}

/// Whether the card of an interface takes VLAN tags out of the frames it receives.
pub(crate) fn strips_tags(ifindex: u32) -> io::Result<bool> {
    let device = attribute(ETHTOOL_A_HEADER_DEV_INDEX, &ifindex.to_ne_bytes());
    let request = attribute(NESTED | ETHTOOL_A_FEATURES_HEADER, &device);
    let answer = ask_family("ethtool", ETHTOOL_MSG_FEATURES_GET, &request)?;
    let active = find(&answer, ETHTOOL_A_FEATURES_ACTIVE).ok_or(io::ErrorKind::InvalidData)?;
    Ok(lists_any(active, &STRIPS_TAGS))
}

/// Whether a bitset without mask, which lists what is on, lists any of these.
fn lists_any(bitset: &[u8], names: &[&[u8]]) -> bool {
    let bits = Attributes(find(bitset, ETHTOOL_A_BITSET_BITS).unwrap_or_default());
    let mut on = bits.filter_map(|(_kind, bit)| find(bit, ETHTOOL_A_BITSET_BIT_NAME));
    on.any(|name| names.contains(&name))
}

/// Whether nftables has any table in this namespace; iptables of today makes its tables there too.
pub(crate) fn has_nft_tables() -> io::Result<bool> {
    // Any address family, version 0, no resource.
    let request = [0; 4];
    let flags = NLM_F_REQUEST | NLM_F_DUMP;
    let (kind, _body) = ask(SockProtocol::NetlinkNetFilter, NFT_MSG_GETTABLE, flags, &request)?;
    Ok(kind == NFT_MSG_NEWTABLE)
}

/// Asks a family of generic netlink; gives the attributes of the answer.
fn ask_family(name: &str, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
    let name = attribute(CTRL_ATTR_FAMILY_NAME, &[name.as_bytes(), &[0]].concat());
    let family = ask_generic(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &name)?;
    let family = find(&family, CTRL_ATTR_FAMILY_ID).and_then(|value| value.try_into().ok());
    let family = u16::from_ne_bytes(family.ok_or(io::ErrorKind::InvalidData)?);
    ask_generic(family, command, attributes)
}

fn ask_generic(family: u16, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
    let body = [&[command, 1, 0, 0], attributes].concat();
    let (_kind, answer) = ask(SockProtocol::NetlinkGeneric, family, NLM_F_REQUEST, &body)?;
    let attributes = answer.get(GENERIC_BYTES..).ok_or(io::ErrorKind::InvalidData)?;
    Ok(attributes.to_vec())
}

/// Sends one message; gives type and body of the first one that answers.
fn ask(protocol: SockProtocol, kind: u16, flags: u16, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let length = u32::try_from(HEADER_BYTES + body.len()).map_err(io::Error::other)?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence number and port: there is one request on this socket, and the kernel fills in where
    // it comes from.
    message.extend([0; 8]);
    message.extend(body);
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let received = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(received);
    first_message(&answer)
}

/// Type and body of the first message, or the error that it tells.
fn first_message(bytes: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let cut = || io::Error::from(io::ErrorKind::InvalidData);
    let (header, _rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or_else(cut)?;
    let [l0, l1, l2, l3, k0, k1, ..] = *header;
    let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).map_err(io::Error::other)?;
    let body = bytes.get(HEADER_BYTES..length).ok_or_else(cut)?;
    let kind = u16::from_ne_bytes([k0, k1]);
    if kind == NLMSG_ERROR {
        let (errno, _request) = body.split_first_chunk().ok_or_else(cut)?;
        return Err(io::Error::from_raw_os_error(i32::from_ne_bytes(*errno).wrapping_neg()));
    }
    Ok((kind, body.to_vec()))
}

/// An attribute with its header, filled up to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    // No value of ours comes near the limit.
    let length = u16::try_from(ATTRIBUTE_BYTES + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(ATTRIBUTE_BYTES), 0);
    bytes
}

fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    Attributes(attributes).find(|(one, _value)| *one == kind).map(|(_kind, value)| value)
}

/// Types and values of attributes that stand one after the other; ends where one is cut off.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, _rest) = self.0.split_first_chunk::<ATTRIBUTE_BYTES>()?;
        let [l0, l1, k0, k1] = *header;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = self.0.get(ATTRIBUTE_BYTES..length)?;
        self.0 = self.0.get(length.next_multiple_of(ATTRIBUTE_BYTES)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & ATTRIBUTE_TYPE, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loopback interface, which is there in every namespace.
    const LOOPBACK: u32 = 1;

    #[test]
    fn the_kernel_tells_of_the_loopback_interface() {
        assert!(!takes_redirected(LOOPBACK).unwrap());
        assert!(!strips_tags(LOOPBACK).unwrap());
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let absent = u32::try_from(i32::MAX).unwrap();
        for (name, answer) in [
            ("redirected frames", takes_redirected(absent)),
            ("tags", strips_tags(absent)),
            ("family", ask_family("absent", 1, &[]).map(|_answer| true)),
        ] {
            let errno = answer.unwrap_err().raw_os_error();
            assert!(matches!(errno, Some(libc::ENODEV | libc::ENOENT)), "{name}: {errno:?}");
        }
    }

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let nested = attribute(NESTED | 3, &attribute(1, b"abcde"));
        let bytes = [attribute(2, &[]), nested].concat();
        let read: Vec<_> = Attributes(&bytes).collect();
        assert_eq!(read, [(2, &[][..]), (3, &[9, 0, 1, 0, 97, 98, 99, 100, 101, 0, 0, 0][..])]);
        assert_eq!(find(find(&bytes, 3).unwrap(), 1), Some(&b"abcde"[..]));
        for end in 0..bytes.len() {
            assert!(Attributes(&bytes[..end]).count() < 2, "cut at {end}");
        }
    }

    #[test]
    fn features_are_found_by_name() {
        let bitset = |names: &[&str]| {
            let bit = |name: &&str| {
                let name = [name.as_bytes(), &[0]].concat();
                attribute(1, &attribute(ETHTOOL_A_BITSET_BIT_NAME, &name))
            };
            let bits = names.iter().map(bit).collect::<Vec<_>>().concat();
            [attribute(1, &[]), attribute(NESTED | ETHTOOL_A_BITSET_BITS, &bits)].concat()
        };
        for (name, listed, expected) in [
            ("nothing", &[][..], false),
            ("others", &["rx-gro", "tx-vlan-hw-insert"], false),
            ("a longer name", &["rx-vlan-hw-parser"], false),
            ("802.1Q", &["rx-gro", "rx-vlan-hw-parse"], true),
            ("802.1ad", &["rx-vlan-stag-hw-parse", "rx-gro"], true),
        ] {
            assert_eq!(lists_any(&bitset(listed), &STRIPS_TAGS), expected, "{name}");
        }
        assert!(!lists_any(&[], &STRIPS_TAGS), "no list");
    }

    #[test]
    fn messages_are_read_whole_or_not_at_all() {
        let message = |kind: u16, body: &[u8]| {
            let length = u32::try_from(HEADER_BYTES + body.len()).unwrap();
            let kind = kind.to_ne_bytes();
            [&length.to_ne_bytes()[..], &kind, &[0; 10], body].concat()
        };
        let good = message(20, b"body");
        assert_eq!(first_message(&good).unwrap(), (20, b"body".to_vec()));
        for end in 0..good.len() {
            let kind = first_message(&good[..end]).unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::InvalidData, "cut at {end}");
        }
        let failed = message(NLMSG_ERROR, &(-libc::ENODEV).to_ne_bytes());
        let errno = first_message(&failed).unwrap_err().raw_os_error();
        assert_eq!(errno, Some(libc::ENODEV));
    }
}
