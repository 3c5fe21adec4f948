//! `SteeringProgram`: the XDP program with its maps, and the BPF link that attaches it.
//!
//! Invariant: the program is attached by a BPF link only, never by netlink, so that the kernel detaches it when the
//! last descriptor of the link closes, at the latest when the process ends for whatever reason. Control side only; no
//! call here is on the packet path. Read first: `bpf/steer.bpf.c`.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::thread::JoinHandle;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, XskMap};
use aya::programs::{ProgramFd, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use serde::{Deserialize, Serialize};

use super::mode::Attach;
use crate::mac::Mac;
use crate::sys::bpf::{XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE, create_link, update_link};
use crate::sys::hidden::without_files;

/// What `build.rs` made of `bpf/steer.bpf.c`, aligned as an ELF file must be.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer.bpf.o"));

/// Who owns an address: the stack or the kernel too. Kept equal to `enum address_mode` in `bpf/maps.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressMode {
    /// The stack's alone: all IP to it, and ARP or neighbour discovery for it, goes to the stack. The kernel must not have it.
    Own,
    /// The kernel's too: the stack gets TCP and UDP to the listed ports, and ICMP errors about them; ARP and neighbour
    /// discovery stay with the kernel.
    Shared,
}

/// Bits of the map `settings`. Kept equal to `enum setting` in `bpf/maps.h`.
const DEDICATED: u32 = 1;
const ALLOW_LISTED: u32 = 2;
pub(super) const NOBODY: u32 = 4;
const ANSWER_BY_REDIRECT: u32 = 8;

/// Where in the same value the number of the VLAN is.
const VLAN_SHIFT: u32 = 16;

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
    /// IP for the stack: redirected to the socket of its queue.
    pub redirected: u64,
    /// ARP for the stack: redirected to the socket of its queue.
    pub arp: u64,
    /// For the stack, but its queue had no socket: went on to the kernel.
    pub no_socket: u64,
    /// IP for the stack from a source that is not allowed: dropped.
    pub denied: u64,
    /// An ICMP error about a packet that the stack sent from a shared address: redirected to the socket of its queue.
    pub icmp_errors: u64,
    /// A fragment, not the first, of a packet for the stack at a shared address: redirected to the socket of its queue.
    pub fragments: u64,
    /// Not for the stack, on a dedicated queue: redirected to its socket.
    pub dedicated: u64,
    /// TCP for the stack while no process served: answered with RST.
    pub refused: u64,
    /// ARP for the stack while no process served: answered.
    pub arp_answered: u64,
    /// A neighbour solicitation or advertisement for the stack: redirected to the socket of its queue.
    pub neighbors: u64,
    /// A neighbour solicitation for the stack while no process served: answered.
    pub neighbors_answered: u64,
}

impl SteerCounters {
    /// Each in the order of the map.
    fn of(counts: [u64; COUNTERS]) -> Self {
        let mut counters = Self::default();
        for (place, count) in counters.places().into_iter().zip(counts) {
            *place = count;
        }
        counters
    }

    fn counts(mut self) -> [u64; COUNTERS] {
        self.places().map(|place| *place)
    }

    /// All of them, in the order of the map.
    fn places(&mut self) -> [&mut u64; COUNTERS] {
        let Self {
            passed,
            redirected,
            arp,
            no_socket,
            denied,
            icmp_errors,
            fragments,
            dedicated,
            refused,
            arp_answered,
            neighbors,
            neighbors_answered,
        } = self;
        [
            passed,
            redirected,
            arp,
            no_socket,
            denied,
            icmp_errors,
            fragments,
            dedicated,
            refused,
            arp_answered,
            neighbors,
            neighbors_answered,
        ]
    }

    /// Both together.
    pub(super) fn plus(self, more: Self) -> Self {
        let (counts, more) = (self.counts(), more.counts());
        Self::of(std::array::from_fn(|index| counts[index].wrapping_add(more[index])))
    }
}

/// Verdicts that are counted.
const COUNTERS: usize = 12;

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
        /// The map's name in `bpf/maps.h`.
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
        source: io::Error,
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

/// What is needed to hold a program: its link, its settings, its counters. Each may be sent to another process.
#[derive(Debug)]
pub struct SharedProgram {
    /// In this order.
    pub descriptors: [OwnedFd; 3],
    /// Where it is attached.
    pub attach: Attach,
}

/// A link by which a program is attached, for [`XdpDevice::open_over`](crate::xdp::XdpDevice::open_over).
#[derive(Debug)]
pub struct AttachedLink {
    /// Its descriptor.
    pub link: OwnedFd,
    /// Where it is attached.
    pub attach: Attach,
}

