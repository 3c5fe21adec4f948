//! Wrong uses, each turned into one clear line with the next step, before anything is touched where that is possible.
//!
//! [`check`](crate::preflight::check) is a pure function of the configuration and of
//! [`Facts`](crate::preflight::Facts), so that every line has a test without root.
//! What only the kernel can tell (a queue taken by another process, another XDP program) is explained when it has said
//! so. Control side only. Read first: `capabilities(7)`.

use std::io;
use std::net::IpAddr;

use rustix::process::Resource;
use rustix::thread::CapabilitySet;

use crate::link::{KernelAddress, Link, LinkError, ipv6_is_off, kernel_addresses};
use crate::queue::QueueId;
use crate::xdp::{AddressMode, Attach, CopyMode, MTU_MAX, ProgramFault, Transport, XdpConfig};
use crate::xdp::{RING_MAX, RING_MIN, zero_copy_mtu_max};

/// `KernelPort`: ports that sockets of the kernel have.
mod kernel_ports;

pub use kernel_ports::KernelPort;
use kernel_ports::kernel_ports;

/// What the maps of the XDP program have room for (`bpf/maps.h`).
const ADDRESSES_MAX: usize = 64;
const PORTS_MAX: usize = 256;
const ALLOW_MAX: usize = 256;

/// Why an AF_XDP device could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The link does not exist, is no Ethernet, or the kernel does not tell of it.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Permission is missing.
    #[error(
        "no permission for AF_XDP: {missing} missing; run as root or give the program cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock with setcap"
    )]
    Permission {
        /// The capabilities, by name.
        missing: String,
    },
    /// The kernel refuses to lock that much memory.
    #[error(
        "the frames of {queues} queues need {needed} bytes of locked memory, RLIMIT_MEMLOCK allows {limit} bytes; raise it (ulimit -l), grant CAP_IPC_LOCK, or use smaller rings (--ring-size)"
    )]
    LockedMemory {
        /// Queues to be bound.
        queues: usize,
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The machine has too little memory.
    #[error("no memory for {needed} bytes of frames a queue; free some or use smaller rings (--ring-size)")]
    NoMemory {
        /// Bytes needed for one queue.
        needed: u64,
    },
    /// The link is down.
    #[error("interface {link} is down; bring it up: ip link set {link} up")]
    LinkDown {
        /// The link.
        link: String,
    },
    /// The MTU does not fit one chunk, and the kernel hands over no frame that lies in several.
    #[error(
        "interface {link} has an MTU of {mtu} bytes, and this kernel, before Linux 6.6, hands over no frame of one above {limit}; lower it: ip link set {link} mtu 1500"
    )]
    MtuTooBig {
        /// The link.
        link: String,
        /// Its MTU in bytes.
        mtu: u32,
        /// The largest possible, in bytes.
        limit: u32,
    },
    /// Zero copy was asked for, and the driver would lose the longest frames without a count.
    #[error(
        "interface {link} has an MTU of {mtu} bytes, and in zero copy {driver} loses frames of one above {limit}; lower it: ip link set {link} mtu {limit}, or choose another mode, such as auto"
    )]
    MtuTooBigForZeroCopy {
        /// The link.
        link: String,
        /// Its driver.
        driver: String,
        /// Its MTU in bytes.
        mtu: u32,
        /// The largest possible in zero copy, in bytes.
        limit: u32,
    },
    /// The driver refused the program for the MTU.
    #[error(
        "the driver of {link} cannot run an XDP program with this MTU ({mtu} bytes here; on a veth the peer's counts, up to 3506 bytes); lower it: ip link set {link} mtu 1500"
    )]
    MtuRefused {
        /// The link.
        link: String,
        /// Its MTU in bytes.
        mtu: u32,
    },
    /// An address meant for the stack alone is configured in the kernel.
    #[error(
        "the kernel already has {address}, on {on}; take it away (ip address del {address} dev {on}) or choose another address"
    )]
    AddressInUse {
        /// The address.
        address: IpAddr,
        /// The interface that carries it.
        on: String,
    },
    /// An address meant to be shared with the kernel is not configured there.
    #[error(
        "{address} is to be shared with the kernel, which does not have it; add it (ip address add) or make it the stack's own"
    )]
    AddressNotShared {
        /// The address.
        address: IpAddr,
    },
    /// An IPv6 address meant to be shared with the kernel, which speaks no IPv6 on the link.
    #[error(
        "{address} is to be shared with the kernel, whose IPv6 is off on {link}; turn it on (sysctl -w net/ipv6/conf/{link}/disable_ipv6=0) and add the address (ip address add), or make it the stack's own"
    )]
    Ipv6Off {
        /// The address.
        address: IpAddr,
        /// The link.
        link: String,
    },
    /// An address meant to be shared with the kernel, which does not use it: it answers nobody who asks where the address is.
    #[error(
        "another station has {address}, so that the kernel does not use it on {on} (duplicate address detection failed); take it away from one of the two (ip address del {address} dev {on}) or choose another address"
    )]
    AddressDuplicate {
        /// The address.
        address: IpAddr,
        /// The interface that carries it.
        on: String,
    },
    /// A port of a shared address has a socket of the kernel's, which would get nothing more.
    #[error(
        "a socket of this host has {transport} port {port} of {address} already; stop its process (ss -{letter}anp 'sport = {port}') or choose another port",
        letter = match transport { Transport::Tcp => 't', Transport::Udp => 'u' }
    )]
    PortInUse {
        /// The shared address.
        address: IpAddr,
        /// The port's transport.
        transport: Transport,
        /// The port.
        port: u16,
    },
    /// The stack would get no frame at all, or an address is none that a host can have.
    #[error("{address} is no address that a host can have; give a unicast address")]
    AddressInvalid {
        /// The address.
        address: IpAddr,
    },
    /// A network is none: its prefix is too long, or bits are set beyond it.
    #[error(
        "{address}/{prefix_len} is no network; give its first address and a prefix length up to {most}, such as {example}",
        most = if .address.is_ipv4() { 32 } else { 128 },
        example = if .address.is_ipv4() { "10.77.0.0/16" } else { "2001:db8::/32" }
    )]
    NetworkInvalid {
        /// The address.
        address: IpAddr,
        /// The length of its prefix, in bits.
        prefix_len: u8,
    },
    /// An address is to be shared with a kernel that gets none of the queue's frames.
    #[error(
        "{address} cannot be shared with the kernel on dedicated queues, of which the kernel gets no frame; make it the stack's own, or do not dedicate the queues"
    )]
    SharedOnDedicated {
        /// The address.
        address: IpAddr,
    },
    /// An address is given twice.
    #[error("{address} is given twice; give each address once")]
    AddressTwice {
        /// The address.
        address: IpAddr,
    },
    /// Too many, or no, addresses, ports or queues.
    #[error("{count} {what} given, it must be 1 to {limit}")]
    Count {
        /// What there are too many of.
        what: &'static str,
        /// How many were given.
        count: usize,
        /// The most possible.
        limit: usize,
    },
    /// The link has no such queue.
    #[error("interface {link} has no queue {queue}: its queues are 0 to {last}", queue = .queue.0)]
    QueueOutOfRange {
        /// The link.
        link: String,
        /// The queue asked for.
        queue: QueueId,
        /// Its last queue.
        last: u16,
    },
    /// Some receive queues have no transmit queue: a socket on one of them could receive and never answer.
    #[error(
        "interface {link} has {rx} receive queues and {tx} transmit queue{}, so that not every queue could answer what it receives; give it as many of both: {command}",
        if *.tx == 1 { "" } else { "s" }
    )]
    FewerTransmitQueues {
        /// The link.
        link: String,
        /// Its receive queues.
        rx: u16,
        /// Its transmit queues.
        tx: u16,
        /// The command that mends it.
        command: String,
    },
    /// A queue is listed twice.
    #[error("queue {} is listed twice", .queue.0)]
    QueueTwice {
        /// The queue.
        queue: QueueId,
    },
    /// A ring has a size that the kernel does not take.
    #[error("a {which} ring of {size} descriptors: it must be a power of two from {RING_MIN} to {RING_MAX}")]
    RingSize {
        /// Which ring.
        which: &'static str,
        /// The size asked for.
        size: u32,
    },
    /// Another socket holds the queue.
    #[error("queue {} of {link} is already bound by another socket; stop that process or choose another queue", .queue.0)]
    QueueBusy {
        /// The link.
        link: String,
        /// The queue.
        queue: QueueId,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Another XDP program is on the link.
    #[error(
        "another XDP program is attached to {link}; stop its owner (bpftool net list) or detach it: ip link set {link} xdp off"
    )]
    ProgramAttached {
        /// The link.
        link: String,
        /// What the kernel said.
        #[source]
        source: Box<ProgramFault>,
    },
    /// Generic mode was asked for where it delivers frames to the wrong queue.
    #[error(
        "{link} is a veth with {queues} queues, where generic mode delivers frames to the wrong queue; use native mode or one queue"
    )]
    GenericShiftsQueues {
        /// The link.
        link: String,
        /// Its queues.
        queues: u16,
    },
    /// Zero copy was asked for, and the driver does not grant it.
    #[error("the driver of {link} ({driver}) grants no zero copy: {source}; choose another mode, such as auto")]
    NoZeroCopy {
        /// The link.
        link: String,
        /// Its driver.
        driver: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The driver cannot run the program in the mode asked for.
    #[error(
        "the driver of {link} ({driver}) cannot run an XDP program in {mode} mode: {reason}; choose another mode, such as auto"
    )]
    AttachUnsupported {
        /// The link.
        link: String,
        /// Its driver.
        driver: String,
        /// The mode.
        mode: Attach,
        /// What the kernel said, in words.
        reason: io::Error,
        /// The same, with where it was said.
        #[source]
        source: Box<ProgramFault>,
    },
    /// A socket could not be bound, for a reason not foreseen.
    #[error("cannot bind an AF_XDP socket to queue {} of {link}: {source}", .queue.0)]
    Bind {
        /// The link.
        link: String,
        /// The queue.
        queue: QueueId,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The program could not be loaded or attached, for a reason not foreseen.
    #[error(transparent)]
    Program(Box<ProgramFault>),
}

