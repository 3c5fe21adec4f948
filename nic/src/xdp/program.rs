//! `Steering`: the XDP program with its maps, and the BPF link that attaches it.
//!
//! Invariant: the program is attached by a BPF link only, never by netlink, so that the kernel detaches it when the
//! last descriptor of the link closes, at the latest when the process ends for whatever reason. Control side only; no
//! call here is on the packet path. Read first: `bpf/steer.bpf.c`.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::RawFd;

use aya::maps::{HashMap, MapData, MapError, PerCpuArray, XskMap};
use aya::programs::links::FdLink;
use aya::programs::xdp::XdpMode;
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};

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

impl Transport {
    fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// How many frames the program has sent each way since it was loaded, over all queues and processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SteerCounters {
    /// Not for the stack: went on to the kernel.
    pub passed: u64,
    /// IPv4 for the stack: redirected to the socket of its queue.
    pub redirected: u64,
    /// ARP for the stack: redirected to the socket of its queue.
    pub arp: u64,
    /// For the stack, but its queue had no socket: went on to the kernel.
    pub no_socket: u64,
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
pub struct Steering {
    // Dropped first: frames stop being redirected before anything else goes.
    link: Option<FdLink>,
    program: Ebpf,
    name: &'static str,
}

impl Steering {
    /// Loads the program, with room for the sockets of `queues` queues, attached nowhere. With `merged` it is also given
    /// frames that do not lie in one buffer, which sockets must then be able to take.
    ///
    /// # Errors
    /// [`ProgramFault::Load`]: no permission, the kernel's verifier refused it, or, with `merged`, a kernel before 5.18.
    pub fn load(queues: u16, merged: bool) -> Result<Self, ProgramFault> {
        let mut program = EbpfLoader::new().map_max_entries("sockets", u32::from(queues.max(1))).load(OBJECT)?;
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
        self.addresses()?.insert(address.octets(), mode.value(), 0).map_err(in_map("addresses"))
    }

    /// Gives everything sent to `address` back to the kernel. May be called while the program runs.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: the address was not set, or the kernel refused.
    pub fn remove_address(&mut self, address: Ipv4Addr) -> Result<(), ProgramFault> {
        self.addresses()?.remove(&address.octets()).map_err(in_map("addresses"))
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
        let map = self.program.map("counters").ok_or(ProgramFault::Missing("map counters"))?;
        let counters: PerCpuArray<&MapData, u64> = PerCpuArray::try_from(map).map_err(in_map("counters"))?;
        let sum = |index: u32| -> Result<u64, ProgramFault> {
            let values = counters.get(&index, 0).map_err(in_map("counters"))?;
            Ok(values.iter().fold(0, |sum, value| sum.wrapping_add(*value)))
        };
        Ok(SteerCounters { passed: sum(0)?, redirected: sum(1)?, arp: sum(2)?, no_socket: sum(3)? })
    }

    fn addresses(&mut self) -> Result<HashMap<&mut MapData, [u8; 4], u32>, ProgramFault> {
        let map = self.program.map_mut("addresses").ok_or(ProgramFault::Missing("map addresses"))?;
        HashMap::try_from(map).map_err(in_map("addresses"))
    }

    fn ports(&mut self) -> Result<HashMap<&mut MapData, [u8; 4], u32>, ProgramFault> {
        let map = self.program.map_mut("ports").ok_or(ProgramFault::Missing("map ports"))?;
        HashMap::try_from(map).map_err(in_map("ports"))
    }
}

fn steer<'a>(program: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, ProgramFault> {
    let steer = program.program_mut(name).ok_or(ProgramFault::Missing("XDP program"))?;
    steer.try_into().map_err(|error| ProgramFault::Load(EbpfError::ProgramError(error)))
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
