//! `SteeringProgram`: the XDP program with its maps, and the BPF link that attaches it.
//!
//! Invariant: the program is attached by a BPF link only, never by netlink, so that the kernel detaches it when the
//! last descriptor of the link closes, at the latest when the process ends for whatever reason. Control side only; no
//! call here is on the packet path. Read first: `bpf/steer.bpf.c`.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::thread::JoinHandle;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, XskMap};
use aya::programs::links::FdLink;
use aya::programs::xdp::XdpMode;
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use serde::{Deserialize, Serialize};

use super::mode::Attach;

/// What `build.rs` made of `bpf/steer.bpf.c`, aligned as an ELF file must be.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer.bpf.o"));

/// Who owns an address: the stack or the kernel too. Kept equal to `enum address_mode` in `bpf/steer.bpf.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressMode {
    /// The stack's alone: all IPv4 to it, and ARP for it, goes to the stack. The kernel must not have it.
    Own,
    /// The kernel's too: the stack gets TCP and UDP to the listed ports, and ICMP errors about them; ARP stays with the
    /// kernel.
    Shared,
}

/// Bits of the map `settings`. Kept equal to `enum setting` in `bpf/steer.bpf.c`.
const DEDICATED: u32 = 1;
const ALLOW_LISTED: u32 = 2;

impl AddressMode {
    fn value(self) -> u32 {
        match self {
            Self::Own => 1,
            Self::Shared => 2,
        }
    }
}

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

impl Transport {
    fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// How many frames the program has sent each way since it was loaded, over all queues and processors: one for each
/// verdict, so that their sum is the number of frames that it has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteerCounters {
    /// Not for the stack: went on to the kernel.
    pub passed: u64,
    /// IPv4 for the stack: redirected to the socket of its queue.
    pub redirected: u64,
    /// ARP for the stack: redirected to the socket of its queue.
    pub arp: u64,
    /// For the stack, but its queue had no socket: went on to the kernel.
    pub no_socket: u64,
    /// IPv4 for the stack from a source that is not allowed: dropped.
    pub denied: u64,
    /// An ICMP error about a packet that the stack sent from a shared address: redirected to the socket of its queue.
    pub icmp_errors: u64,
    /// A fragment, not the first, of a packet for the stack at a shared address: redirected to the socket of its queue.
    pub fragments: u64,
    /// Not for the stack, on a dedicated queue: redirected to its socket.
    pub dedicated: u64,
}

/// Why the program could not be loaded, changed or attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramFault {
    /// The kernel or the loader refused the program.
    #[error("cannot load the XDP program: {0}")]
    Load(#[from] EbpfError),
    /// A map is missing from the compiled program: the build is broken.
    #[error("the compiled XDP program has no {0} named as expected; rebuild sidestep-nic")]
    Missing(&'static str),
    /// A map could not be read or changed.
    #[error("cannot use the map {map} of the XDP program: {source}")]
    Map {
        /// The map's name in `bpf/steer.bpf.c`.
        map: &'static str,
        /// What the kernel said.
        #[source]
        source: MapError,
    },
    /// The kernel did not attach the program.
    #[error("cannot attach the XDP program in {mode} mode: {source}")]
    Attach {
        /// The mode asked for.
        mode: Attach,
        /// What the kernel said.
        #[source]
        source: ProgramError,
    },
    /// The kernel cannot attach XDP programs by BPF link (before Linux 5.9).
    #[error("the kernel cannot attach an XDP program by BPF link; Linux 5.9 or later is needed")]
    NoLink,
}

impl ProgramFault {
    /// The kernel's error number behind this, if it was the kernel that refused.
    pub fn raw_os_error(&self) -> Option<i32> {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = next {
            if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
                return Some(code);
            }
            next = error.source();
        }
        None
    }
}

/// The loaded program, its maps and, once attached, its link. Dropping it detaches.
#[derive(Debug)]
pub struct SteeringProgram {
    // Dropped first: frames stop being redirected before anything else goes.
    link: Option<FdLink>,
    program: Ebpf,
    name: &'static str,
}

impl SteeringProgram {
    /// Loads the program, with room for the sockets of `queues` queues, attached nowhere. With `merged` it is also given
    /// frames that do not lie in one buffer, which sockets must then be able to take.
    ///
    /// # Errors
    /// [`ProgramFault::Load`]: no permission, the kernel's verifier refused it, or, with `merged`, a kernel before 5.18.
    pub fn load(queues: u16, merged: bool) -> Result<Self, ProgramFault> {
        Self::start_loading(queues).finish(merged)
    }

