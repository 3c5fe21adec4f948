//! Segments of no flow here: a SYN that begins one, what a connection in TIME-WAIT is sent, strays.

use nic::Queue;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::socket::tcp::State;
use smoltcp::wire::HardwareAddress;

use super::NetStack;
use super::arrival::Arrival;
use crate::block::Beginning;
use crate::classify::Segment;
use crate::clock::{FlowClock, Time};
use crate::contain::contain;
use crate::drop_reason::DropReason;
use crate::ipv6;
use crate::isn::{above, seed_for};
use crate::link::LinkHeader;
use crate::one_frame::Scratch;
use crate::options::{self, SynOptions};
use crate::phase::Phase;
use crate::segment::Control;
use crate::shim::{self, InTimeWait};
use crate::stray::{AHEAD_OF_COOKIE, MOST_HOPS};
use crate::time_wait::Claim;
use crate::wire::{ACK, RST, SYN};

impl NetStack {
    /// A segment of no flow here.
    #[inline(never)]
    pub(super) fn ingest_unknown<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>) {
        let segment = arrival.segment;
        if segment.key.is_ipv6() && self.ingest_by_newer_name(arrival) {
            return;
        }
        if let Some(number) = self.time_wait.find(arrival.hash, &segment.key) {
            return self.ingest_time_wait(arrival, number);
        }
        let syn = segment.flags & (SYN | ACK) == SYN;
        if syn && self.listener.accepts(segment.key.local_port) {
            if self.listener.hands_over() {
                self.hand_over_syn(arrival);
            } else if self.is_pressed(arrival.now) {
                self.ask_for_cookie(arrival);
            } else {
                self.accept(arrival, None);
            }
            return;
        }
        let may_give_back = self.may_give_back(arrival);
        if may_give_back && self.take_cookie(arrival) {
            return;
        }
        let ahead = arrival.hops & AHEAD_OF_COOKIE != 0 || may_give_back && self.is_ahead_of_cookie(arrival);
        let hops = arrival.hops & !AHEAD_OF_COOKIE;
        if !syn && hops < self.config.peers.min(MOST_HOPS) {
            // Whichever core is the last to see it has to know what this one does.
            let mark = if ahead { AHEAD_OF_COOKIE } else { 0 };
            let reason = self.pass_on(arrival.now, arrival.frame, hops | mark);
            return self.stats.drops.add(reason);
        }
        if segment.has(RST) {
            return self.stats.drops.add(DropReason::RstNoFlow);
        }
        self.stats.cookies_refused += u64::from(may_give_back);
        if ahead {
            return self.stats.drops.add(DropReason::AheadOfCookie);
        }
        self.stats.drops.add(DropReason::NoFlow);
        self.refuse(arrival);
    }

    /// A segment of a connection in TIME-WAIT (RFC 9293 §3.10.7.4; RFC 1337 for RST).
    fn ingest_time_wait<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, number: u32) {
        let (now, segment) = (arrival.now, arrival.segment);
        let record = *self.time_wait.record(number);
        let listening = self.listener.accepts(segment.key.local_port);
        let verdict = shim::judge_in_time_wait(&record, segment);
        match verdict {
            InTimeWait::Begin if listening && self.listener.hands_over() => {
                self.forget_time_wait(number);
                return self.hand_over_syn(arrival);
            }
            InTimeWait::Begin if listening => {
                // Without room the record stays: the SYN comes again, and begins above the old numbers then.
                if self.accept(arrival, Some(record.snd_nxt)) {
                    self.forget_time_wait(number);
                }
                return;
            }
            InTimeWait::Ask if listening => self.time_wait.set_claim(number, Claim::Asked),
            InTimeWait::Yield => self.time_wait.set_claim(number, Claim::Granted),
            InTimeWait::FinAgain => self.time_wait.restart(now, number),
            InTimeWait::Begin | InTimeWait::Ask | InTimeWait::Acknowledge | InTimeWait::Ignore => {}
        }
        self.stats.drops.add(DropReason::TimeWait);
        let answers = !matches!(verdict, InTimeWait::Yield | InTimeWait::Ignore);
        if answers
            && self.time_wait.may_answer(now, number)
            && self.challenge_limit.allows(now, self.names.payer(record.key.remote))
        {
            let control = Control { flags: ACK, seq: record.snd_nxt, ack: record.rcv_nxt, window: 0 };
            let link = self.link_now(now, &record.key, record.link);
            self.send_control(arrival.port, &link, &record.key, control);
        }
    }

    /// A SYN for a port that is listened on: a half-open flow, if there is room; returns whether there is one now.
    /// `after` is where an earlier connection of the same 4-tuple left off.
    fn accept<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, after: Option<u32>) -> bool {
        let begun = match ipv6::with_usual_mss(arrival.frame, arrival.segment) {
            Some(offering) => self.begin_half_open(&mut arrival.with_segment(&offering), after),
            None => self.begin_half_open(arrival, after),
        };
        if let Err(reason) = begun {
            self.stats.drops.add(reason);
        }
        begun.is_ok()
    }

    /// The half-open flow of a SYN.
    ///
    /// # Errors
    /// There is none, and the reason why the SYN is dropped.
    fn begin_half_open<Q: Queue>(
        &mut self,
        arrival: &mut Arrival<'_, Q>,
        after: Option<u32>,
    ) -> Result<(), DropReason> {
        let segment = arrival.segment;
        let options = options::restrict_syn(segment, arrival.frame, self.most_if_ipv6(&segment.key))?;
        if self.listener.is_full() {
            return Err(DropReason::SynQueueFull);
        }
        let isn = self.isn_for(arrival.now, segment, after);
        let index = self.begin_block(arrival, isn, segment.seq.wrapping_add(1), &options)?;
        let block = &mut self.blocks[index as usize];
        if block.key.is_ipv6() {
            ipv6::write_as_ipv4(arrival.frame, segment, &block.key);
        }
        replay_syn(arrival, isn, self.config.ip_mtu, &mut block.set);
        if block.socket().state() != State::SynReceived {
            // smoltcp has panicked over it.
            self.free(index);
            return Err(DropReason::Contained);
        }
        self.stats.syns += 1;
        self.join_half_open(index);
        Ok(())
    }

    /// Makes a free block that of a half-open flow between the ends of `arrival`, whose peer's next sequence number is
    /// `rcv_nxt`, with a socket that listens. Returns its number.
    ///
    /// # Errors
    /// No block is free.
    pub(super) fn begin_block<Q: Queue>(
        &mut self,
        arrival: &Arrival<'_, Q>,
        isn: u32,
        rcv_nxt: u32,
        options: &SynOptions,
    ) -> Result<u32, DropReason> {
        let segment = arrival.segment;
        if self.free.is_empty() && !self.free_block(arrival.now) {
            self.miss_block();
            return Err(DropReason::NoFreeFlow);
        }
        let (key, hash) = self.hold_ends(segment.key, arrival.hash)?;
        // It is not empty, or `free_block` would have said so.
        let Some(index) = self.free.pop() else { return Err(DropReason::NoFreeFlow) };
        let beginning = Beginning {
            phase: Phase::HalfOpen,
            key,
            hash,
            port: arrival.port_index as u16,
            link: LinkHeader::answering(arrival.frame, usize::from(segment.at)),
            token: 0,
            isn,
            rcv_nxt,
            peer_window: segment.window,
        };
        let settings = self.socket_settings();
        let scales = self.pool.is_there();
        let block = &mut self.blocks[index as usize];
        block.listen(segment.key.local_port);
        block.begin(arrival.now, beginning, settings);
        block.agree(options, self.config.ip_mtu, scales);
        self.heed_path_mtu(arrival.now, index);
        self.work.flows += 1;
        self.work.sets += 1;
        Ok(index)
    }

    /// Counts the flow of a block whose socket has taken a SYN as half-open, and has it found.
    pub(super) fn join_half_open(&mut self, index: u32) {
        self.table.insert(self.blocks[index as usize].hash, index);
        self.listener.begin();
        self.touch(index);
    }

    /// The ISN of the connection that a SYN opens. `after` is where an earlier connection of the same 4-tuple left off.
    fn isn_for(&self, now: Time, segment: &Segment, after: Option<u32>) -> u32 {
        let ends = self.names.ends(&segment.key);
        if let Some(recorded) = &self.recorded_isns
            && let Some(isn) = recorded.find(&ends, segment.seq)
        {
            return isn;
        }
        above(after, self.isns.isn(now, &ends))
    }
}

/// Has smoltcp read a SYN, by an interface that is thrown away and gives the connection the initial sequence number
/// `isn`. The SYN-ACK is sent by the next flush.
fn replay_syn<Q: Queue>(arrival: &Arrival<'_, Q>, isn: u32, ip_mtu: usize, set: &mut SocketSet<'static>) {
    let mut device = Scratch::new(arrival.segment.packet(arrival.frame), ip_mtu);
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed_for(isn);
    let flow_now = FlowClock::instant(arrival.now);
    contain(|| {
        let mut interface = Interface::new(config, &mut device, flow_now);
        interface.set_any_ip(true);
        interface.poll_ingress_single(flow_now, &mut device, set)
    });
}
