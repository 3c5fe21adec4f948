//! What the kernel tells of network interfaces, by ioctl and `getifaddrs`, in the network namespace of the calling
//! thread (sysfs would show that of whoever mounted it).
//!
//! Control side only. Read first: `netdevice(7)`, kernel `include/uapi/linux/ethtool.h`.

use std::ffi::CStr;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// `ETHTOOL_GDRVINFO` (`linux/ethtool.h`).
const GDRVINFO: u32 = 0x03;
/// `ETHTOOL_GRINGPARAM`.
const GRINGPARAM: u32 = 0x10;
/// `ETHTOOL_GCHANNELS`.
const GCHANNELS: u32 = 0x3c;

/// `ETHTOOL_GRXFH` and `ETHTOOL_SRXFH`: by which fields of a frame the NIC hashes a kind of flow.
const GRXFH: u32 = 0x29;
const SRXFH: u32 = 0x2a;
/// `UDP_V4_FLOW`.
const UDP_V4_FLOW: u32 = 0x02;

/// Words of the buffer that an ethtool command fills: 256 bytes. The longest answer asked for, `struct ethtool_drvinfo`,
/// has 196 bytes.
const ETHTOOL_WORDS: usize = 64;

/// Channels of an interface: a combined one has a queue of each kind (`struct ethtool_channels`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Channels {
    /// Channels that only receive.
    pub(crate) rx: u32,
    /// Channels that only transmit.
    pub(crate) tx: u32,
    /// Channels that do both.
    pub(crate) combined: u32,
    /// Most that only transmit.
    pub(crate) tx_max: u32,
    /// Most that do both.
    pub(crate) combined_max: u32,
}

impl Channels {
    /// What is assumed of a driver that does not say.
    pub(crate) const ONE: Self = Self { rx: 1, tx: 1, combined: 0, tx_max: 1, combined_max: 0 };
}