/// The loaded program, its maps and, once attached, its link. Dropping it detaches.
#[derive(Debug)]
pub struct SteeringProgram {
    // Dropped first: frames stop being redirected before anything else goes.
    link: Option<AttachedLink>,
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
        Self::start_loading(queues, merged).finish(merged)
    }

    /// Begins to load the program on a thread of its own, which takes some 20 milliseconds: most of it is the verifier's. `merged`
    /// is what [`Loading::finish`] is likely to be told.
    pub(super) fn start_loading(queues: u16, merged: bool) -> Loading {
        let load = move || {
            let mut program = loader()?.map_max_entries("sockets", u32::from(queues.max(1))).load(OBJECT)?;
            let verified = verify(&mut program, merged);
            Ok((program, verified))
        };
        Loading { thread: std::thread::spawn(load), merged }
    }

    /// Makes the stack answer at `address`, or changes who owns it. May be called while the program runs.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: the map is full (64 addresses), or the kernel refused.
    pub fn set_address(&mut self, address: impl Into<IpAddr>, mode: AddressMode) -> Result<(), ProgramFault> {
        self.addresses()?.insert(bytes_of(address.into()), mode.value(), 0).map_err(in_map("addresses"))
    }

    /// Gives everything sent to `address` back to the kernel. May be called while the program runs.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: the address was not set, or the kernel refused.
    pub fn remove_address(&mut self, address: impl Into<IpAddr>) -> Result<(), ProgramFault> {
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

    /// Has IP packets for the stack dropped unless they come from one of `networks` (address and prefix length), and
    /// counted; with none, all are taken. To be called once: networks of an earlier call stay allowed.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: more than 256 networks, a prefix length beyond the address, or the kernel refused.
    pub fn allow(&mut self, networks: &[(IpAddr, u8)]) -> Result<(), ProgramFault> {
        let map = self.program.map_mut("allowed").ok_or(ProgramFault::Missing("map allowed"))?;
        let mut allowed: LpmTrie<_, [u8; 16], u32> = LpmTrie::try_from(map).map_err(in_map("allowed"))?;
        for &(address, prefix_len) in networks {
            let key = Key::new(prefix_bits(address, prefix_len), bytes_of(address));
            allowed.insert(&key, 1, 0).map_err(in_map("allowed"))?;
        }
        self.set(ALLOW_LISTED, !networks.is_empty())
    }

    /// Takes frames with the 802.1Q tag `vlan` alone for the stack, 1 to 4094; `None`: those without a tag. To be called once.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: the kernel refused.
    pub fn set_vlan(&mut self, vlan: Option<u16>) -> Result<(), ProgramFault> {
        self.set(u32::from(vlan.unwrap_or(0)) << VLAN_SHIFT, true)
    }

    fn set(&mut self, setting: u32, on: bool) -> Result<(), ProgramFault> {
        set_bit(self.program.map_mut("settings").ok_or(ProgramFault::Missing("map settings"))?, setting, on)
    }

    /// How the program sends answers back: by a redirect to the interface, which a veth in native mode needs, or as other
    /// drivers do it.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: the kernel refused.
    pub fn set_answer_by_redirect(&mut self, redirect: bool) -> Result<(), ProgramFault> {
        self.set(ANSWER_BY_REDIRECT, redirect)
    }

    /// Says which address the NIC has, so that ARP and solicitations can be answered for the stack while no process serves.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: the kernel refused.
    pub fn set_station(&mut self, mac: Mac) -> Result<(), ProgramFault> {
        let map = self.program.map_mut("station").ok_or(ProgramFault::Missing("map station"))?;
        let mut station: Array<_, [u8; 8]> = Array::try_from(map).map_err(in_map("station"))?;
        station.set(0, station_of(mac), 0).map_err(in_map("station"))
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
    pub fn attach(&mut self, index: u32, attach: Attach) -> Result<(), ProgramFault> {
        let flags = match attach {
            Attach::Native => XDP_FLAGS_DRV_MODE,
            Attach::Generic => XDP_FLAGS_SKB_MODE,
        };
        let link = create_link(self.fd()?.as_fd(), index, flags).map_err(|source| match source.raw_os_error() {
            Some(libc::EINVAL) if !kernel_has_links() => ProgramFault::NoLink,
            _ => ProgramFault::Attach { mode: attach, source },
        })?;
        self.link = Some(AttachedLink { link, attach });
        Ok(())
    }

    /// Takes the place of the program that another process has attached to the link with this index, so that there is one
    /// for every frame; attaches anew where somebody has detached that one.
    ///
    /// # Errors
    /// As for [`attach`](Self::attach).
    pub fn attach_over(&mut self, over: AttachedLink, index: u32) -> Result<(), ProgramFault> {
        let mode = over.attach;
        // Until its holder says that it serves: a process may end before it has told.
        self.set(NOBODY, true)?;
        match update_link(over.link.as_fd(), self.fd()?.as_fd()) {
            Ok(()) => self.link = Some(over),
            Err(source) if source.raw_os_error() == Some(libc::ENOLINK) => self.attach(index, mode)?,
            Err(source) => return Err(ProgramFault::Attach { mode, source }),
        }
        Ok(())
    }

    fn fd(&mut self) -> Result<ProgramFd, ProgramFault> {
        let fd = steer(&mut self.program, self.name)?.fd().and_then(|fd| Ok(fd.try_clone()?));
        fd.map_err(|error| ProgramFault::Load(error.into()))
    }

    /// Detaches the program: from here on every frame goes to the kernel, unless another process holds it
    /// ([`HeldProgram`](crate::xdp::HeldProgram)).
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

    /// Descriptors by which another process holds the program.
    ///
    /// # Errors
    /// The process has no descriptor left, or the program is not attached.
    pub fn share(&self) -> io::Result<SharedProgram> {
        let missing = |what| io::Error::other(ProgramFault::Missing(what));
        let Some(AttachedLink { link, attach }) = &self.link else { return Err(missing("link")) };
        let (Some(Map::Array(settings)), Some(Map::PerCpuArray(counters))) =
            (self.program.map("settings"), self.program.map("counters"))
        else {
            return Err(missing("maps settings and counters"));
        };
        let descriptors = [
            link.try_clone()?,
            settings.fd().as_fd().try_clone_to_owned()?,
            counters.fd().as_fd().try_clone_to_owned()?,
        ];
        Ok(SharedProgram { descriptors, attach: *attach })
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

/// Changes one of the settings in their map.
pub(super) fn set_bit(map: &mut Map, setting: u32, on: bool) -> Result<(), ProgramFault> {
    let mut settings: Array<_, u32> = Array::try_from(map).map_err(in_map("settings"))?;
    let before = settings.get(&0, 0).map_err(in_map("settings"))?;
    let now = if on { before | setting } else { before & !setting };
    settings.set(0, now, 0).map_err(in_map("settings"))
}

pub(super) fn read_counters(map: &Map) -> Result<SteerCounters, ProgramFault> {
    let counters: PerCpuArray<&MapData, u64> = PerCpuArray::try_from(map).map_err(in_map("counters"))?;
    let mut counts = [0; COUNTERS];
    for (index, count) in (0..).zip(&mut counts) {
        let values = counters.get(&index, 0).map_err(in_map("counters"))?;
        *count = values.iter().fold(0, |sum: u64, value| sum.wrapping_add(*value));
    }
    Ok(SteerCounters::of(counts))
}

/// A program that is being loaded.
#[derive(Debug)]
pub(super) struct Loading {
    thread: JoinHandle<Result<(Ebpf, Verified), EbpfError>>,
    /// Which of the two it is.
    merged: bool,
}

/// The program's name, once the kernel has taken it.
type Verified = Result<&'static str, ProgramFault>;

impl Loading {
    /// Waits for it. For `merged` and the errors see [`SteeringProgram::load`].
    pub(super) fn finish(self, merged: bool) -> Result<SteeringProgram, ProgramFault> {
        let loaded = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (mut program, verified) = loaded?;
        // What was loaded in vain costs the kernel a little memory; that it could not be is no fault.
        let name = if merged == self.merged { verified? } else { verify(&mut program, merged)? };
        Ok(SteeringProgram { link: None, program, name })
    }
}

/// Has the kernel verify and take one of the two programs of an object.
fn verify(program: &mut Ebpf, merged: bool) -> Verified {
    let name = if merged { "steer_frags" } else { "steer_whole" };
    steer(program, name)?.load().map_err(EbpfError::from)?;
    Ok(name)
}

/// A loader that knows no type of the running kernel's, of which the program uses none. aya reads all of them (5 MB of
/// `/sys/kernel/btf/vmlinux`, some 100 ms of a processor) whenever it makes a loader, if it finds them.
fn loader() -> Result<EbpfLoader<'static>, EbpfError> {
    without_files(EbpfLoader::new).map_err(|error| EbpfError::FileError { path: "/".into(), error })
}

fn steer<'a>(program: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, ProgramFault> {
    let steer = program.program_mut(name).ok_or(ProgramFault::Missing("XDP program"))?;
    steer.try_into().map_err(|error| ProgramFault::Load(EbpfError::ProgramError(error)))
}

/// Leading bits of a network as the map has it: those of IPv4 are behind the 96 that IPv6 maps it by.
fn prefix_bits(address: IpAddr, prefix_len: u8) -> u32 {
    u32::from(prefix_len) + if address.is_ipv4() { 96 } else { 0 }
}

/// `struct address` of `bpf/maps.h`: an IPv4 address as IPv6 maps it (RFC 4291 §2.5.5.2).
fn bytes_of(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// `struct station` of `bpf/maps.h`.
fn station_of(mac: Mac) -> [u8; 8] {
    let mut station = [0; 8];
    station[..6].copy_from_slice(&mac.0);
    station
}

/// Whether this kernel can attach XDP programs by link: since Linux 5.9. One that does not tell its version can.
fn kernel_has_links() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) >= (5, 9),
        _ => true,
    }
}

/// `struct port_key` of `bpf/maps.h`.
fn port_key(transport: Transport, port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, transport.number(), 0]
}

pub(super) fn in_map(map: &'static str) -> impl Fn(MapError) -> ProgramFault {
    move |source| ProgramFault::Map { map, source }
}

#[cfg(test)]
mod tests;