/// What is true of the machine just now, as far as it decides whether a device can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The link.
    pub link: Link,
    /// IP addresses that the kernel has.
    pub kernel_addresses: Vec<KernelAddress>,
    /// Ports that the kernel's sockets have; not asked for where no address is shared.
    pub kernel_ports: Vec<KernelPort>,
    /// Whether the kernel speaks no IPv6 on the link.
    pub ipv6_off: bool,
    /// Names of the capabilities that are missing.
    pub missing_capabilities: Vec<&'static str>,
    /// Bytes of memory that may be locked; `None` for any number.
    pub lockable_bytes: Option<u64>,
}

impl Facts {
    /// Asks the kernel, in the network namespace of the calling thread, for what decides whether `config` can be had.
    ///
    /// # Errors
    /// [`OpenError::Link`]: the kernel tells nothing of the link.
    pub fn gather(config: &XdpConfig) -> Result<Self, OpenError> {
        let kernel_addresses =
            kernel_addresses().map_err(|source| LinkError::Kernel { name: config.link.clone(), source })?;
        let effective = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
        let lockable_bytes = match effective.contains(CapabilitySet::IPC_LOCK) {
            true => None,
            false => rustix::process::getrlimit(Resource::Memlock).current,
        };
        let missing_capabilities = missing(effective);
        let link = Link::by_name(&config.link)?;
        // The kernel goes through its tables for it, of every connection that it has: some milliseconds even where it has none.
        let shares = config.addresses.iter().any(|(_, mode)| *mode == AddressMode::Shared);
        let kernel_ports = if shares { kernel_ports() } else { Vec::new() };
        let ipv6_off = ipv6_is_off(&link.name);
        Ok(Self { link, kernel_addresses, kernel_ports, ipv6_off, missing_capabilities, lockable_bytes })
    }
}