/// A question to the kernel about one interface. Control side.
pub(crate) struct NetDevice {
    socket: OwnedFd,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl NetDevice {
    /// Prepares to ask about the interface `name`, which need not exist.
    ///
    /// # Errors
    /// `ENODEV` for a name that no interface can have (empty, longer than 15 bytes, or with a NUL in it); or no socket.
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        let mut field = [0; libc::IFNAMSIZ];
        if name.is_empty() || name.len() >= field.len() || name.contains('\0') {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        for (slot, byte) in field.iter_mut().zip(name.bytes()) {
            *slot = byte as libc::c_char;
        }
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, name: field })
    }

    /// The interface's index.
    pub(crate) fn index(&self) -> io::Result<u32> {
        let answer = self.ask(libc::SIOCGIFINDEX)?;
        // SAFETY: S1 — SIOCGIFINDEX fills this member.
        let index = unsafe { answer.ifr_ifru.ifru_ifindex };
        Ok(index.unsigned_abs())
    }

    /// The MTU in bytes, without the Ethernet header.
    pub(crate) fn mtu(&self) -> io::Result<u32> {
        let answer = self.ask(libc::SIOCGIFMTU)?;
        // SAFETY: S1 — SIOCGIFMTU fills this member.
        let mtu = unsafe { answer.ifr_ifru.ifru_mtu };
        Ok(mtu.unsigned_abs())
    }

    /// Whether the interface is up.
    pub(crate) fn is_up(&self) -> io::Result<bool> {
        let answer = self.ask(libc::SIOCGIFFLAGS)?;
        // SAFETY: S1 — SIOCGIFFLAGS fills this member.
        let flags = unsafe { answer.ifr_ifru.ifru_flags };
        Ok(libc::c_int::from(flags) & libc::IFF_UP != 0)
    }

    /// The MAC address; `None` when the interface is no Ethernet.
    pub(crate) fn mac(&self) -> io::Result<Option<[u8; 6]>> {
        let answer = self.ask(libc::SIOCGIFHWADDR)?;
        // SAFETY: S1 — SIOCGIFHWADDR fills this member.
        let address = unsafe { answer.ifr_ifru.ifru_hwaddr };
        if address.sa_family != libc::ARPHRD_ETHER {
            return Ok(None);
        }
        let mut mac = [0; 6];
        for (byte, got) in mac.iter_mut().zip(address.sa_data) {
            *byte = got as u8;
        }
        Ok(Some(mac))
    }

    /// Channels in use, and how many there can be.
    pub(crate) fn channels(&self) -> io::Result<Channels> {
        // struct ethtool_channels: cmd, the maxima of rx, tx, other and combined, then their counts.
        let words = self.ethtool(GCHANNELS)?;
        Ok(Channels { rx: words[5], tx: words[6], combined: words[8], tx_max: words[2], combined_max: words[4] })
    }

    /// Descriptors of the hardware's receive ring.
    pub(crate) fn rx_ring(&self) -> io::Result<u32> {
        // struct ethtool_ringparam: cmd, four maxima, then rx, mini, jumbo and tx pending.
        Ok(self.ethtool(GRINGPARAM)?[5])
    }

    /// The driver's name.
    pub(crate) fn driver(&self) -> io::Result<String> {
        // struct ethtool_drvinfo: cmd, then 32 bytes of driver name.
        let words = self.ethtool(GDRVINFO)?;
        let name = words[1..9].iter().flat_map(|word| word.to_ne_bytes()).take_while(|byte| *byte != 0);
        Ok(name.map(char::from).collect())
    }

    /// By which fields the NIC hashes UDP over IPv4, as `RXH_` bits of `ethtool.h`; `EOPNOTSUPP` where the driver has no
    /// hash.
    pub(crate) fn udp4_hash_fields(&self) -> io::Result<u64> {
        // struct ethtool_rxnfc: cmd, flow type, then the fields in eight bytes.
        let words = self.ethtool_with(&[GRXFH, UDP_V4_FLOW])?;
        let [a, b, c, d] = words[2].to_ne_bytes();
        let [e, f, g, h] = words[3].to_ne_bytes();
        Ok(u64::from_ne_bytes([a, b, c, d, e, f, g, h]))
    }

    /// Tells the NIC by which fields to hash UDP over IPv4. Needs CAP_NET_ADMIN.
    pub(crate) fn set_udp4_hash_fields(&self, fields: u64) -> io::Result<()> {
        let [a, b, c, d, e, f, g, h] = fields.to_ne_bytes();
        let (low, high) = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]));
        self.ethtool_with(&[SRXFH, UDP_V4_FLOW, low, high]).map(drop)
    }

    fn ethtool(&self, command: u32) -> io::Result<[u32; ETHTOOL_WORDS]> {
        self.ethtool_with(&[command])
    }

    /// A command with its first words; the answer is in the same buffer.
    fn ethtool_with(&self, words: &[u32]) -> io::Result<[u32; ETHTOOL_WORDS]> {
        let mut buffer = [0u32; ETHTOOL_WORDS];
        for (place, word) in buffer.iter_mut().zip(words) {
            *place = *word;
        }
        let mut request = self.request();
        request.ifr_ifru.ifru_data = buffer.as_mut_ptr().cast();
        self.call(libc::SIOCETHTOOL, &mut request)?;
        Ok(buffer)
    }

    fn ask(&self, request: libc::c_ulong) -> io::Result<libc::ifreq> {
        let mut answer = self.request();
        self.call(request, &mut answer)?;
        Ok(answer)
    }

    fn request(&self) -> libc::ifreq {
        libc::ifreq { ifr_name: self.name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_ifindex: 0 } }
    }

    fn call(&self, request: libc::c_ulong, argument: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: S1 — `argument` is a whole ifreq, and where it points to a buffer that buffer lives in the caller.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), request as _, std::ptr::from_mut(argument)) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// An entry of the kernel's list: an interface, or an IPv4 address of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InterfaceAddress {
    /// The interface's name.
    pub(crate) name: String,
    /// The address; `None` for the entry that every interface has.
    pub(crate) address: Option<Ipv4Addr>,
}

/// All interfaces and their IPv4 addresses.
///
/// # Errors
/// The kernel refused or memory is short.
pub(crate) fn interface_addresses() -> io::Result<Vec<InterfaceAddress>> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: S2 — `list` is a place for the pointer to be written to.
    let result = unsafe { libc::getifaddrs(&raw mut list) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = list.cast_const();
    // SAFETY: S2 — `next` is null or an element of a list that is freed only below.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next.cast_const();
        // SAFETY: S2 — every element has a name that ends with NUL.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy().into_owned();
        // SAFETY: S2 — `ifa_addr` is null or a socket address, which starts with the family.
        let Some(address) = (unsafe { entry.ifa_addr.as_ref() }) else { continue };
        match libc::c_int::from(address.sa_family) {
            libc::AF_PACKET => found.push(InterfaceAddress { name, address: None }),
            libc::AF_INET => {
                // SAFETY: S2 — the family says that it is a sockaddr_in.
                let address = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned() };
                let address = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                found.push(InterfaceAddress { name, address: Some(address) });
            }
            _ => {}
        }
    }
    // SAFETY: S2 — getifaddrs made this list, nothing of it is in use any more, and it is freed once.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}
