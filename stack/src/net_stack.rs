//! `NetStack`: one core's TCP/IP, a turn at a time.
//!
//! ```text
//! Port::receive ─► ingest ─► expire ─► events, flow (the application, through Poll) ─► flush ─► Port::transmit
//! ```
//!
//! One smoltcp interface serves every flow: each call is given the one-socket set of the flow at hand and a device of
//! one frame, so that a turn's work depends on the frames, the flows that the application visits and the timers that
//! are due, never on how many flows there are. ACKs wait for [`flush`](NetStack::flush), so that they ride on answers.
//!
//! Invariant: a flow is in the table from the ACK that opens it, or from `connect`, until it ends; its block is free only when it is in
//! neither the table nor the wheel. Nothing here reads a clock, blocks, or allocates on the packet path;
//! [`expire`](NetStack::expire) may make blocks ahead of use.

mod answers;
mod arrival;
mod audit;
mod connect;
mod cookies;
mod datagrams;
mod egress;
mod emit;
mod events;
mod fragments;
mod half_open;
mod hand_over;
mod homing;
mod ingress;
mod ipv6;
mod islands;
mod lingering;
mod mend;
mod missed;
mod naming;
mod ndp;
mod neighbors;
mod path_mtu;
mod probing;
mod rerouting;
mod rings;
mod routers;
mod send_to;
mod sleep;
mod tail;
mod train;
mod unknown;
mod window;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

pub(crate) use events::Look;
use missed::Missed;
use nic::{BURST, Queue};
use rerouting::Rerouting;
use smoltcp::iface::{Config, Interface};
use smoltcp::wire::HardwareAddress;

use crate::asking::{Asking, MOST_ASKING};
use crate::block::{FlowBlock, NO_PROMISE, SocketSettings, maker};
use crate::blocks::{Blocks, LOOKS_A_TURN};
use crate::classify::{Class, Local};
use crate::clock::{FlowClock, Time};
use crate::close_reason::CloseReason;
use crate::config::{ConfigError, Secrets, StackConfig};
use crate::cookie::Cookies;
use crate::deadline::Deadlines;
use crate::discovery::Discovery;
use crate::ephemeral::EphemeralPorts;
use crate::flow::{Flow, FlowLook};
use crate::flow_id::FlowId;
use crate::flow_list::FlowList;
use crate::hosts::Hosts;
use crate::isn::{IsnGenerator, RecordedIsns};
use crate::link::{Mac, TAGGED_BYTES};
use crate::listen::Listener;
use crate::names::Names;
use crate::neighbor::NeighborTable;
use crate::one_frame::Scratch;
use crate::phase::{Marks, Phase};
use crate::port::Port;
use crate::rate::{AnswerLimit, RateLimit, SharedLimit};
use crate::ready::{News, ReadyList};
use crate::reassembly::{FragmentKey, Ipv6FragmentKey, Reassembly};
use crate::replay::Replay;
use crate::resolve::Resolver;
use crate::ring_pool::{RingPool, Short};
use crate::routes::Routes;
use crate::sack::Islands;
use crate::scoreboard::Scoreboards;
use crate::stash::Stash;
use crate::stats::{StackStats, Work};
use crate::stray::{self, Strays};
use crate::syn_queue::SynQueue;
use crate::table::{FlowTable, TableHash};
use crate::time_wait::TimeWaitTable;
use crate::timer::TimerWheel;
use crate::train::Train;
use crate::useless::Little;

/// ICMP echo replies a second, as many of "port unreachable", and of other errors, to all addresses together.
const ECHOES_PER_SECOND: u32 = 1_000;
/// ARP packets passed on to other cores a second, and looks through the whole neighbour table.
const NEIGHBOR_WORK_PER_SECOND: u32 = 1_000;
/// Strays offered to other cores a second.
const STRAYS_PER_SECOND: u32 = 100_000;
/// Free blocks below which more are made: no two bursts of SYNs run out of them.
const FREE_BLOCKS: usize = 2 * BURST;
/// Timers fired in one turn; what is left fires in the next.
const TIMERS_PER_TURN: usize = 1_024;

/// A frame of the burst that is being ingested.
struct Classified {
    class: Class,
    /// Of a segment: the hash of its key in the flow table, and the number of the first flow with that hash, whatever its
    /// key.
    hash: u32,
    candidate: Option<u32>,
}