/// Names of the capabilities that AF_XDP needs and `effective` lacks. `CAP_SYS_ADMIN` includes `CAP_BPF` and `CAP_PERFMON`, without
/// which the verifier lets no program compare pointers, as ours does with the end of each frame.
fn missing(effective: CapabilitySet) -> Vec<&'static str> {
    let needed = [
        ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
        ("CAP_NET_RAW", CapabilitySet::NET_RAW),
        ("CAP_BPF", CapabilitySet::BPF | CapabilitySet::SYS_ADMIN),
        ("CAP_PERFMON", CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN),
    ];
    needed.into_iter().filter(|(_, any)| !effective.intersects(*any)).map(|(name, _)| name).collect()
}

/// Finds what is wrong with opening `config` on a machine of which `facts` are true.
///
/// # Errors
/// The first thing that is wrong, in the order in which a newcomer would want to know.
pub fn check(config: &XdpConfig, facts: &Facts) -> Result<(), OpenError> {
    let link = &facts.link;
    for (which, size) in [("receive", config.rx_ring), ("transmit", config.tx_ring)] {
        if !size.is_power_of_two() || !(RING_MIN..=RING_MAX).contains(&size) {
            return Err(OpenError::RingSize { which, size });
        }
    }
    check_addresses(config, facts)?;
    let queues = check_queues(config, link)?;
    if !link.up {
        return Err(OpenError::LinkDown { link: link.name.clone() });
    }
    let limit = zero_copy_mtu_max(link);
    if config.copy == CopyMode::ZeroCopy && link.mtu > limit {
        let (link, driver, mtu) = (link.name.clone(), link.driver.clone(), link.mtu);
        return Err(OpenError::MtuTooBigForZeroCopy { link, driver, mtu, limit });
    }
    if !facts.missing_capabilities.is_empty() {
        return Err(OpenError::Permission { missing: facts.missing_capabilities.join(", ") });
    }
    let needed = config.umem_bytes(link).saturating_mul(queues as u64);
    match facts.lockable_bytes {
        Some(limit) if limit < needed => Err(OpenError::LockedMemory { queues, needed, limit }),
        _ => Ok(()),
    }
}

