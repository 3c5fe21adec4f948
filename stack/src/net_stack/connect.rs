//! Active opens: from `connect` to the peer's SYN-ACK, or to the reason why there is none.
//!
//! An active flow is the application's from the first, so its end is always reported. While it is connecting,
//! its segments are judged by rules of their own (RFC 9293 §3.10.7.3), since nothing is known of its peer.
//!
//! A simultaneous open (RFC 9293 §3.5, figure 8; MUST-10): a SYN that crosses ours is answered with a SYN-ACK, written by
//! hand, and changes nothing here: anybody can send a SYN, and the flow is established by the peer's SYN-ACK, which has our
//! number in it, as if nothing had crossed. Deviates: where that SYN-ACK is lost and ours is not, its sender does not send it
//! again, so the handshake times out. Read first: `connect.rs`, `ephemeral.rs`, `resolve.rs`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nic::Queue;
use smoltcp::iface::{Config, Interface};
use smoltcp::socket::tcp::State;
use smoltcp::wire::HardwareAddress;

use super::NetStack;
use super::arrival::Arrival;
use super::homing::NO_OTHER_PORT;
use super::tail::measure_handshake;
use crate::block::Beginning;
use crate::clock::{FlowClock, Time};
use crate::close_reason::CloseReason;
use crate::connect::{Connect, ConnectError};
use crate::drop_reason::DropReason;
use crate::flow_id::{Ends, FlowId, FlowKey};
use crate::ipv6;
use crate::isn::{above, seed_for};
use crate::link::LinkHeader;
use crate::names;
use crate::one_frame::Scratch;
use crate::options::{self, SynOptions};
use crate::own_addresses::{Standing, is_host};
use crate::phase::Phase;
use crate::ready::News;
use crate::resolve::{FOR_CONNECTIONS, Question};
use crate::rewrite;
use crate::segment::Control;
use crate::sending::Sending;
use crate::shim::{self, InSynSent};
use crate::wire::{ACK, IPV4_BYTES, SCALE, SYN, TCP_BYTES};

/// Most source ports that one call tries: all of one address.
const MOST_TRIES: u64 = 1 << 16;

/// Where a connection of ours is to come from: both its ends, their hash in the flow table, and the TIME-WAIT record that it
/// takes over.
pub(super) type Source = (FlowKey, u32, Option<u32>);

impl NetStack {
    /// Opens a connection: the next [`flush`](Self::flush) sends the SYN, or asks for the Ethernet address that it
    /// needs. Later an event tells that it is open, or closed with [`Refused`](CloseReason::Refused),
    /// [`TimedOut`](CloseReason::TimedOut) or [`Unreachable`](CloseReason::Unreachable). Until then nothing can be
    /// written, and the flow may be closed or aborted, after which nothing is told of it.
    ///
    /// `comes_home` says whether the peer's frames of a flow reach this core; only such a source port is taken. Where
    /// a NIC steers by hash, ask [`nic::FlowPrediction::queue_of`] with [`Ends::peer`] and [`Ends::own`]; where that
    /// is not known, or there is one core, say yes to all. Whatever it says is verified: a connection that is answered at
    /// another core is begun anew from another port of this core's
    /// [share](crate::StackConfig::source_port_share), unless [`source_port`](Connect::source_port) is given.
    ///
    /// A source port is used again as late as can be, and never while its connection is in the table; one in TIME-WAIT
    /// only when it has been there for [`time_wait_reuse`](crate::StackConfig::time_wait_reuse), with an ISN above all
    /// that was sent (RFC 1122 §4.2.2.13, RFC 6191). The SYN queue has nothing to do with active opens.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing has happened then.
    pub fn connect(
        &mut self,
        now: Time,
        connect: &Connect,
        comes_home: impl FnMut(&Ends) -> bool,
    ) -> Result<FlowId, ConnectError> {
        let remote = connect.remote;
        if !self.may_reach(remote) {
            return Err(ConnectError::Remote { remote });
        }
        if remote.is_ipv6() && !self.names.are_there() {
            return Err(ConnectError::NoRoute { remote });
        }
        let passing = self.name(remote.ip());
        let peer = self.hold(passing).ok_or(ConnectError::TooManyHosts)?;
        let made = self.connect_to(now, connect, peer, comes_home);
        if made.is_err() {
            self.names.release(peer);
        }
        made
    }

