//! Frames in: classify a burst, prefetch what it needs, then one frame at a time.

use cpu::prefetch_read;
use nic::{Frame, Queue};
use smoltcp::iface::{Config, Interface};
use smoltcp::socket::tcp::State;
use smoltcp::wire::HardwareAddress;

use super::NetStack;
use super::datagrams::Nobody;
use crate::block::{
    FLAG_ABORTED, FLAG_CONNECTING, FLAG_EVENT_OPENED, FLAG_EVENT_READABLE, FLAG_EVENT_WRITABLE, FLAG_FIN_RECEIVED,
    FLAG_OPEN, FLAG_RELEASED,
};
use crate::classify::{ACK, Class, RST, SYN, Segment};
use crate::clock::{FlowClock, Time};
use crate::contain::contain;
use crate::datagram::DatagramHandler;
use crate::drop_reason::DropReason;
use crate::flow::CloseReason;
use crate::isn::seed_for;
use crate::link::LinkHeader;
use crate::one_frame::OneFrame;
use crate::options::SynOptions;
use crate::port::Port;
use crate::rewrite;
use crate::segment::Control;
use crate::shim::{self, InTimeWait, Verdict};
use crate::time_wait::Claim;

/// Smallest segment size that a SYN may offer: that of the 256-byte links that RFC 1191 §7.1 lists, so far below any
/// link in use that a smaller one only serves to make us send many tiny segments.
const SMALLEST_MSS: u16 = 216;

/// Frames before its own for which a flow's block and socket are asked for: a dozen cache lines, which take about as long
/// to come from memory as so many frames to ingest; for a whole burst at once they would be too many.
const BLOCKS_AHEAD: usize = 4;

/// `isn`, or one above everything that an earlier connection of the same 4-tuple has sent, `after` being where it left
/// off (RFC 9293 §3.4.1).
pub(super) fn above(after: Option<u32>, isn: u32) -> u32 {
    match after {
        Some(after) if (isn.wrapping_sub(after) as i32) <= 0 => after.wrapping_add(250_000),
        _ => isn,
    }
}

impl NetStack {
    /// Ingests the frames that `port` (number `port_index` of those given to [`flush`](Self::flush)) has received.
    /// Returns how many; the rest stay in the port when no frame is left to answer with. Datagrams are dropped and
    /// counted: [`ingest_datagrams`](Self::ingest_datagrams) hands them over.
    pub fn ingest<Q: Queue>(&mut self, now: Time, port: &mut Port<Q>, port_index: usize) -> usize {
        self.ingest_datagrams(now, port, port_index, None::<&mut Nobody>)
    }

    /// Ingests the frames that `port` has received, as [`ingest`](Self::ingest) does, and hands the datagrams for
    /// [`udp_ports`](crate::StackConfig::udp_ports) to `handler`, each in its place among the other frames. Each is
    /// begun with at least one TX frame at hand. Without a handler, which is known only as the program runs, they are
    /// dropped and counted.
    #[inline]
    pub fn ingest_datagrams<Q: Queue>(
        &mut self,
        now: Time,
        port: &mut Port<Q>,
        port_index: usize,
        mut handler: Option<&mut impl DatagramHandler>,
    ) -> usize {
        let mut classes = std::mem::take(&mut self.classes);
        classes.clear();
        for frame in port.rx.iter_mut() {
            let mut class = self.local.classify(frame.bytes());
            if class == Class::Drop(DropReason::IpOptions) {
                class = self.local.classify_without_options(frame.bytes_mut());
            }
            let hash = match &class {
                Class::Tcp(segment) => {
                    let hash = self.hash.of(&segment.key);
                    self.table.prefetch(hash);
                    hash
                }
                Class::Udp(datagram) => {
                    match (self.admit(datagram), &mut handler) {
                        (Ok(()), Some(handler)) => handler.foresee(datagram.payload(frame.bytes())),
                        (Ok(()), None) => class = Class::Drop(DropReason::UdpNoListener),
                        (Err(reason), _) => class = Class::Drop(reason),
                    }
                    0
                }
                _ => 0,
            };
            classes.push((class, hash));
        }
        for (class, hash) in &classes {
            if let Class::Tcp(_) = class
                && let Some(index) = self.table.candidate(*hash)
            {
                prefetch_read(&*self.blocks[index as usize]);
            }
        }
        for ahead in classes.iter().take(BLOCKS_AHEAD) {
            self.prefetch_block(ahead);
        }
        let mut ingested = 0;
        for (at, &(class, hash)) in classes.iter().enumerate() {
            // Each frame can ask for one answer: without a frame for it, wait until some have left.
            if !port.has_room() || !port.can_answer() {
                break;
            }
            let Some(frame) = port.rx.pop() else { break };
            if let Some(ahead) = classes.get(at + BLOCKS_AHEAD) {
                self.prefetch_block(ahead);
            }
            match (&class, &mut handler) {
                (Class::Udp(datagram), Some(handler)) => {
                    self.ingest_datagram(port, port_index, frame, datagram, *handler);
                }
                (Class::Fragment(fragment), Some(handler)) => {
                    self.ingest_fragment(now, port, port_index, frame, fragment, *handler);
                }
                _ => self.ingest_frame(now, port, port_index, frame, class, hash),
            }
            ingested += 1;
        }
        self.classes = classes;
        ingested
    }

