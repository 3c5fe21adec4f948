//! `LinkRecord`: an interface as rtnetlink tells of it, found by any of its names or by its index.
//!
//! An ioctl takes names of at most 15 bytes; an alternative name may have 127, and is found here alone. Control side
//! only; sees the network namespace of the calling thread. Read first: `rtnetlink(7)`, "RTM_GETLINK".

use std::io;

use netlink_packet_core::{
    DecodeError, DefaultNla, ErrorBuffer, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer, NetlinkMessage, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkHeader, LinkMessage, Stats64};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// `IFLA_IFNAME` (`linux/if_link.h`).
const IFNAME: u16 = 3;
/// `IFLA_LINK`: the interface that this one stands on; `IFLA_LINK_NETNSID`: it is in another namespace.
const LINK: u16 = 5;
const LINK_NETNSID: u16 = 37;
/// `IFLA_LINKINFO`, and of what is nested in it `IFLA_INFO_KIND` and `IFLA_INFO_DATA`, in which `IFLA_VLAN_ID` and
/// `IFLA_VLAN_PROTOCOL` are.
const LINKINFO: u16 = 18;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VLAN_ID: u16 = 1;
const VLAN_PROTOCOL: u16 = 5;
/// EtherType of an 802.1Q tag.
const ETHERTYPE_VLAN: u16 = 0x8100;
/// `IFLA_STATS64`.
const STATS64: u16 = 23;
/// `IFLA_CARRIER`: one byte.
const CARRIER: u16 = 33;
/// `IFLA_XDP`, and of what is nested in it `IFLA_XDP_PROG_ID`, `IFLA_XDP_DRV_PROG_ID` and `IFLA_XDP_SKB_PROG_ID`: the program, or
/// where there is one for each way of attaching, that of each.
const XDP: u16 = 43;
const XDP_PROGRAM: u16 = 4;
const XDP_DRIVER_PROGRAM: u16 = 5;
const XDP_GENERIC_PROGRAM: u16 = 6;
/// Bits of an attribute's kind that say how it is encoded (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const KIND_FLAGS: u16 = 0xc000;
/// `IFLA_ALT_IFNAME`, asked for since Linux 5.5.
const ALT_IFNAME: u16 = 53;
/// `RTM_NEWLINK`, the kind of the answer (`linux/rtnetlink.h`).
const NEWLINK: u16 = 16;
/// Bytes of `struct ifinfomsg`, after which the attributes begin.
const HEADER_BYTES: usize = 16;
/// Longest name and longest alternative name, without the NUL (`IFNAMSIZ`, `ALTIFNAMSIZ`).
const NAME_MAX: usize = 15;
const ALTERNATIVE_NAME_MAX: usize = 127;

/// What kernel and driver lost on an interface since it was made, whoever it was for (kernel
/// `include/uapi/linux/if_link.h`, `struct rtnl_link_stats64`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkCounts {
    /// Frames received damaged.
    pub rx_errors: u64,
    /// Frames received whole and dropped before the protocols.
    pub rx_dropped: u64,
    /// Frames for which the NIC had no buffer.
    pub rx_missed: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
    /// Frames dropped on their way out.
    pub tx_dropped: u64,
}

/// What an interface can carry just now, and which XDP programs see its frames.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkState {
    /// Whether there is somebody at the other end: a cable with a link, or a veth's peer that is up. True of a driver that
    /// does not tell.
    pub carrier: bool,
    /// Numbers of the programs, in the driver and in the kernel's receive path; empty where none is attached.
    pub programs: Vec<u32>,
}

impl Default for LinkState {
    fn default() -> Self {
        Self { carrier: true, programs: Vec::new() }
    }
}

/// An interface of the kernel's for one VLAN, such as eth0.100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanLink {
    /// Its index.
    pub index: u32,
    /// The index of the interface by which its frames go, with their tag.
    pub parent: u32,
    /// The number in their tag.
    pub number: u16,
}

/// What rtnetlink says of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkRecord {
    /// Its index: the same for as long as it exists in this namespace.
    pub(super) index: u32,
    /// Its name just now.
    pub(super) name: String,
    /// What was counted of it.
    pub(super) counts: LinkCounts,
    /// Its state.
    pub(super) state: LinkState,
    /// If it is a VLAN's: an 802.1Q tag of which interface.
    pub(super) vlan: Option<VlanLink>,
}