/// One core's TCP/IP. Belongs to one thread at a time.
pub struct NetStack {
    config: StackConfig,
    local: Local,
    /// The 32-bit names of IPv6 addresses.
    names: Names,
    interface: Interface,
    listener: Listener,
    syn_queue: SynQueue,
    isns: IsnGenerator,
    cookies: Cookies,
    /// SYNs that are to be answered with cookies, oldest first.
    asking: VecDeque<Asking>,
    /// For a replay.
    recorded_isns: Option<Box<RecordedIsns>>,
    deadlines: Deadlines,
    /// Rings for flows that move much; how much beyond its ring a flow with its own and with larger rings may be told; until
    /// when rings are short; what moves a flow.
    pool: RingPool,
    promises: [u32; 2],
    short: Short,
    /// The flow that gives way first, of those with larger rings that were looked at in this round.
    most_useless: Option<(Little, FlowId)>,
    missed: Missed,
    replay: Replay,
    /// Where what leaves as a train is written.
    train: Train,
    islands: Islands,
    /// Segments behind more holes than a socket keeps islands.
    stash: Stash,
    /// What the peers of flows that have lost something say they have.
    boards: Scoreboards,
    /// Segments that may still be walked past in this turn (`mend.rs`).
    walks: i32,
    /// When the turn began.
    now: Time,
    blocks: Blocks,
    /// Blocks that may still be looked at in this turn, for flows that need one at once (`sleep.rs`).
    looks: usize,
    /// No sweep for flows that rest before.
    sweep_at: Time,
    free: Vec<u32>,
    hash: TableHash,
    table: FlowTable,
    time_wait: TimeWaitTable,
    wheel: TimerWheel,
    ready: ReadyList,
    touched: FlowList,
    classes: Vec<Classified>,
    neighbors: NeighborTable,
    resolver: Resolver,
    /// Routers of IPv6 that have said what they are.
    discovery: Discovery,
    /// Who said last that it has an address of ours, and which.
    conflict: Option<(IpAddr, Mac)>,
    routes: Routes,
    /// While flows go over to other routers.
    rerouting: Option<Rerouting>,
    hosts: Hosts,
    ephemeral: EphemeralPorts,
    strays: Strays,
    reassembly: Reassembly<FragmentKey>,
    ipv6_reassembly: Reassembly<Ipv6FragmentKey>,
    /// When the time of a packet that is half there is over.
    fragments_due: Time,
    /// ICMP echo replies.
    echo_limit: AnswerLimit,
    /// The same of "port unreachable": who floods with the one shall not take the other from those who wait for it.
    unreachable_limit: AnswerLimit,
    /// The same of what is said of packets that are wrong or never were whole.
    problem_limit: AnswerLimit,
    /// Answers to segments of no flow and of half-open flows, whose sender may have lied about its address.
    stranger_limit: SharedLimit,
    /// Challenge ACKs, and answers for records in TIME-WAIT: to those who have completed a handshake.
    challenge_limit: SharedLimit,
    stray_rate: RateLimit,
    neighbor_rate: RateLimit,
    stats: StackStats,
    work: Work,
}

impl std::fmt::Debug for NetStack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetStack")
            .field("address", &self.local.address)
            .field("flows", &self.flows())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// The interface through which all flows but those that open go.
fn shared_interface(ip_mtu: usize, secrets: &Secrets) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    // Draws nothing that leaves the machine: every SYN has an interface of its own (`isn`).
    config.random_seed = secrets.isn[0] ^ secrets.isn[1];
    let mut device = Scratch::new(&[], ip_mtu);
    let mut interface = Interface::new(config, &mut device, FlowClock::instant(Time::ZERO));
    interface.set_any_ip(true);
    interface
}

