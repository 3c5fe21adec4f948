//! What the kernel tells of network interfaces, by ioctl and `getifaddrs`, in the network namespace of the calling
//! thread (sysfs would show that of whoever mounted it).
//!
//! Control side only. Read first: `netdevice(7)`, kernel `include/uapi/linux/ethtool.h`.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

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

    /// Sets the MTU. Needs CAP_NET_ADMIN.
    pub(crate) fn set_mtu(&self, mtu: u32) -> io::Result<()> {
        let mut request = self.request();
        // An MTU above 2^31 is refused as a negative one.
        request.ifr_ifru.ifru_mtu = mtu as libc::c_int;
        self.call(libc::SIOCSIFMTU, &mut request)
    }

    /// Whether the interface is up.
    pub(crate) fn is_up(&self) -> io::Result<bool> {
        let answer = self.ask(libc::SIOCGIFFLAGS)?;
        // SAFETY: S1 — SIOCGIFFLAGS fills this member.
        let flags = unsafe { answer.ifr_ifru.ifru_flags };
        Ok(libc::c_int::from(flags) & libc::IFF_UP != 0)
    }

    /// Brings the interface up. Needs CAP_NET_ADMIN.
    pub(crate) fn set_up(&self) -> io::Result<()> {
        let mut request = self.ask(libc::SIOCGIFFLAGS)?;
        // SAFETY: S1 — SIOCGIFFLAGS fills this member.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
        self.call(libc::SIOCSIFFLAGS, &mut request)
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

    /// An ethtool command. The kernel reads it from the buffer, and writes its answer there: the buffer must be as long
    /// as the longer of the two.
    pub(super) fn ethtool(&self, words: &mut [u32]) -> io::Result<()> {
        let mut request = self.request();
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        self.call(libc::SIOCETHTOOL, &mut request)
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

/// An entry of the kernel's list: an interface, or an IP address of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InterfaceAddress {
    /// The interface's name.
    pub(crate) name: String,
    /// The address; `None` for the entry that every interface has.
    pub(crate) address: Option<IpAddr>,
}

/// All interfaces and their IP addresses.
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
                found.push(InterfaceAddress { name, address: Some(address.into()) });
            }
            libc::AF_INET6 => {
                // SAFETY: S2 — the family says that it is a sockaddr_in6.
                let address = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
                let address = Ipv6Addr::from(address.sin6_addr.s6_addr);
                found.push(InterfaceAddress { name, address: Some(address.into()) });
            }
            _ => {}
        }
    }
    // SAFETY: S2 — getifaddrs made this list, nothing of it is in use any more, and it is freed once.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}