    /// Whether another host can have this address, and somebody listen at this port.
    pub(super) fn may_reach(&self, remote: SocketAddr) -> bool {
        let is_other = match remote.ip() {
            IpAddr::V4(address) => self.local.may_reach(address),
            IpAddr::V6(address) => is_host(&address) && self.names.own.position(&address).is_none(),
        };
        is_other && remote.port() != 0
    }

    /// The same to a peer whose name is held, for the flow if there is one then.
    fn connect_to(
        &mut self,
        now: Time,
        connect: &Connect,
        peer: Ipv4Addr,
        comes_home: impl FnMut(&Ends) -> bool,
    ) -> Result<FlowId, ConnectError> {
        let remote = connect.remote;
        let source = self.source_of(connect)?;
        let hop = self.hop_to(peer).ok_or(ConnectError::NoRoute { remote })?;
        let mac = connect.mac.or_else(|| self.neighbors.find(now, hop));
        // Those that are half-open can become a flow each.
        let max_flows = self.config.max_flows;
        let all = self.flows() >= max_flows;
        if all || self.free.is_empty() && !self.free_block(now) {
            self.miss_block();
            return Err(if all { ConnectError::NoFreeFlow { max_flows } } else { ConnectError::NoBlockYet });
        }
        let (key, hash, after) = self.choose_source(now, connect, (peer, source), comes_home)?;
        let question = Question::new(now, hop, key.local, connect.port).tagged(self.local.tag());
        if mac.is_none() && !self.resolver.ask(question, FOR_CONNECTIONS) {
            return Err(ConnectError::TooManyNeighbors);
        }
        let (key, hash, isn) = self.take_source(now, (key, hash, after));
        let Some(index) = self.free.pop() else { return Err(ConnectError::NoBlockYet) };
        let beginning = Beginning {
            phase: Phase::Connecting,
            key,
            hash,
            port: connect.port,
            link: mac.map_or(LinkHeader::EMPTY, |mac| self.link_to(mac, &key)),
            token: connect.token.0 as u64,
            isn,
            rcv_nxt: 0,
            peer_window: 0,
        };
        self.begin_active(now, index, beginning);
        self.stats.connects += 1;
        let block = &mut self.blocks[index as usize];
        block.interest = connect.interest;
        if connect.source_port.is_some() {
            block.tries = NO_OTHER_PORT;
        }
        if mac.is_none() {
            self.wait_for_neighbor(index);
        }
        Ok(FlowId { index, generation: self.blocks[index as usize].generation })
    }

    /// The address that a connection is to come from: `None`: any in the row. That of IPv6 is a name.
    pub(super) fn source_of(&self, connect: &Connect) -> Result<Option<Ipv4Addr>, ConnectError> {
        let own = &self.names.own;
        match (connect.remote.ip(), connect.source) {
            (IpAddr::V4(_), None) if self.local.addresses > 0 => Ok(None),
            (IpAddr::V4(_), Some(IpAddr::V4(address))) if self.local.has(address.to_bits()) => Ok(Some(address)),
            (IpAddr::V6(address), None) => {
                let facing = own.facing(&address).ok_or(ConnectError::NoRoute { remote: connect.remote })?;
                Ok(Some(names::of_own(facing)))
            }
            (IpAddr::V6(_), Some(IpAddr::V6(address))) => own
                .position(&address)
                .filter(|&number| own.standing(number) == Standing::Assigned)
                .map(|number| Some(names::of_own(number)))
                .ok_or(ConnectError::Source { address: address.into() }),
            (_, Some(address)) => Err(ConnectError::Source { address }),
            (_, None) => Err(ConnectError::NoRoute { remote: connect.remote }),
        }
    }