fn check_addresses(config: &XdpConfig, facts: &Facts) -> Result<(), OpenError> {
    let count = config.addresses.len();
    // Whoever takes every frame need not name any address.
    let least = usize::from(!config.dedicated);
    if !(least..=ADDRESSES_MAX).contains(&count) {
        return Err(OpenError::Count { what: "addresses", count, limit: ADDRESSES_MAX });
    }
    let shared = config.addresses.iter().any(|(_, mode)| *mode == AddressMode::Shared);
    let count = config.ports.len();
    if count > PORTS_MAX || (shared && count == 0) {
        return Err(OpenError::Count { what: "ports of shared addresses", count, limit: PORTS_MAX });
    }
    check_allowed(&config.allow)?;
    for (position, &(address, mode)) in config.addresses.iter().enumerate() {
        if mode == AddressMode::Shared && config.dedicated {
            return Err(OpenError::SharedOnDedicated { address });
        }
        if !is_host(address) {
            return Err(OpenError::AddressInvalid { address });
        }
        if config.addresses.iter().take(position).any(|(earlier, _)| *earlier == address) {
            return Err(OpenError::AddressTwice { address });
        }
        let carrier = facts.kernel_addresses.iter().find(|known| known.address == address);
        match (mode, carrier) {
            (AddressMode::Own, Some(carrier)) => {
                return Err(OpenError::AddressInUse { address, on: carrier.link.clone() });
            }
            (AddressMode::Shared, None) if address.is_ipv6() && facts.ipv6_off => {
                return Err(OpenError::Ipv6Off { address, link: facts.link.name.clone() });
            }
            (AddressMode::Shared, None) => return Err(OpenError::AddressNotShared { address }),
            (AddressMode::Shared, Some(carrier)) if carrier.duplicate => {
                return Err(OpenError::AddressDuplicate { address, on: carrier.link.clone() });
            }
            (AddressMode::Shared, Some(_)) => check_ports(config, facts, address)?,
            (AddressMode::Own, None) => {}
        }
    }
    Ok(())
}

/// Whether a host can have the address on a link. IPv6 writes IPv4 addresses in several ways (RFC 4291 §2.5.5), none of which a
/// packet on a link may have.
fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    let disguised = matches!(address, IpAddr::V6(address) if address.to_ipv4().is_some());
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast || disguised)
}

/// The program takes the ports of shared addresses from the kernel, whoever has them there.
fn check_ports(config: &XdpConfig, facts: &Facts, address: IpAddr) -> Result<(), OpenError> {
    let taken = |&&(transport, port): &&(Transport, u16)| {
        facts.kernel_ports.iter().any(|kernel| kernel.takes(transport, address, port))
    };
    match config.ports.iter().find(taken) {
        Some(&(transport, port)) => Err(OpenError::PortInUse { address, transport, port }),
        None => Ok(()),
    }
}

fn check_allowed(allow: &[(IpAddr, u8)]) -> Result<(), OpenError> {
    if allow.len() > ALLOW_MAX {
        return Err(OpenError::Count { what: "allowed networks", count: allow.len(), limit: ALLOW_MAX });
    }
    let is_network = |address: IpAddr, prefix_len: u8| match address {
        IpAddr::V4(address) => {
            let host_bits = u32::MAX.checked_shr(prefix_len.into()).unwrap_or(0);
            prefix_len <= 32 && address.to_bits() & host_bits == 0
        }
        IpAddr::V6(address) => {
            let host_bits = u128::MAX.checked_shr(prefix_len.into()).unwrap_or(0);
            prefix_len <= 128 && address.to_bits() & host_bits == 0
        }
    };
    match allow.iter().find(|&&(address, prefix_len)| !is_network(address, prefix_len)) {
        Some(&(address, prefix_len)) => Err(OpenError::NetworkInvalid { address, prefix_len }),
        None => Ok(()),
    }
}