    /// Asks for what ingesting a segment of this class and hash will read of its flow.
    #[inline]
    fn prefetch_block(&self, (class, hash): &(Class, u32)) {
        if let Class::Tcp(_) = class
            && let Some(index) = self.table.candidate(*hash)
        {
            self.blocks[index as usize].prefetch();
        }
    }

    /// Ingests a frame that another core's stack gave out as a stray, with the `hops` it came with. The bytes are
    /// changed. An ARP packet is heard and goes on round the cores. A segment that is unknown here too becomes a stray again, or is answered with RST when every core
    /// has seen it. Answers leave by the flow's own port, or by the first.
    pub fn ingest_stray<Q: Queue>(&mut self, now: Time, ports: &mut [Port<Q>], frame: &mut [u8], hops: u8) {
        self.stats.frames += 1;
        // Options were taken off by the core before.
        let segment = match self.local.classify(frame) {
            Class::Tcp(segment) => segment,
            Class::Drop(reason) => return self.stats.drops.add(reason),
            Class::Arp { at } => {
                self.ingest_arp(now, 0, frame, at, hops);
                return;
            }
            Class::Udp(_) | Class::Fragment(_) | Class::Echo { .. } | Class::Unreachable(_) => {
                return self.stats.drops.add(DropReason::NoFlow);
            }
        };
        let hash = self.hash.of(&segment.key);
        let flow = self.find(hash, &segment);
        let home = flow.map_or(0, |index| usize::from(self.blocks[index as usize].port));
        let Some(port) = ports.get_mut(home) else { return self.stats.drops.add(DropReason::NoFrame) };
        if !port.has_room() || !port.can_answer() {
            return self.stats.drops.add(DropReason::NoFrame);
        }
        match flow {
            Some(index) => self.ingest_segment_apart(now, port, home, index, frame, &segment),
            None => self.ingest_unknown(now, port, home, frame, &segment, hash, hops),
        }
    }

    fn ingest_frame<Q: Queue>(
        &mut self,
        now: Time,
        port: &mut Port<Q>,
        port_index: usize,
        mut frame: Frame,
        class: Class,
        hash: u32,
    ) {
        self.stats.frames += 1;
        match class {
            Class::Tcp(segment) => match self.find(hash, &segment) {
                Some(index) => self.ingest_segment(now, port, port_index, index, frame.bytes_mut(), &segment),
                None => self.ingest_unknown(now, port, port_index, frame.bytes_mut(), &segment, hash, 0),
            },
            Class::Udp(_) => self.stats.drops.add(DropReason::UdpNoListener),
            Class::Fragment(_) => self.stats.drops.add(DropReason::IpFragment),
            Class::Arp { at } => {
                if self.ingest_arp(now, port_index, frame.bytes_mut(), at, 0) {
                    port.send(frame);
                    return;
                }
            }
            Class::Echo { at, len } => {
                let sender = crate::echo::sender(frame.bytes(), at);
                if self.echo_limit.allows(now, sender) && self.echo_rate.allows(now) {
                    self.stats.echo_replies += 1;
                    crate::echo::answer(frame.bytes_mut(), at, len);
                    port.send(frame);
                    return;
                }
                self.stats.drops.add(DropReason::IcmpRate);
            }
            Class::Unreachable(message) => self.ingest_unreachable(&message),
            Class::Drop(reason) => self.stats.drops.add(reason),
        }
        port.free(frame);
    }

    /// The flow that the segment belongs to.
    #[inline]
    fn find(&self, hash: u32, segment: &Segment) -> Option<u32> {
        self.table.find(hash, |index| self.blocks[index as usize].key == segment.key)
    }