    /// Begins to load the program on a thread of its own: aya reads all types of the kernel first, which takes a
    /// processor some 100 ms.
    pub(super) fn start_loading(queues: u16) -> Loading {
        let load = move || EbpfLoader::new().map_max_entries("sockets", u32::from(queues.max(1))).load(OBJECT);
        Loading(std::thread::spawn(load))
    }

    fn of(mut program: Ebpf, merged: bool) -> Result<Self, ProgramFault> {
        let name = if merged { "steer_frags" } else { "steer_whole" };
        let steer: &mut Xdp = steer(&mut program, name)?;
        steer.load().map_err(EbpfError::from)?;
        Ok(Self { link: None, program, name })
    }

    /// Makes the stack answer at `address`, or changes who owns it. May be called while the program runs.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: the map is full (64 addresses), or the kernel refused.
    pub fn set_address(&mut self, address: Ipv4Addr, mode: AddressMode) -> Result<(), ProgramFault> {
        self.addresses()?.insert(bytes_of(address.into()), mode.value(), 0).map_err(in_map("addresses"))
    }

    /// Gives everything sent to `address` back to the kernel. May be called while the program runs.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: the address was not set, or the kernel refused.
    pub fn remove_address(&mut self, address: Ipv4Addr) -> Result<(), ProgramFault> {
        self.addresses()?.remove(&bytes_of(address.into())).map_err(in_map("addresses"))
    }

    /// Takes a port of all shared addresses for the stack. May be called while the program runs.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: the map is full (256 ports), or the kernel refused.
    pub fn open_port(&mut self, transport: Transport, port: u16) -> Result<(), ProgramFault> {
        self.ports()?.insert(port_key(transport, port), 1, 0).map_err(in_map("ports"))
    }

    /// Gives a port of all shared addresses back to the kernel. May be called while the program runs.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: the port was not open, or the kernel refused.
    pub fn close_port(&mut self, transport: Transport, port: u16) -> Result<(), ProgramFault> {
        self.ports()?.remove(&port_key(transport, port)).map_err(in_map("ports"))
    }

    /// Takes every frame of the queues that have a socket for the stack, or only what is for it. May be called while the
    /// program runs.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: the kernel refused.
    pub fn set_dedicated(&mut self, dedicated: bool) -> Result<(), ProgramFault> {
        self.set(DEDICATED, dedicated)
    }

    /// Has IPv4 packets for the stack dropped unless they come from one of `networks` (address and prefix length), and
    /// counted; with none, all are taken. To be called once: networks of an earlier call stay allowed.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: more than 256 networks, a prefix length above 32, or the kernel refused.
    pub fn allow(&mut self, networks: &[(Ipv4Addr, u8)]) -> Result<(), ProgramFault> {
        let map = self.program.map_mut("allowed").ok_or(ProgramFault::Missing("map allowed"))?;
        let mut allowed: LpmTrie<_, [u8; 16], u32> = LpmTrie::try_from(map).map_err(in_map("allowed"))?;
        for &(address, prefix_len) in networks {
            let key = Key::new(IPV4_PREFIX_BITS + u32::from(prefix_len), bytes_of(address.into()));
            allowed.insert(&key, 1, 0).map_err(in_map("allowed"))?;
        }
        self.set(ALLOW_LISTED, !networks.is_empty())
    }

    fn set(&mut self, setting: u32, on: bool) -> Result<(), ProgramFault> {
        let map = self.program.map_mut("settings").ok_or(ProgramFault::Missing("map settings"))?;
        let mut settings: Array<_, u32> = Array::try_from(map).map_err(in_map("settings"))?;
        let before = settings.get(&0, 0).map_err(in_map("settings"))?;
        let now = if on { before | setting } else { before & !setting };
        settings.set(0, now, 0).map_err(in_map("settings"))
    }

    /// Enters the AF_XDP socket `fd`, bound to receive queue `queue`. The kernel takes it out when the socket closes.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: not an AF_XDP socket, or a queue beyond those the program was loaded for.
    pub fn set_socket(&mut self, queue: u16, fd: RawFd) -> Result<(), ProgramFault> {
        let map = self.program.map_mut("sockets").ok_or(ProgramFault::Missing("map sockets"))?;
        let mut sockets = XskMap::try_from(map).map_err(in_map("sockets"))?;
        sockets.set(u32::from(queue), fd, 0).map_err(in_map("sockets"))
    }