/// Returns how many queues there are to bind.
fn check_queues(config: &XdpConfig, link: &Link) -> Result<usize, OpenError> {
    let there_are = link.rx_queues.min(link.tx_queues);
    let Some(queues) = &config.queues else {
        return match link.rx_queues > link.tx_queues {
            true => Err(fewer_transmit_queues(link)),
            false => Ok(usize::from(there_are)),
        };
    };
    if queues.is_empty() {
        return Err(OpenError::Count { what: "queues", count: 0, limit: usize::from(there_are) });
    }
    for (position, &queue) in queues.iter().enumerate() {
        if queue.0 >= there_are {
            return Err(OpenError::QueueOutOfRange { link: link.name.clone(), queue, last: there_are - 1 });
        }
        if queues.iter().take(position).any(|earlier| *earlier == queue) {
            return Err(OpenError::QueueTwice { queue });
        }
    }
    Ok(queues.len())
}

/// The kernel binds a socket to a receive queue without a transmit queue, and sends nothing of it
/// (`xsk_generic_xmit` in `net/xdp/xsk.c`).
fn fewer_transmit_queues(link: &Link) -> OpenError {
    let (rx, tx) = (link.rx_queues, link.tx_queues);
    let command = link.command_for_queues(if link.tx_queues_max >= rx { rx } else { tx });
    OpenError::FewerTransmitQueues { link: link.name.clone(), rx, tx, command }
}

/// What keeps a link whose sockets are bound from being used: frames longer than a chunk, unless they come in `several`.
///
/// # Errors
/// [`OpenError::MtuTooBig`].
pub(crate) fn check_chunks(link: &Link, several: bool) -> Result<(), OpenError> {
    match several || link.mtu <= MTU_MAX {
        true => Ok(()),
        false => Err(OpenError::MtuTooBig { link: link.name.clone(), mtu: link.mtu, limit: MTU_MAX }),
    }
}

/// Explains the kernel's refusal to bind a socket.
pub(crate) fn explain_bind(config: &XdpConfig, link: &Link, queue: QueueId, source: io::Error) -> OpenError {
    let name = link.name.clone();
    match source.raw_os_error() {
        Some(libc::EBUSY) => OpenError::QueueBusy { link: name, queue, source },
        Some(libc::EPERM | libc::EACCES) => OpenError::Permission { missing: "CAP_NET_RAW".to_owned() },
        Some(libc::ENOBUFS) => OpenError::LockedMemory {
            queues: 1,
            needed: config.umem_bytes(link),
            limit: rustix::process::getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX),
        },
        Some(libc::ENOMEM) => OpenError::NoMemory { needed: config.umem_bytes(link) },
        _ => OpenError::Bind { link: name, queue, source },
    }
}

/// Explains the kernel's refusal to load or attach the program.
pub(crate) fn explain_program(link: &Link, source: ProgramFault) -> OpenError {
    let name = link.name.clone();
    let code = source.raw_os_error();
    if let (ProgramFault::Attach { mode, .. }, Some(code @ (libc::EINVAL | libc::EOPNOTSUPP))) = (&source, code) {
        let (mode, driver, reason) = (*mode, link.driver.clone(), io::Error::from_raw_os_error(code));
        return OpenError::AttachUnsupported { link: name, driver, mode, reason, source: Box::new(source) };
    }
    match code {
        // EEXIST: attached in the other mode.
        Some(libc::EBUSY | libc::EEXIST) => OpenError::ProgramAttached { link: name, source: Box::new(source) },
        Some(libc::EPERM | libc::EACCES) if !matches!(source, ProgramFault::Load(_)) => {
            OpenError::Permission { missing: "CAP_NET_ADMIN".to_owned() }
        }
        Some(libc::EPERM) => OpenError::Permission { missing: "CAP_BPF".to_owned() },
        Some(libc::ERANGE) => OpenError::MtuRefused { link: name, mtu: link.mtu },
        _ => OpenError::Program(Box::new(source)),
    }
}

#[cfg(test)]
mod tests;