    /// A segment of a flow: RFC 9293's checks, and what comes of them.
    ///
    /// It and what it calls for nearly every segment are one function, since each of them would spend as much on its
    /// arguments as on its work.
    #[inline(always)]
    fn ingest_segment<Q: Queue>(
        &mut self,
        now: Time,
        port: &mut Port<Q>,
        port_index: usize,
        index: u32,
        frame: &mut [u8],
        segment: &Segment,
    ) {
        self.work.flows += 1;
        let block = &mut self.blocks[index as usize];
        if block.flags & FLAG_CONNECTING != 0 {
            return self.ingest_connecting(now, port, port_index, index, frame, segment);
        }
        let half_open = block.socket().state() == State::SynReceived;
        match shim::judge(block, segment, half_open) {
            Verdict::Acceptable => self.take_in(now, port, port_index, index, frame, segment),
            verdict => self.ingest_odd(now, port, port_index, index, frame, segment, verdict),
        }
    }

    /// The same, for those that need not be fast.
    #[cold]
    #[inline(never)]
    fn ingest_segment_apart<Q: Queue>(
        &mut self,
        now: Time,
        port: &mut Port<Q>,
        port_index: usize,
        index: u32,
        frame: &mut [u8],
        segment: &Segment,
    ) {
        self.ingest_segment(now, port, port_index, index, frame, segment);
    }