    /// A source that is free, and that has not led to another core lately if there is such.
    pub(super) fn choose_source(
        &mut self,
        now: Time,
        connect: &Connect,
        (peer, source): (Ipv4Addr, Option<Ipv4Addr>),
        mut comes_home: impl FnMut(&Ends) -> bool,
    ) -> Result<Source, ConnectError> {
        let remote = connect.remote;
        let key_from = |local, local_port| FlowKey { remote: peer, local, remote_port: remote.port(), local_port };
        if let Some(port) = connect.source_port {
            let key = key_from(source.unwrap_or(self.local.address), port);
            let free = if port == 0 { None } else { self.source_if_free(now, key) };
            return free.ok_or(ConnectError::PortInUse { port, remote });
        }
        let search = self.ephemeral.search(&self.local, source, remote);
        let tries = search.space.min(MOST_TRIES);
        let mut elsewhere = None;
        for _ in 0..tries {
            let (local, port) = self.ephemeral.next(&search);
            let key = key_from(local, port);
            let (core, cores) = self.config.source_port_share;
            if port % u16::from(cores) != u16::from(core) || !comes_home(&self.names.ends(&key)) {
                continue;
            }
            let Some(source) = self.source_if_free(now, key) else { continue };
            if !self.ephemeral.homes.are_elsewhere(now, source.1) {
                return Ok(source);
            }
            elsewhere = elsewhere.or(Some(source));
        }
        // A port that led elsewhere is better than none.
        elsewhere.ok_or(ConnectError::NoFreePort { tried: tries as u32, remote })
    }

    /// Takes a source over, with the ISN of a connection from there.
    pub(super) fn take_source(&mut self, now: Time, (key, hash, record): Source) -> (FlowKey, u32, u32) {
        let after = record.map(|record| {
            let sent = self.time_wait.record(record).snd_nxt;
            self.forget_time_wait(record);
            self.stats.time_waits_reused += 1;
            sent
        });
        (key, hash, above(after, self.isns.isn(now, &self.names.ends(&key))))
    }

    /// The source of this key, if no other flow has it.
    fn source_if_free(&self, now: Time, key: FlowKey) -> Option<Source> {
        if self.listener.accepts(key.local_port) {
            return None;
        }
        let hash = self.hash.of(&key);
        let taken = self.table.find(hash, |index| self.blocks.has_key(index, &key)).is_some();
        if taken || self.syn_queue.find(hash, &key).is_some() {
            return None;
        }
        let record = self.time_wait.find(hash, &key);
        if let Some(record) = record
            && !self.time_wait.is_older(now, record, self.config.time_wait_reuse)
        {
            return None;
        }
        Some((key, hash, record))
    }

    /// Makes the flow.
    pub(super) fn begin_active(&mut self, now: Time, index: u32, beginning: Beginning) {
        let scales = self.pool.is_there();
        let settings = self.socket_settings();
        let block = &mut self.blocks[index as usize];
        let mut device = Scratch::new(&[], self.config.ip_mtu);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed_for(beginning.isn);
        let mut interface = Interface::new(config, &mut device, FlowClock::instant(now));
        block.connect(interface.context(), &beginning.key);
        block.begin(now, beginning, settings);
        // Until the peer has said whether it takes that.
        block.scale = if scales { SCALE } else { 0 };
        self.table.insert(beginning.hash, index);
        self.touch(index);
    }

    /// Looks at a flow whose handshake is under way. Returns whether there is nothing more to do for it this turn.
    pub(super) fn visit_connecting(&mut self, now: Time, index: u32) -> bool {
        let block = &mut self.blocks[index as usize];
        let remote = block.key.remote;
        let deadline = block.state_since.after(self.config.connect_timeout);
        let cancelled = block.phase == Phase::Cancelled || block.socket().state() == State::Closed;
        if cancelled {
            self.end(index, CloseReason::Finished);
            return true;
        }
        let hop = self.hop_to(remote);
        if deadline <= now {
            // The Ethernet address may be another station's by now: the next connection asks for it again.
            if let Some(hop) = hop {
                self.neighbors.forget(hop);
            }
            self.end(index, CloseReason::TimedOut);
            return true;
        }
        if self.blocks[index as usize].link != LinkHeader::EMPTY {
            return false;
        }
        // The way there was may be no more.
        let Some(hop) = hop else {
            self.end(index, CloseReason::Unreachable);
            return true;
        };
        if let Some(mac) = self.neighbors.find(now, hop) {
            self.blocks[index as usize].link = self.link_to(mac, &self.blocks[index as usize].key);
            return false;
        }
        if self.resolver.is_asking(hop) {
            self.wait_for_neighbor(index);
            self.work.timers += u64::from(self.wheel.arm_no_later(index, deadline));
        } else {
            self.end(index, CloseReason::Unreachable);
        }
        true
    }