    /// Attaches the program to the link with this index.
    ///
    /// # Errors
    /// [`ProgramFault::Attach`], with the kernel's number in [`raw_os_error`](ProgramFault::raw_os_error): `EBUSY`
    /// another program is attached, `EOPNOTSUPP` the driver has no native mode, `ERANGE` the MTU is too big.
    pub fn attach(&mut self, index: u32, mode: Attach) -> Result<(), ProgramFault> {
        let aya_mode = match mode {
            Attach::Native => XdpMode::Driver,
            Attach::Generic => XdpMode::Skb,
        };
        let steer = steer(&mut self.program, self.name)?;
        let in_attach = |source| ProgramFault::Attach { mode, source };
        let id = steer.attach_to_if_index(index, aya_mode).map_err(in_attach)?;
        let link = steer.take_link(id).map_err(in_attach)?;
        // aya falls back to netlink where the kernel knows no link, and such a program would outlive a killed process.
        // Dropping that netlink link detaches it.
        self.link = Some(FdLink::try_from(link).map_err(|_| ProgramFault::NoLink)?);
        Ok(())
    }

    /// Detaches the program: from here on every frame goes to the kernel.
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// The counters, summed over all processors. Costs a few system calls.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: the kernel refused.
    pub fn counters(&self) -> Result<SteerCounters, ProgramFault> {
        read_counters(self.program.map("counters").ok_or(ProgramFault::Missing("map counters"))?)
    }

    /// A descriptor of the counters' map, for a process that reads them in place of this one ([`CountersOf`]).
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn share_counters(&self) -> io::Result<OwnedFd> {
        match self.program.map("counters") {
            Some(Map::PerCpuArray(map)) => map.fd().as_fd().try_clone_to_owned(),
            _ => Err(io::Error::other(ProgramFault::Missing("map counters"))),
        }
    }

    fn addresses(&mut self) -> Result<HashMap<&mut MapData, [u8; 16], u32>, ProgramFault> {
        let map = self.program.map_mut("addresses").ok_or(ProgramFault::Missing("map addresses"))?;
        HashMap::try_from(map).map_err(in_map("addresses"))
    }

    fn ports(&mut self) -> Result<HashMap<&mut MapData, [u8; 4], u32>, ProgramFault> {
        let map = self.program.map_mut("ports").ok_or(ProgramFault::Missing("map ports"))?;
        HashMap::try_from(map).map_err(in_map("ports"))
    }
}

/// The counters of a program that another process has loaded.
#[derive(Debug)]
pub struct CountersOf(Map);

impl CountersOf {
    /// By a descriptor that [`Steering::share_counters`] gave.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: it is none, or the kernel refused.
    pub fn open(counters: OwnedFd) -> Result<Self, ProgramFault> {
        Ok(Self(Map::PerCpuArray(MapData::from_fd(counters).map_err(in_map("counters"))?)))
    }

    /// The counters, summed over all processors. Costs a few system calls.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: the kernel refused.
    pub fn read(&self) -> Result<SteerCounters, ProgramFault> {
        read_counters(&self.0)
    }
}

fn read_counters(map: &Map) -> Result<SteerCounters, ProgramFault> {
    let counters: PerCpuArray<&MapData, u64> = PerCpuArray::try_from(map).map_err(in_map("counters"))?;
    let sum = |index: u32| -> Result<u64, ProgramFault> {
        let values = counters.get(&index, 0).map_err(in_map("counters"))?;
        Ok(values.iter().fold(0, |sum, value| sum.wrapping_add(*value)))
    };
    Ok(SteerCounters {
        passed: sum(0)?,
        redirected: sum(1)?,
        arp: sum(2)?,
        no_socket: sum(3)?,
        denied: sum(4)?,
        icmp_errors: sum(5)?,
        fragments: sum(6)?,
        dedicated: sum(7)?,
    })
}

/// A program that is being loaded.
#[derive(Debug)]
pub(super) struct Loading(JoinHandle<Result<Ebpf, EbpfError>>);

impl Loading {
    /// Waits for it. For `merged` and the errors see [`SteeringProgram::load`].
    pub(super) fn finish(self, merged: bool) -> Result<SteeringProgram, ProgramFault> {
        let loaded = self.0.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        SteeringProgram::of(loaded?, merged)
    }
}

fn steer<'a>(program: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, ProgramFault> {
    let steer = program.program_mut(name).ok_or(ProgramFault::Missing("XDP program"))?;
    steer.try_into().map_err(|error| ProgramFault::Load(EbpfError::ProgramError(error)))
}

/// Bits before those of an IPv4 address in the address as IPv6 maps it.
const IPV4_PREFIX_BITS: u32 = 96;

/// `struct address` of `bpf/steer.bpf.c`: an IPv4 address as IPv6 maps it (RFC 4291 §2.5.5.2).
fn bytes_of(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// `struct port_key` of `bpf/steer.bpf.c`.
fn port_key(transport: Transport, port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, transport.number(), 0]
}

fn in_map(map: &'static str) -> impl Fn(MapError) -> ProgramFault {
    move |source| ProgramFault::Map { map, source }
}

#[cfg(test)]
mod tests;