    /// A segment of a flow that is not acceptable, or not all of it.
    #[cold]
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "what ingest_segment has, and what came of it")]
    fn ingest_odd<Q: Queue>(
        &mut self,
        now: Time,
        port: &mut Port<Q>,
        port_index: usize,
        index: u32,
        frame: &mut [u8],
        segment: &Segment,
        verdict: Verdict,
    ) {
        let block = &mut self.blocks[index as usize];
        match verdict {
            Verdict::Acceptable => {}
            Verdict::AcceptableInPart => {
                let generation = block.generation;
                let fitted = rewrite::fit(block, segment, frame);
                self.take_in(now, port, port_index, index, frame, &fitted);
                let block = &self.blocks[index as usize];
                let alive = block.generation == generation && block.close_reason.is_none();
                if alive && segment.sequence_len() > 0 && fitted.sequence_len() == 0 {
                    self.acknowledge(port, index);
                }
            }
            Verdict::Reset => self.end(index, CloseReason::Reset),
            Verdict::Acknowledge(reason) => {
                self.stats.drops.add(reason);
                if !block.link.is_from_peer(frame) {
                    self.repeated_elsewhere(now, index, frame, segment);
                }
                self.acknowledge(port, index);
            }
            Verdict::KeepAlive => {
                self.stats.drops.add(DropReason::SeqRepeated);
                if !block.link.is_from_peer(frame) {
                    self.repeated_elsewhere(now, index, frame, segment);
                }
                self.answer_keep_alive(now, port, index);
            }
            Verdict::Challenge(reason) => {
                self.stats.drops.add(reason);
                self.challenge(now, port, index);
            }
            Verdict::Refuse(reason) => {
                self.stats.drops.add(reason);
                self.refuse(now, port, frame, segment);
            }
            Verdict::Drop(reason) => self.stats.drops.add(reason),
        }
    }

    /// An acceptable segment of a flow: what it tells, smoltcp, and what came of it.
    #[inline(always)]
    fn take_in<Q: Queue>(
        &mut self,
        now: Time,
        port: &mut Port<Q>,
        port_index: usize,
        index: u32,
        frame: &mut [u8],
        segment: &Segment,
    ) {
        let block = &mut self.blocks[index as usize];
        block.heard_at = now;
        block.port = port_index as u16;
        if shim::note(block, segment) {
            rewrite::raise_ack(block, segment, frame);
            self.stats.acks_raised += 1;
        }
        rewrite::hide_options(segment, frame);
        // Whoever sends a frame that fits: the flow keeps its station until the link says otherwise.
        if !block.link.is_from_peer(frame) {
            self.heard_elsewhere(now, index, frame);
        }
        let socket = self.blocks[index as usize].socket();
        let (before, queued) = (socket.state(), socket.recv_queue());
        if self.hand_over(now, port, index, frame, segment) {
            self.after_segment(now, index, before, queued);
        }
    }

    /// Has smoltcp read a segment of a flow, and sends what it answers at once. Returns false when it could not: there
    /// was no frame for an answer, or the flow has ended because smoltcp panicked over it.
    #[inline(always)]
    pub(super) fn hand_over<Q: Queue>(
        &mut self,
        now: Time,
        port: &mut Port<Q>,
        index: u32,
        frame: &[u8],
        segment: &Segment,
    ) -> bool {
        let Some(reply) = port.take_frame() else {
            self.stats.drops.add(DropReason::NoFrame);
            return false;
        };
        let packet_at = usize::from(segment.at);
        let packet = frame.get(packet_at..packet_at + usize::from(segment.packet_len));
        let block = &mut self.blocks[index as usize];
        let mut device = OneFrame::new(packet, reply, block.link, self.config.ip_mtu);
        let (interface, set) = (&mut self.interface, &mut block.set);
        let flow_now = FlowClock::instant(now);
        let outcome = contain(|| interface.poll_ingress_single(flow_now, &mut device, set));
        self.work.sets += 1;
        self.stats.segments += 1;
        self.take_reply(port, index, device);
        if outcome.is_none() {
            self.stats.drops.add(DropReason::Contained);
            self.end(index, CloseReason::Contained);
        }
        outcome.is_some()
    }

    /// What a segment has changed.
    fn after_segment(&mut self, now: Time, index: u32, before: State, queued: usize) {
        let block = &mut self.blocks[index as usize];
        let socket = block.socket();
        let after = socket.state();
        let free = socket.send_capacity() - socket.send_queue();
        let mut events = 0;
        if socket.recv_queue() > queued {
            // RFC 1122 §4.2.2.13: the peer has seen our FIN and still sends; nobody will read it, and it shall know.
            if before == State::FinWait2 && block.flags & FLAG_RELEASED != 0 {
                block.flags |= FLAG_ABORTED;
                return self.touch(index);
            }
            events |= FLAG_EVENT_READABLE;
        }
        if before != after {
            let fin = matches!(after, State::CloseWait | State::Closing | State::TimeWait | State::LastAck);
            if fin && block.flags & FLAG_FIN_RECEIVED == 0 {
                block.flags |= FLAG_FIN_RECEIVED;
                events |= FLAG_EVENT_READABLE;
            }
            match after {
                // A peer whose last ACK has come; RSTs never get here.
                State::Closed => return self.end(index, CloseReason::Finished),
                State::Listen => return self.end(index, CloseReason::Reset),
                _ if before == State::SynReceived => {
                    block.flags |= FLAG_OPEN;
                    block.state_since = now;
                    events |= FLAG_EVENT_OPENED;
                    self.listener.end();
                    self.stats.opened += 1;
                }
                _ => {}
            }
        }
        if block.want_room != 0 && free >= block.want_room as usize {
            block.want_room = 0;
            events |= FLAG_EVENT_WRITABLE;
        }
        self.touch(index);
        if events != 0 {
            self.report(index, events);
        }
    }

    /// A segment of no flow here.
    #[expect(clippy::too_many_arguments, reason = "one place, and each is needed once")]
    fn ingest_unknown<Q: Queue>(
        &mut self,
        now: Time,
        port: &mut Port<Q>,
        port_index: usize,
        frame: &mut [u8],
        segment: &Segment,
        hash: u32,
        hops: u8,
    ) {
        if let Some(number) = self.time_wait.find(hash, &segment.key) {
            return self.ingest_time_wait(now, port, port_index, frame, segment, hash, number);
        }
        let syn = segment.flags & (SYN | ACK) == SYN;
        if syn && self.listener.accepts(segment.key.local_port) {
            self.accept(now, port_index, frame, segment, hash, None);
            return;
        }
        if !syn && hops < self.config.peers {
            let kept = self.stray_rate.allows(now) && self.strays.keep(frame, hops + 1);
            self.stats.strays += u64::from(kept);
            return self.stats.drops.add(if kept { DropReason::Stray } else { DropReason::StrayRate });
        }
        if segment.has(RST) {
            return self.stats.drops.add(DropReason::RstNoFlow);
        }
        self.stats.drops.add(DropReason::NoFlow);
        self.refuse(now, port, frame, segment);
    }

    /// A segment of a connection in TIME-WAIT (RFC 9293 §3.10.7.4; RFC 1337 for RST).
    #[expect(clippy::too_many_arguments, reason = "one place, and each is needed once")]
    fn ingest_time_wait<Q: Queue>(
        &mut self,
        now: Time,
        port: &mut Port<Q>,
        port_index: usize,
        frame: &mut [u8],
        segment: &Segment,
        hash: u32,
        number: u32,
    ) {
        let record = *self.time_wait.record(number);
        let listening = self.listener.accepts(segment.key.local_port);
        let verdict = shim::judge_in_time_wait(&record, segment);
        match verdict {
            InTimeWait::Begin if listening => {
                // Without room the record stays: the SYN comes again, and begins above the old numbers then.
                if self.accept(now, port_index, frame, segment, hash, Some(record.snd_nxt)) {
                    self.time_wait.remove(number);
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
        if answers && self.time_wait.may_answer(now, number) && self.challenge_limit.allows(now, record.key.remote) {
            let control = Control { flags: ACK, seq: record.snd_nxt, ack: record.rcv_nxt, window: 0 };
            let link = self.link_now(now, &record.key, record.link);
            self.send_control(port, &link, &record.key, control);
        }
    }

    /// A SYN for a port that is listened on: a half-open flow, if there is room; returns whether there is one now.
    /// `after` is where an earlier connection of the same 4-tuple left off.
    fn accept(
        &mut self,
        now: Time,
        port_index: usize,
        frame: &mut [u8],
        segment: &Segment,
        hash: u32,
        after: Option<u32>,
    ) -> bool {
        let begun = self.begin_half_open(now, port_index, frame, segment, hash, after);
        if let Err(reason) = begun {
            self.stats.drops.add(reason);
        }
        begun.is_ok()
    }

    /// The half-open flow of a SYN.
    ///
    /// # Errors
    /// There is none, and the reason why the SYN is dropped.
    fn begin_half_open(
        &mut self,
        now: Time,
        port_index: usize,
        frame: &mut [u8],
        segment: &Segment,
        hash: u32,
        after: Option<u32>,
    ) -> Result<(), DropReason> {
        read_syn_options(segment, frame)?;
        if self.listener.is_full() {
            return Err(DropReason::SynQueueFull);
        }
        let index = self.free.pop().ok_or(DropReason::NoFreeFlow)?;
        let knobs = self.knobs();
        let block = &mut self.blocks[index as usize];
        block.recycle(segment.key.local_port, knobs);
        block.generation = block.generation.wrapping_add(1);
        let isn = self.isn_for(now, segment, after);
        let block = &mut self.blocks[index as usize];
        block.key = segment.key;
        block.hash = hash;
        block.port = port_index as u16;
        block.link = LinkHeader::answering(frame, usize::from(segment.at));
        block.rcv_base = segment.seq.wrapping_add(1);
        block.last_ack = block.rcv_base;
        block.last_window = 0;
        block.snd_nxt = isn;
        block.highest_ack = isn;
        block.peer_window = segment.window;
        block.heard_at = now;
        block.waiting_since = now;
        block.state_since = now;
        let at = usize::from(segment.at);
        let packet = frame.get(at..at + usize::from(segment.packet_len)).unwrap_or(&[]);
        let mut device = OneFrame::scratch(packet, self.config.ip_mtu);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed_for(isn);
        let flow_now = FlowClock::instant(now);
        let set = &mut block.set;
        contain(|| {
            let mut interface = Interface::new(config, &mut device, flow_now);
            interface.set_any_ip(true);
            interface.poll_ingress_single(flow_now, &mut device, set)
        });
        self.work.flows += 1;
        self.work.sets += 1;
        if block.socket().state() != State::SynReceived {
            // smoltcp has panicked over it.
            self.free(index);
            return Err(DropReason::Contained);
        }
        self.table.insert(hash, index);
        self.listener.begin();
        self.stats.syns += 1;
        self.touch(index);
        Ok(())
    }

    /// The ISN of the connection that a SYN opens. `after` is where an earlier connection of the same 4-tuple left off.
    fn isn_for(&self, now: Time, segment: &Segment, after: Option<u32>) -> u32 {
        if let Some(recorded) = &self.recorded_isns
            && let Some(isn) = recorded.find(&segment.key, segment.seq)
        {
            return isn;
        }
        above(after, self.isns.isn(now, &segment.key))
    }
}

/// Reads the options of a SYN or SYN-ACK, and leaves in it, for smoltcp, only what was read.
///
/// # Errors
/// They do not parse, or the segment size that they offer is too small.
pub(super) fn read_syn_options(segment: &Segment, frame: &mut [u8]) -> Result<SynOptions, DropReason> {
    let options = SynOptions::read(segment, frame).ok_or(DropReason::TcpOptions)?;
    if options.mss.is_some_and(|mss| mss < SMALLEST_MSS) {
        return Err(DropReason::TcpTinyMss);
    }
    options.write(segment, frame);
    Ok(options)
}
