//! Frames in and out of one NIC queue. All unsafe code of the project is in `sys` here and in `sidestep-cpu`.
//!
//! | to | use |
//! |---|---|
//! | move frames, whatever is behind | [`Queue`], with [`Frame`]s in [`RxBurst`] and [`TxBurst`] |
//! | open the queues of a network interface | [`xdp`], after [`preflight`]; [`link`] tells about the interface |
//! | open a TAP interface, where there is no AF_XDP | [`tap`] |
//! | read which of them a command line names | [`DeviceName`] |
//! | have the NIC spread datagrams by their ports | [`udp_spread`] |
//! | set a NIC, and give it back as it was | [`guard`], over [`settings`] |
//! | see a queue as rings of slots, and forward without copying, also between ports | [`ring`] |
//! | change what a queue does in a call or two | [`QueueWrapper`] |
//! | share queues among cores | [`QueuePlan`] |
//! | have a NIC interrupt later, or not at all | [`wait_mode`] |
//! | sleep when idle, and wake another core | [`Sleeper`], [`Doorbell`] |
//! | hold free frames | [`FramePool`] |
//! | test on a virtual clock, with faults by a seed | [`Wire`], [`WirePort`], [`WireQueue`], [`Faults`] |
//! | put the same faults between two real links | [`OneWay`], [`packet`] |
//! | predict the queue of a flow | [`Rss`]; as a NIC says, [`FlowPrediction`] |
//! | give a queue to a core that polls none | [`relay_pair`]: [`RelayQueue`], [`RelayPort`] |
//! | offer a frame to another core | [`stray_pair`]: [`StraySender`], [`StrayReceiver`] |
//! | sum what is sent and received | [`checksum`] |
//! | replay and record | [`Capture`], [`PcapReplay`], [`PcapTap`] with a [`SharedRecorder`], [`PcapRecorder`] |
//!
//! Read first: `queue.rs`, then `frame.rs`. What every back-end must do is in `tests/conformance/suite.rs`.

#![deny(unsafe_code)]

/// `RxBurst`, `TxBurst`: the frames of a turn.
mod burst;
/// The Internet checksum, for all who write or check one.
pub mod checksum;
/// `DeviceName`: what frames come from and go to, on a command line.
mod device;
/// `IpFamily`: IPv4 or IPv6, where they are kept apart.
mod family;
/// `Faults`: what goes wrong on the wire, by a seed.
mod fault;
/// `Frame`: the move-only right to one UMEM chunk.
mod frame;
/// `SolicitedGroups`: the groups by which neighbours solicit the stack's IPv6 addresses.
mod groups;
/// `Guard`: settings of a NIC, saved before they are changed, and given back.
pub mod guard;
/// By which fields of a frame a NIC hashes.
mod hash_fields;
/// `Link`: what there is to know of a network interface before using it.
pub mod link;
/// `Mac`: an Ethernet address.
mod mac;
/// What a queue without a NIC has of its own.
mod memory_rings;
/// `NapiValues`: when the interrupts of a queue come.
mod napi;
/// `PacketSocket`: all frames of a link, without AF_XDP.
pub mod packet;
/// `PcapReplay`, `PcapTap`: a capture as a queue, and any queue recorded.
mod pcap;
/// `QueuePlan`: which core polls which queues.
mod plan;
/// `FramePool`: the free frames of one queue.
mod pool;
/// `FlowPrediction`: on which queue a NIC's hash puts a connection.
mod prediction;
/// `OpenError`, `check`: wrong uses, each turned into one clear line.
pub mod preflight;
/// `Queue`: what the stack sees of a NIC queue.
mod queue;
/// `RelayQueue`, `RelayPort`: a queue for a core that polls no NIC queue.
mod relay;
/// `RingPort`: rings of slots over any queue, as netmap has them.
pub mod ring;
/// `Route`: by whom packets for a network are handed on.
mod route;
/// `Rss`: Toeplitz hash, key, indirection table.
mod rss;
/// `Setting`: what can be set on a NIC, as text.
pub mod settings;
/// `SoftwareRss`: a queue whose frames are shared out among cores by flow.
mod software_rss;
/// `StraySender`, `StrayReceiver`: frames offered to another core.
mod stray;
/// Atomics and queues, under names that a model checker can take over.
mod sync;
mod sys;
/// `TapDevice`, `TapQueue`: the TAP back-end.
pub mod tap;
/// `UdpSpread`: whether the datagrams of one host spread over the queues.
pub mod udp_spread;
/// `VlanTags`: whether the XDP program sees the 802.1Q tags of frames.
pub mod vlan_tags;
/// `Doorbell`, `Sleeper`: how an idle core sleeps on all its queues, and how another wakes it.
mod wait;
/// `WaitMode`: how a core without work waits for frames, and what a NIC is told for that.
pub mod wait_mode;
/// `Wire`: NICs and the cable between them in memory, on a virtual clock.
mod wire;
/// `QueueWrapper`: a queue around another.
mod wrapper;
/// `XdpDevice`, `XdpQueue`: the AF_XDP back-end.
pub mod xdp;

pub use burst::{BURST, Burst, RxBurst, TxBurst};
pub use device::{DeviceName, DeviceNameError};
pub use family::IpFamily;
pub use fault::{BurstLoss, CORRUPT_BITS_MAX, Corrupt, FaultError, Faults, Flap, RateLimit, Reorder};
pub use frame::{Frame, FrameTooShort};
pub use groups::SolicitedGroups;
pub use mac::Mac;
pub use pcap::{Capture, PcapError, PcapRecorder, PcapReplay, PcapTap, ReplayConfig, SharedRecorder};
pub use plan::{PlanKind, QueuePlan};
pub use pool::{FramePool, HEADROOM_BYTES, PoolConfig, PoolError};
pub use prediction::{FlowPrediction, HashedBy, Unpredictable};
pub use queue::{FrameCensus, Queue, QueueDrops, QueueError, QueueId, QueueStats};
pub use relay::{RelayConfig, RelayError, RelayPort, RelayPortStats, RelayQueue, relay_pair};
pub use route::Route;
pub use rss::{RSS_DEFAULT_KEY, RSS_KEY_BYTES, RSS_TABLE_ENTRIES, Rss, RssTableError, Toeplitz};
pub use software_rss::{FlowOwner, SoftwareRss};
pub use stray::{StrayHeader, StrayReceiver, StraySender, stray_pair};
pub use sys::memory::leaked_regions;
pub use wait::{Doorbell, Sleeper, Woken};
pub use wire::{
    OneWay, PortConfig, Wire, WireClock, WireCounts, WireError, WireEvent, WireHappening, WirePort, WireQueue,
};
pub use wrapper::QueueWrapper;