impl LinkRecord {
    /// The interface that has `name` as its name or as one of its alternative names.
    ///
    /// # Errors
    /// `ENODEV` when there is none, or none can have that name; or the kernel refused.
    pub(super) fn by_name(name: &str) -> io::Result<Self> {
        if name.is_empty() || name.len() > ALTERNATIVE_NAME_MAX || name.contains('\0') {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        let mut message = LinkMessage::default();
        message.attributes.push(match name.len() {
            // The kernel looks among the alternative names for this one too.
            ..=NAME_MAX => LinkAttribute::IfName(name.to_owned()),
            _ => LinkAttribute::Other(alternative_name(name)),
        });
        ask(message)
    }

    /// The interface of that index.
    ///
    /// # Errors
    /// `ENODEV` when there is none; or the kernel refused.
    pub(super) fn by_index(index: u32) -> io::Result<Self> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        ask(message)
    }
}

fn alternative_name(name: &str) -> DefaultNla {
    DefaultNla::new(ALT_IFNAME, [name.as_bytes(), b"\0"].concat())
}

fn ask(message: LinkMessage) -> io::Result<LinkRecord> {
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(message));
    request.header.flags = NLM_F_REQUEST;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    let socket = Socket::new(NETLINK_ROUTE)?;
    // To the kernel: its port is 0.
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    read(&answer)
}

/// Reads the attributes that matter; what later kernels add is none of ours.
fn read(answer: &[u8]) -> io::Result<LinkRecord> {
    let answer = NetlinkBuffer::new_checked(answer).map_err(invalid)?;
    match answer.message_type() {
        NEWLINK => {}
        NLMSG_ERROR => {
            let error = ErrorBuffer::new_checked(answer.payload()).map_err(invalid)?;
            // The kernel gives the error number negated.
            return Err(io::Error::from_raw_os_error(error.code().map_or(0, |code| -code.get())));
        }
        other => return Err(io::Error::other(format!("rtnetlink answered with a message of type {other}"))),
    }
    let index = LinkHeader::parse(answer.payload()).map_err(invalid)?.index;
    let attributes = answer.payload().get(HEADER_BYTES..).unwrap_or_default();
    let (mut name, mut counts, mut state) = (None, LinkCounts::default(), LinkState::default());
    let (mut parent, mut elsewhere, mut number) = (None, false, None);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(invalid)?;
        match attribute.kind() & !KIND_FLAGS {
            IFNAME => {
                let bytes = String::from_utf8_lossy(attribute.value());
                name = Some(bytes.trim_end_matches('\0').to_owned());
            }
            CARRIER => state.carrier = attribute.value() != [0],
            LINK => parent = attribute.value().try_into().ok().map(u32::from_ne_bytes),
            LINK_NETNSID => elsewhere = true,
            LINKINFO => number = read_vlan(attribute.value())?,
            XDP => state.programs = read_programs(attribute.value())?,
            STATS64 => counts = read_counts(&Stats64::parse(attribute.value()).map_err(invalid)?),
            _ => {}
        }
    }
    let name = name.ok_or_else(|| io::Error::other("rtnetlink told no name"))?;
    let vlan = parent.filter(|_| !elsewhere).zip(number);
    let vlan = vlan.map(|(parent, number)| VlanLink { index, parent, number });
    Ok(LinkRecord { index, name, counts, state, vlan })
}