impl NetStack {
    /// Makes a stack. All memory that the packet path needs is reserved here, and the first
    /// [`flows_at_start`](StackConfig::flows_at_start) blocks are made.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn new(config: StackConfig, secrets: Secrets) -> Result<Self, ConfigError> {
        config.check()?;
        Self::of_checked(config, secrets).map(Self::begun)
    }

    /// The same of settings that are in range, before its first turn.
    fn of_checked(config: StackConfig, secrets: Secrets) -> Result<Self, ConfigError> {
        let flows = config.max_flows;
        Ok(Self {
            local: Local::of(&config),
            names: Names::of(&config, &secrets),
            interface: shared_interface(config.ip_mtu, &secrets),
            listener: Listener::new(&config.ports),
            syn_queue: SynQueue::new(config.syn_queue),
            isns: IsnGenerator::new(secrets.isn),
            cookies: Cookies::new(secrets.isn),
            asking: VecDeque::with_capacity(MOST_ASKING),
            recorded_isns: None,
            deadlines: Deadlines::new(&config),
            pool: RingPool::new(config.conn_memory)?,
            promises: [0; 2],
            short: Short::default(),
            most_useless: None,
            missed: Missed::new(if config.awake_flows < flows { flows } else { 0 }),
            replay: Replay::new(),
            train: Train::new(),
            islands: Islands::new(),
            stash: Stash::new(config.ip_mtu),
            boards: Scoreboards::new(),
            walks: 0,
            now: Time::ZERO,
            blocks: Blocks::new(maker(config.rings)?, flows, config.awake_flows),
            looks: LOOKS_A_TURN,
            sweep_at: Time::ZERO,
            free: Vec::with_capacity(flows),
            hash: TableHash::new(secrets.table),
            table: FlowTable::new(flows),
            time_wait: TimeWaitTable::new(config.time_wait_records, config.time_wait),
            wheel: TimerWheel::new(flows, Time::ZERO),
            ready: ReadyList::new(flows),
            touched: FlowList::new(flows),
            classes: Vec::with_capacity(BURST),
            neighbors: NeighborTable::new(config.neighbors, secrets.table[0]),
            resolver: Resolver::new(flows, config.others.len()),
            discovery: Discovery::new(config.router_advertisements && config.gateway6.is_none()),
            conflict: None,
            routes: Routes::new(config.own_addresses(), config.gateways()),
            rerouting: None,
            hosts: Hosts::new(secrets.table),
            ephemeral: EphemeralPorts::new(config.ephemeral_ports, secrets.isn, config.peers),
            reassembly: Reassembly::new(),
            ipv6_reassembly: Reassembly::of_ipv6(config.has_ipv6()),
            fragments_due: Time::NEVER,
            strays: Strays::new(config.peers, stray::longest_frame(config.ip_mtu)),
            echo_limit: AnswerLimit::new(secrets.table, 0, ECHOES_PER_SECOND),
            unreachable_limit: AnswerLimit::new(secrets.table, 3, ECHOES_PER_SECOND),
            problem_limit: AnswerLimit::new(secrets.table, 4, ECHOES_PER_SECOND),
            stranger_limit: SharedLimit::new(secrets.table, 1),
            challenge_limit: SharedLimit::new(secrets.table, 2),
            stray_rate: RateLimit::new(STRAYS_PER_SECOND),
            neighbor_rate: RateLimit::new(NEIGHBOR_WORK_PER_SECOND),
            stats: StackStats::default(),
            work: Work::default(),
            config,
        })
    }

    /// The same, ready for its first turn.
    fn begun(mut self) -> Self {
        self.make_blocks(self.config.flows_at_start);
        self.hold_routers();
        self.begin_to_use_addresses();
        self.update_promises();
        self
    }

    /// Makes up to `count` blocks, within the limit of flows.
    fn make_blocks(&mut self, count: usize) {
        self.blocks.make(count, &mut self.free);
    }

    /// The flow `id`, or `None` when it has ended or was closed. The next [`flush`](Self::flush) looks at the flow.
    #[inline]
    pub fn flow(&mut self, id: FlowId) -> Option<Flow<'_>> {
        if self.blocks.is_asleep(id.index) && !self.is_open_asleep(id) {
            return None;
        }
        let block = self.blocks.get_mut(id.index())?;
        if block.generation != id.generation || !block.phase.is_open() {
            return None;
        }
        touch(&mut self.touched, block, id.index);
        Some(Flow { block, names: &self.names })
    }

    /// The flow that the application may visit and whose [`FlowId::index`] is `index`, if there is one; it is not woken.
    pub fn open_at(&self, index: usize) -> Option<FlowId> {
        let generation = match self.blocks.get(index) {
            Some(block) => block.phase.is_open().then_some(block.generation),
            None => self.blocks.open_sleeper(index as u32).map(|sleeper| sleeper.generation),
        };
        generation.map(|generation| FlowId { index: index as u32, generation })
    }

    /// Closes our direction of the flow after what was written; the peer may go on sending and the flow is still reported.
    /// Nothing can be written afterwards. A flow whose handshake is under way ends, as
    /// [`CloseReason::Finished`](crate::CloseReason::Finished).
    pub fn shutdown(&mut self, id: FlowId) {
        if !self.is_open(id) {
            return;
        }
        // A connection whose FIN is on its way cannot be moved: what its peer was told that it may send gets its ring now, if
        // there is one and nothing is missing before; what finds none is sent again until the application has read.
        let block = &self.blocks[id.index()];
        if block.phase == Phase::Open && block.edge != block.ring_edge && !block.marks.contains(Marks::FIN_RECEIVED) {
            self.make_room_to_receive(id.index);
        }
        // It may have ended.
        if self.is_open(id) {
            let block = &mut self.blocks[id.index()];
            block.socket_mut().close();
            block.promise = NO_PROMISE;
            self.touch(id.index);
        }
    }

    /// Puts the flow on the ready list again, as when an answer for it has come from another core. Does nothing when
    /// the flow has ended.
    #[inline]
    pub fn wake(&mut self, id: FlowId) {
        if self.is_open(id) {
            self.report(id.index, News::WOKEN);
        }
    }

    /// Whether new connections are accepted, which they are from the start. While they are not, SYNs are dropped and
    /// counted as by a full SYN queue: who wants to connect tries again, as with a kernel's full backlog.
    pub fn set_accepting(&mut self, accepting: bool) {
        self.listener.set_paused(!accepting);
    }

    /// Accepts no new connection for good: a SYN is answered with RST, as at a port on which nobody listens. Handshakes under
    /// way and flows go on.
    pub fn stop_listening(&mut self) {
        self.listener.close();
    }

    /// What there is to see of a flow, without touching it; `None` when it has ended.
    pub fn look(&self, id: FlowId) -> Option<FlowLook> {
        let Some(block) = self.blocks.get(id.index()) else {
            let sleeper = self.blocks.open_sleeper(id.index).filter(|sleeper| sleeper.generation == id.generation);
            return sleeper.map(|sleeper| sleeper.look(&self.names));
        };
        (block.generation == id.generation && block.phase.is_open()).then(|| FlowLook::of(block, &self.names))
    }

    /// Whether the application may still visit the flow.
    #[inline]
    fn is_open(&mut self, id: FlowId) -> bool {
        match self.blocks.get(id.index()) {
            Some(block) => block.generation == id.generation && block.phase.is_open(),
            None => self.is_open_asleep(id),
        }
    }

    /// The same of a flow that sleeps, which is awake then.
    #[cold]
    fn is_open_asleep(&mut self, id: FlowId) -> bool {
        let asleep = self.blocks.open_sleeper(id.index).is_some_and(|sleeper| sleeper.generation == id.generation);
        asleep && self.wake_for_application(id.index)
    }

    /// Fires timers that are due, forgets what is over, and makes blocks ahead of use. Once a turn, before
    /// [`flush`](Self::flush), which carries out what the timers ask for.
    pub fn expire(&mut self, now: Time) {
        for _ in 0..TIMERS_PER_TURN {
            let Some(index) = self.wheel.pop_due(now) else { break };
            self.work.timers += 1;
            if !self.blocks.is_asleep(index) || self.ran_out_asleep(now, index) {
                self.ran_out(now, index);
            }
        }
        let names = &mut self.names;
        self.time_wait.expire(now, BURST, |key| names.release(key.remote));
        self.now = now;
        self.looks = LOOKS_A_TURN;
        self.look_at_rings(now);
        self.look_at_lingering(now);
        self.expire_neighbors(now);
        self.look_at_routes(now);
        // As many as were taken, so that a turn pays for its own connections: the kernel makes pages for each block.
        let taken = FREE_BLOCKS.saturating_sub(self.free.len() + self.blocks.spare()).min(BURST);
        if taken > 0 && self.blocks.may_grow() {
            self.find_blocks(now, taken);
        }
        if self.blocks.lacks_reserve() {
            self.blocks.fill_reserve();
        }
    }

    /// How long after `now` the next timer is due; zero when there is something to do already; `None` when nothing
    /// will happen unless a frame arrives.
    pub fn next_deadline(&self, now: Time) -> Option<Duration> {
        if self.has_work() {
            return Some(Duration::ZERO);
        }
        let timer = self.wheel.next_deadline();
        let neighbor = self.resolver.next_deadline();
        let handshake = self.syn_queue.next_deadline();
        let fragments = Some(self.fragments_due).filter(|&due| due < Time::NEVER);
        timer.into_iter().chain(neighbor).chain(handshake).chain(fragments).min().map(|at| at.since(now))
    }

    /// Whether flows are on the ready list or wait to be flushed: the caller must not sleep.
    pub fn has_work(&self) -> bool {
        let reroutes = self.rerouting.as_ref().is_some_and(Rerouting::has_work);
        let seeks = self.missed.is_some() || reroutes || self.discovery.unheard.is_some();
        !self.ready.is_empty() || !self.touched.is_empty() || self.strays.len() > 0 || !self.asking.is_empty() || seeks
    }

    /// Gives the oldest stray, as the bytes of its frame and its hops, to `offer`, which passes a copy on to the next
    /// core's [`ingest_stray`](Self::ingest_stray). Returns false when there is none.
    pub fn next_stray(&mut self, offer: impl FnOnce(&[u8], u8)) -> bool {
        self.strays.next(offer)
    }

    /// The Ethernet address at which `address` is: it has answered by ARP or NDP, or asked for us and never contradicted.
    pub fn neighbor(&self, address: impl Into<IpAddr>) -> Option<Mac> {
        self.neighbors.get(self.name_if_known(address.into())?).map(|known| known.mac)
    }

    /// Flows at present, half-open and closing ones included.
    pub fn flows(&self) -> usize {
        self.blocks.len() - self.free.len() - self.blocks.bare() + self.syn_queue.len()
    }

    /// The settings.
    pub fn config(&self) -> &StackConfig {
        &self.config
    }

    /// The counters.
    pub fn stats(&self) -> &StackStats {
        &self.stats
    }

    /// TCP segments and UDP datagrams taken with a checksum that the sender's kernel had left to offload; grows only with
    /// [`partial_checksums`](StackConfig::partial_checksums). Counted apart, since it is noted where a frame is
    /// classified, which sees no other counter.
    pub fn partial_checksums(&self) -> u64 {
        self.local.partial_checksums()
    }

    /// What the stack has worked on.
    pub fn work(&self) -> Work {
        self.work
    }

    /// From now on, connections that were recorded get the ISNs that were recorded; for replays alone.
    pub fn use_recorded_isns(&mut self, isns: RecordedIsns) {
        self.recorded_isns = Some(Box::new(isns));
    }

    /// Whether `port`'s frames are long enough for the link's packets.
    pub fn fits<Q: Queue>(&self, port: &Port<Q>) -> bool {
        port.queue().max_frame_bytes() >= self.config.ip_mtu + TAGGED_BYTES
    }

    fn socket_settings(&self) -> SocketSettings {
        SocketSettings { ack_delay: self.config.ack_delay }
    }

    /// Has the next flush look at the flow.
    #[inline]
    fn touch(&mut self, index: u32) {
        touch(&mut self.touched, self.blocks[index as usize], index);
    }

    /// Puts the flow on the ready list, once, for `events`.
    #[inline]
    fn report(&mut self, index: u32, events: News) {
        self.ready.push(&mut self.blocks[index as usize].news, index, events);
    }

    /// Ends a flow. The application hears of it unless it never knew of the flow or no longer wants to.
    fn end(&mut self, index: u32, reason: CloseReason) {
        let block = &mut self.blocks[index as usize];
        self.table.remove(block.hash, index);
        self.work.timers += u64::from(self.wheel.cancel(index));
        let phase = block.phase;
        if phase == Phase::HalfOpen {
            self.stats.handshakes_failed += 1;
            return self.free(index);
        }
        let connecting = phase.is_connecting();
        let count = match reason {
            CloseReason::Contained => &mut self.stats.contained,
            CloseReason::Refused => &mut self.stats.connects_refused,
            CloseReason::Unreachable => &mut self.stats.connects_unreachable,
            CloseReason::TimedOut if connecting => &mut self.stats.connects_timed_out,
            CloseReason::Finished if connecting => &mut self.stats.connects_cancelled,
            CloseReason::Finished => &mut self.stats.finished,
            CloseReason::Reset => &mut self.stats.resets,
            CloseReason::TimedOut => &mut self.stats.timed_out,
            CloseReason::GaveWay => &mut self.stats.gave_way,
        };
        *count += 1;
        let block = &mut self.blocks[index as usize];
        // Of a flow that the peer has opened, the application need not hear if it has not yet.
        let untold = block.news.contains(News::OPENED) && !block.marks.contains(Marks::ACTIVE);
        if untold || phase.is_released() {
            self.listener.note_found(untold);
            return self.free(index);
        }
        (block.phase, block.close_reason) = (Phase::Ended, reason);
        self.report(index, News::empty());
    }

    /// Gives the block of a flow that is in neither table nor wheel to the next flow.
    fn free(&mut self, index: u32) {
        if self.blocks[index as usize].place.is_some() {
            self.take_rings_away(index);
        }
        let block = &mut *self.blocks[index as usize];
        if !self.stash.is_empty() {
            self.stash.forget((index, block.generation));
        }
        self.boards.give_back(&mut block.board);
        if block.key.is_ipv6() {
            self.names.release(block.key.remote);
        }
        block.retire();
        self.free.push(index);
    }
}

/// Puts the flow `index` of `block` on the list of those that the next flush looks at, unless it is there.
#[inline]
fn touch(touched: &mut FlowList, block: &mut FlowBlock, index: u32) {
    if !block.marks.contains(Marks::TOUCHED) {
        block.marks |= Marks::TOUCHED;
        touched.push(index);
    }
}

#[cfg(test)]
mod tests;
