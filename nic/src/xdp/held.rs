//! `HeldProgram`: the attached program in the hands of a process that outlives the one whose sockets it leads to.
//!
//! ```text
//!   XdpDevice::share ──descriptors──► HeldProgram::of          the program stays attached as long as either has them
//!   XdpDevice::open_over ◄──link──── HeldProgram::attached    the next device's program takes the place, in one step
//! ```
//!
//! While no process serves, frames fall through to the kernel, and clients of an address that only the stack has are told
//! by the program ([`HeldProgram::set_served`]). Read first: `bpf/steer.bpf.c`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{Map, MapData};

use super::mode::Attach;
use super::program::{
    AttachedLink, NOBODY, ProgramFault, SharedProgram, SteerCounters, in_map, read_counters, set_bit,
};

/// The program, attached for as long as this lives.
#[derive(Debug)]
pub struct HeldProgram {
    link: OwnedFd,
    settings: Map,
    counters: Map,
    attach: Attach,
    /// What programs in its place before have counted.
    before: SteerCounters,
}

impl HeldProgram {
    /// Holds what [`XdpDevice::share`](crate::xdp::XdpDevice::share) gave.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: a descriptor is none of a map, or the kernel refused.
    pub fn of(shared: SharedProgram) -> Result<Self, ProgramFault> {
        let [link, settings, counters] = shared.descriptors;
        let settings = Map::Array(MapData::from_fd(settings).map_err(in_map("settings"))?);
        let counters = Map::PerCpuArray(MapData::from_fd(counters).map_err(in_map("counters"))?);
        Ok(Self { link, settings, counters, attach: shared.attach, before: SteerCounters::default() })
    }

    /// Counts from what programs have counted that were in its place before.
    #[must_use]
    pub fn after(mut self, before: SteerCounters) -> Self {
        self.before = before;
        self
    }

    /// Whether a process serves at its sockets. While none does, the program answers TCP segments for addresses that only
    /// the stack has with RST, and ARP for them.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: the kernel refused.
    pub fn set_served(&mut self, served: bool) -> Result<(), ProgramFault> {
        set_bit(&mut self.settings, NOBODY, !served)
    }

    /// What it and those before it have counted, over all processors. Costs a few system calls.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: the kernel refused.
    pub fn counters(&self) -> Result<SteerCounters, ProgramFault> {
        Ok(self.before.plus(read_counters(&self.counters)?))
    }

    /// Its link once more, for the device that is to take its place.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn attached(&self) -> io::Result<AttachedLink> {
        Ok(AttachedLink { link: self.link.as_fd().try_clone_to_owned()?, attach: self.attach })
    }
}