    /// A segment of a flow whose handshake is under way.
    pub(super) fn ingest_connecting<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, index: u32) {
        match shim::judge_in_syn_sent(self.blocks[index as usize], arrival.segment) {
            InSynSent::SynAck => {
                let again = Self::is_astray(arrival) && self.connect_again(arrival, index);
                if !again {
                    self.establish(arrival, index);
                }
            }
            InSynSent::Refused => self.end(index, CloseReason::Refused),
            InSynSent::Drop(reason) => self.stats.drops.add(reason),
            InSynSent::Crossing => self.answer_crossing_syn(arrival, index),
            InSynSent::Refuse => {
                self.stats.drops.add(DropReason::AckOfNoSyn);
                self.refuse(arrival);
            }
        }
    }

    /// Answers a SYN that crosses ours, at a limited rate, once ours has left.
    fn answer_crossing_syn<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, index: u32) {
        let (now, segment) = (arrival.now, arrival.segment);
        self.stats.drops.add(DropReason::SynCrossed);
        let block = &self.blocks[index as usize];
        let waits = block.phase == Phase::Connecting && block.snd_nxt != block.highest_ack;
        let Some(theirs) = SynOptions::read(segment, arrival.frame) else { return };
        if !waits || !self.stranger_limit.allows(now, self.names.payer(segment.key.remote)) {
            return;
        }
        let options = theirs.answer((self.config.ip_mtu - IPV4_BYTES - TCP_BYTES) as u16, block.scale);
        let window = u16::try_from(block.socket().recv_capacity()).unwrap_or(u16::MAX);
        let control = Control { flags: SYN | ACK, seq: block.highest_ack, ack: segment.seq.wrapping_add(1), window };
        let Some(mut frame) = arrival.port.take_frame() else { return };
        let (link, key) = (block.link, block.key);
        let written = control.write_with(&mut frame, &link, &key, &options);
        self.send_written(arrival.port, frame, (&link, &key), written);
    }

    /// The SYN-ACK.
    fn establish<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, index: u32) {
        if let Some(offering) = ipv6::with_usual_mss(arrival.frame, arrival.segment) {
            return self.establish_as_offered(&mut arrival.with_segment(&offering), index);
        }
        self.establish_as_offered(arrival, index);
    }

    fn establish_as_offered<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, index: u32) {
        let (now, segment) = (arrival.now, arrival.segment);
        let options = match options::restrict_syn(segment, arrival.frame, self.most_if_ipv6(&segment.key)) {
            Ok(options) => options,
            Err(reason) => return self.stats.drops.add(reason),
        };
        let (ip_mtu, scales) = (self.config.ip_mtu, self.pool.is_there());
        let block = &mut self.blocks[index as usize];
        block.agree(&options, ip_mtu, scales);
        self.heed_path_mtu(now, index);
        let block = &mut self.blocks[index as usize];
        block.peer_window = segment.window;
        // The window of a SYN-ACK is not shifted.
        let window = segment.window.min(Sending::new(block.sending.mss(), 0, false).field());
        rewrite::write_window(segment, arrival.frame, window);
        if !self.hand_over(arrival, index) {
            return;
        }
        let block = &mut self.blocks[index as usize];
        if block.socket().state() != State::Established {
            // The application has closed the flow meanwhile.
            return self.stats.drops.add(DropReason::NotSynAck);
        }
        // A flow that was closed has a closed socket, so one that was cancelled was aborted: the peer shall know.
        block.phase = if block.phase == Phase::Cancelled { Phase::Aborted } else { Phase::Open };
        block.rcv_base = segment.seq.wrapping_add(1);
        // What the SYN has promised; smoltcp counts it from the SYN on.
        block.last_ack = segment.seq;
        block.told_window = window;
        let capacity = block.socket().recv_capacity().min(usize::from(u16::MAX)) as u32;
        block.ring_edge = segment.seq.wrapping_add(capacity);
        block.edge = block.ring_edge;
        measure_handshake(block, now);
        block.highest_ack = segment.ack;
        block.peer_window = segment.window;
        block.window_seq = segment.seq;
        block.heard_at = now;
        block.port = arrival.port_index as u16;
        block.state_since = now;
        let (remote, station) = (block.key.remote, block.link.peer());
        // Traffic both ways confirms who handed it on (RFC 1122 §2.3.2.1 (4)).
        if let Some(hop) = self.hop_to(remote) {
            self.neighbors.hear(now, hop, station);
        }
        self.stats.opened += 1;
        self.stats.connected += 1;
        self.touch(index);
        self.report(index, News::OPENED);
    }
}