/// The number of the 802.1Q tag of what is nested in `IFLA_LINKINFO`; `None` of an interface of another kind.
fn read_vlan(nested: &[u8]) -> io::Result<Option<u16>> {
    let (mut is_vlan, mut number, mut protocol) = (false, None, ETHERTYPE_VLAN);
    for attribute in NlasIterator::new(nested) {
        let attribute = attribute.map_err(invalid)?;
        match attribute.kind() & !KIND_FLAGS {
            INFO_KIND => is_vlan = attribute.value().strip_suffix(b"\0") == Some(b"vlan"),
            INFO_DATA => {
                for attribute in NlasIterator::new(attribute.value()) {
                    let attribute = attribute.map_err(invalid)?;
                    let word: Option<[u8; 2]> = attribute.value().try_into().ok();
                    match attribute.kind() & !KIND_FLAGS {
                        VLAN_ID => number = word.map(u16::from_ne_bytes),
                        VLAN_PROTOCOL => protocol = word.map_or(0, u16::from_be_bytes),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(number.filter(|_| is_vlan && protocol == ETHERTYPE_VLAN))
}

/// The programs of what is nested in `IFLA_XDP`, each once.
fn read_programs(nested: &[u8]) -> io::Result<Vec<u32>> {
    let mut programs = Vec::new();
    for attribute in NlasIterator::new(nested) {
        let attribute = attribute.map_err(invalid)?;
        if matches!(attribute.kind() & !KIND_FLAGS, XDP_PROGRAM | XDP_DRIVER_PROGRAM | XDP_GENERIC_PROGRAM)
            && let Ok(number) = attribute.value().try_into().map(u32::from_ne_bytes)
            && number != 0
            && !programs.contains(&number)
        {
            programs.push(number);
        }
    }
    Ok(programs)
}

fn read_counts(kernel: &Stats64) -> LinkCounts {
    LinkCounts {
        rx_errors: kernel.rx_errors,
        rx_dropped: kernel.rx_dropped,
        rx_missed: kernel.rx_missed_errors,
        tx_errors: kernel.tx_errors,
        tx_dropped: kernel.tx_dropped,
    }
}

fn invalid(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attribute as the kernel writes it: length, kind, value, filled up to four bytes.
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = 4 + value.len() as u16;
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_loopback_interface_is_found_by_name_and_by_index() {
        let found = LinkRecord::by_name("lo").expect("every namespace has one");
        assert_eq!((found.index, found.name.as_str()), (1, "lo"));
        assert_eq!(LinkRecord::by_index(1).expect("every namespace has one").name, "lo");
    }

    #[test]
    fn an_interface_without_a_program_has_a_carrier_unless_the_kernel_says_otherwise() {
        let lo = LinkRecord::by_index(1).expect("every namespace has one");
        assert!(lo.state.programs.is_empty(), "{lo:?}");
        assert!(LinkState::default().carrier);
    }

    #[test]
    fn an_interface_of_a_vlan_tells_its_number_and_others_none() {
        // As the kernel tells of them (drivers without 8021q make none).
        let of = |kind: &[u8], number: u16, protocol: u16| {
            let flags = attribute(2, &[1, 0, 0, 0, 255, 255, 255, 255]);
            let data =
                [attribute(VLAN_PROTOCOL, &protocol.to_be_bytes()), attribute(VLAN_ID, &number.to_ne_bytes()), flags];
            let nested = [attribute(INFO_KIND, kind), attribute(INFO_DATA, &data.concat())].concat();
            read_vlan(&nested).expect("it is well formed")
        };
        assert_eq!(of(b"vlan\0", 100, 0x8100), Some(100));
        assert_eq!(of(b"vlan\0", 100, 0x88a8), None, "a provider's tag is another");
        assert_eq!(of(b"macvlan\0", 1, 0x8100), None);
        assert_eq!(LinkRecord::by_index(1).expect("every namespace has one").vlan, None);
    }

    #[test]
    fn programs_are_read_wherever_they_are_attached_and_each_once() {
        let number = |kind, number: u32| attribute(kind, &number.to_ne_bytes());
        // IFLA_XDP_ATTACHED: 1 in the driver, 4 in several ways.
        let one = [attribute(2, &[1]), number(XDP_PROGRAM, 7), number(XDP_DRIVER_PROGRAM, 7)].concat();
        assert_eq!(read_programs(&one).expect("it is well formed"), [7]);
        let two = [attribute(2, &[4]), number(XDP_DRIVER_PROGRAM, 7), number(XDP_GENERIC_PROGRAM, 9)].concat();
        assert_eq!(read_programs(&two).expect("it is well formed"), [7, 9]);
        assert_eq!(read_programs(&attribute(2, &[0])).expect("it is well formed"), []);
        assert!(read_programs(&two[..two.len() - 2]).is_err(), "cut short");
    }

    #[test]
    fn what_is_not_there_is_said_by_its_error_number() {
        let long = "x".repeat(127);
        for name in ["no-such-link", long.as_str(), "", "nul\0", &"x".repeat(128)] {
            let error = LinkRecord::by_name(name).expect_err("there is none");
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{name:?}");
        }
        let error = LinkRecord::by_index(0x7fff_fff0).expect_err("there is none");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }
}
