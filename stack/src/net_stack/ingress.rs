//! Frames in: classify a burst, prefetch what it needs, then one frame at a time.

use cpu::prefetch_read;
use nic::{Frame, Queue};
use smoltcp::socket::tcp::State;

use super::arrival::Arrival;
use super::datagrams::Nobody;
use super::emit::take_reply;
use super::rings::Want;
use super::tail::measure_handshake;
use super::{Classified, NetStack, touch};
use crate::block::FlowBlock;
use crate::classify::{Class, Segment};
use crate::clock::{FlowClock, Time};
use crate::close_reason::CloseReason;
use crate::contain::contain;
use crate::datagram::DatagramHandler;
use crate::drop_reason::DropReason;
use crate::ipv6;
use crate::one_frame::OneFrame;
use crate::options;
use crate::phase::{Marks, Phase};
use crate::port::Port;
use crate::ready::News;
use crate::rewrite;
use crate::shim::{self, Verdict};
use crate::wire::{FIN, TCP_BYTES};

/// Frames before its own for which a flow's block and socket are asked for: a dozen cache lines, which take about as long
/// to come from memory as so many frames to ingest; for a whole burst at once they would be too many.
const BLOCKS_AHEAD: usize = 4;

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
        self.train.taken = port.takes_trains();
        let mut classes = std::mem::take(&mut self.classes);
        self.classify_burst(port, &mut handler, &mut classes);
        let mut ingested = 0;
        for (at, Classified { class, hash, .. }) in classes.iter().enumerate() {
            // Each frame can ask for one answer: without a frame for it, wait until some have left.
            if !port.has_room() || !port.can_answer() {
                break;
            }
            let Some(frame) = port.rx.pop() else { break };
            if let Some(ahead) = classes.get(at + BLOCKS_AHEAD) {
                self.prefetch_block(ahead);
            }
            match (class, &mut handler) {
                (Class::Tcp(segment), _) => self.ingest_tcp(now, port, port_index, frame, segment, *hash),
                (Class::Udp(datagram), Some(handler)) => {
                    self.ingest_datagram(port, port_index, frame, datagram, *handler);
                }
                (Class::Fragment(_) | Class::Fragment6(_), handler) => {
                    self.ingest_fragment(now, port, port_index, frame, class, handler.as_deref_mut());
                }
                _ => self.ingest_other(now, port, port_index, frame, class),
            }
            ingested += 1;
        }
        self.classes = classes;
        ingested
    }

    /// Says what each frame is that `port` has received, and asks memory for what ingesting it will read first.
    #[inline(always)]
    fn classify_burst<Q: Queue>(
        &mut self,
        port: &mut Port<Q>,
        handler: &mut Option<&mut impl DatagramHandler>,
        classes: &mut Vec<Classified>,
    ) {
        classes.clear();
        self.names.begin_burst();
        if let Some(handler) = handler {
            handler.begin_burst();
        }
        for frame in port.rx.iter_mut() {
            let mut class = self.local.classify(frame.bytes());
            if let Class::Drop(apart @ (DropReason::IpOptions | DropReason::Ipv6)) = class {
                class = self.local.classify_apart(&mut self.names, frame.bytes_mut(), apart);
            }
            let mut hash = 0;
            match &class {
                Class::Tcp(segment) => {
                    hash = self.hash.of(&segment.key);
                    self.table.prefetch(hash);
                }
                Class::Udp(datagram) => match (self.admit(datagram), &mut *handler) {
                    (Ok(()), Some(handler)) => handler.foresee(datagram.payload(frame.bytes())),
                    (Ok(()), None) => class = Class::Drop(DropReason::UdpNoListener),
                    (Err(reason), _) => class = Class::Drop(reason),
                },
                _ => {}
            }
            classes.push(Classified { class, hash, candidate: None });
        }
        for classified in classes.iter_mut() {
            if let Class::Tcp(_) = classified.class
                && let Some(index) = self.table.candidate(classified.hash)
            {
                match self.blocks.get(index as usize) {
                    Some(block) => prefetch_read(block),
                    None => self.blocks.prefetch_sleeper(index),
                }
                classified.candidate = Some(index);
            }
        }
        for ahead in classes.iter().take(BLOCKS_AHEAD) {
            self.prefetch_block(ahead);
        }
    }

    /// Asks for what ingesting a segment will read of its flow.
    #[inline]
    fn prefetch_block(&self, classified: &Classified) {
        if let Some(index) = classified.candidate
            && let Some(block) = self.blocks.get(index as usize)
        {
            block.prefetch();
        }
    }

    /// Ingests a frame that another core's stack gave out as a stray, with the `hops` it came with. The bytes are
    /// changed. An ARP packet is heard and goes on round the cores. A segment that is unknown here too becomes a stray
    /// again, or is answered with RST when every core has seen it. Answers leave by the flow's own port, or by the first.
    pub fn ingest_stray<Q: Queue>(&mut self, now: Time, ports: &mut [Port<Q>], frame: &mut [u8], hops: u8) {
        self.stats.frames += 1;
        // Options were taken off by the core before.
        let class = match self.local.classify(frame) {
            Class::Drop(DropReason::Ipv6) => self.local.classify_ipv6(&mut self.names, frame),
            class => class,
        };
        let segment = match class {
            Class::Tcp(segment) => segment,
            // Counted by the core that it came to.
            Class::Drop(DropReason::AddressConflict) => return self.note_conflict(now, frame, hops),
            Class::Drop(reason) => return self.stats.drops.add(reason),
            Class::Arp { at } => {
                self.ingest_arp(now, 0, frame, at, hops);
                return;
            }
            Class::Unreachable(message) => return self.ingest_unreachable(now, frame, &message, hops),
            Class::Ndp(message) => {
                self.ingest_ndp(now, 0, frame, message, hops);
                return;
            }
            // Of no flow.
            _ => return self.stats.drops.add(DropReason::NoFlow),
        };
        let hash = self.hash.of(&segment.key);
        let flow = self.find(hash, &segment);
        let home = flow.map_or(0, |index| usize::from(self.blocks.port_of(index)));
        let Some(port) = ports.get_mut(home) else { return self.stats.drops.add(DropReason::NoFrame) };
        if !port.has_room() || !port.can_answer() {
            return self.stats.drops.add(DropReason::NoFrame);
        }
        let segment = &segment;
        let mut arrival = Arrival { now, port, port_index: home, frame, segment, hash, hops };
        match flow {
            Some(index) => {
                self.stats.segments_astray += 1;
                self.ingest_segment_apart(&mut arrival, index);
            }
            None => self.ingest_unknown(&mut arrival),
        }
    }

    /// Ingests a segment and gives its frame back.
    #[inline(never)]
    fn ingest_tcp<Q: Queue>(
        &mut self,
        now: Time,
        port: &mut Port<Q>,
        port_index: usize,
        mut frame: Frame,
        segment: &Segment,
        hash: u32,
    ) {
        self.stats.frames += 1;
        let mut arrival = Arrival { now, port, port_index, frame: frame.bytes_mut(), segment, hash, hops: 0 };
        match self.find(hash, segment) {
            Some(index) => self.ingest_segment(&mut arrival, index),
            None => self.ingest_unknown(&mut arrival),
        }
        port.free(frame);
    }

    /// Ingests a frame that is neither a segment nor for the application.
    #[inline(never)]
    fn ingest_other<Q: Queue>(
        &mut self,
        now: Time,
        port: &mut Port<Q>,
        port_index: usize,
        mut frame: Frame,
        class: &Class,
    ) {
        self.stats.frames += 1;
        match *class {
            Class::Tcp(_) | Class::Fragment(_) | Class::Fragment6(_) => {}
            Class::Udp(_) => self.stats.drops.add(DropReason::UdpNoListener),
            Class::Arp { at } => {
                if self.ingest_arp(now, port_index, frame.bytes_mut(), at, 0) {
                    port.send(frame);
                    return;
                }
            }
            Class::Echo { at, len } => {
                let sender = crate::echo::sender(frame.bytes(), at);
                if self.echo_limit.allows(now, sender.to_bits().into()) {
                    self.stats.echo_replies += 1;
                    crate::echo::answer(frame.bytes_mut(), at, len);
                    port.send(frame);
                    return;
                }
                self.stats.drops.add(DropReason::IcmpRate);
            }
            Class::Echo6(_) | Class::Ndp(_) | Class::GroupQuery(_) | Class::Problem(_) => {
                return self.ingest_control_ipv6(now, port, port_index, frame, class);
            }
            Class::Unreachable(message) => self.ingest_unreachable(now, frame.bytes(), &message, 0),
            Class::Drop(reason) => {
                self.stats.drops.add(reason);
                match reason {
                    DropReason::UdpNoListener => return self.refuse_datagram(now, port, frame),
                    DropReason::AddressConflict => self.note_conflict(now, frame.bytes(), 0),
                    _ => {}
                }
            }
        }
        port.free(frame);
    }

    /// The flow that the segment belongs to.
    #[inline]
    pub(super) fn find(&self, hash: u32, segment: &Segment) -> Option<u32> {
        self.table.find(hash, |index| self.blocks.has_key(index, &segment.key))
    }

    /// A segment of a flow: RFC 9293's checks, and what comes of them.
    #[inline(always)]
    fn ingest_segment<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, index: u32) {
        self.work.flows += 1;
        self.ingest_judged::<Q, false>(arrival, index);
    }

    /// A segment of a flow that sleeps: wakes it first.
    #[cold]
    #[inline(never)]
    fn ingest_asleep<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, index: u32) {
        let before = self.blocks.sleeper(index).map(|sleeper| (sleeper.sequence().1, sleeper.window()));
        if self.wake_flow(arrival.now, index) {
            let (rcv_nxt, window) = before.unwrap_or_default();
            self.stats.woken_by.note(arrival.segment, rcv_nxt, window);
            self.work.flows -= 1;
            self.ingest_segment_apart(arrival, index);
        } else {
            self.stats.drops.add(DropReason::NoFreeFlow);
        }
    }

    /// The same, for segments that need not be fast.
    #[cold]
    #[inline(never)]
    pub(super) fn ingest_segment_apart<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, index: u32) {
        self.ingest_segment(arrival, index);
    }

    /// A segment of a flow that is not acceptable, or not all of it.
    #[cold]
    #[inline(never)]
    fn ingest_odd<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, index: u32, verdict: Verdict) {
        match verdict {
            Verdict::Acceptable => {}
            Verdict::BehindHole => self.take_in_behind_hole(arrival, index),
            Verdict::BeyondRing => self.take_in_beyond_ring(arrival, index),
            Verdict::AcceptableInPart => {
                let segment = arrival.segment;
                let fitted = rewrite::fit(self.blocks[index as usize], segment, arrival.frame);
                self.take_in_fitted(&mut arrival.with_segment(&fitted), index);
                let alive = self.blocks[index as usize].phase.is_alive();
                if alive && segment.sequence_len() > 0 && fitted.sequence_len() == 0 {
                    self.acknowledge(arrival.port, index);
                }
            }
            // To whom the connection is over, it is over.
            Verdict::Reset if self.blocks[index as usize].marks.contains(Marks::OVER) => {
                self.stats.drops.add(DropReason::RstNoFlow);
            }
            Verdict::Reset => self.end(index, CloseReason::Reset),
            Verdict::Acknowledge(reason) => {
                self.stats.drops.add(reason);
                self.repeated(arrival, index);
                self.acknowledge_again(arrival.port, index, arrival.segment);
            }
            Verdict::KeepAlive => {
                self.stats.drops.add(DropReason::SeqRepeated);
                self.repeated(arrival, index);
                self.answer_keep_alive(arrival.now, arrival.port, index);
            }
            Verdict::Challenge(reason) => {
                self.stats.drops.add(reason);
                self.challenge(arrival.now, arrival.port, index);
            }
            Verdict::Refuse(reason) => {
                self.stats.drops.add(reason);
                self.refuse(arrival);
            }
            Verdict::Drop(reason) => self.stats.drops.add(reason),
        }
    }

    /// An acceptable segment of a flow: what it tells, smoltcp, and what came of it.
    #[inline(never)]
    pub(super) fn take_in<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, index: u32) {
        self.ingest_judged::<Q, true>(arrival, index);
    }

    /// A segment of a flow. `ACCEPTABLE`: it was judged, and is acceptable.
    ///
    /// It is one function with what it calls for nearly every segment, since each call would spend as much on its
    /// arguments as on its work; and the block is looked up again only where others may have changed it, since each time
    /// costs six instructions.
    #[inline(always)]
    fn ingest_judged<Q: Queue, const ACCEPTABLE: bool>(&mut self, arrival: &mut Arrival<'_, Q>, index: u32) {
        let (now, segment) = (arrival.now, arrival.segment);
        let Some(mut block) = self.blocks.get_mut(index as usize) else { return self.ingest_asleep(arrival, index) };
        if !ACCEPTABLE {
            if block.phase.is_connecting() {
                return self.ingest_connecting(arrival, index);
            }
            let half_open = matches!(block.phase, Phase::HalfOpen);
            let verdict = shim::judge(block, segment, half_open);
            if verdict != Verdict::Acceptable {
                return self.ingest_odd(arrival, index, verdict);
            }
        }
        let socket = block.socket();
        let (before, queued) = (socket.state(), socket.recv_queue());
        if before == State::LastAck {
            if self.is_over_unread(index, segment) {
                return;
            }
            block = &mut *self.blocks[index as usize];
        }
        block.heard_at = now;
        block.port = arrival.port_index as u16;
        if usize::from(segment.header_len) > TCP_BYTES {
            self.take_options(index, arrival);
            block = &mut *self.blocks[index as usize];
        }
        if repeats_ack(block, segment) {
            if !self.is_news(index, segment) {
                return;
            }
            block = &mut *self.blocks[index as usize];
        }
        if shim::note(block, segment) {
            rewrite::raise_ack(block, segment, arrival.frame);
            self.stats.acks_raised += 1;
        }
        rewrite::limit_window(block, segment, arrival.frame);
        let behind = block.marks.contains(Marks::ISLANDS);
        // Anyone can send a frame that fits: the flow keeps its station until the link says otherwise.
        if !block.link.is_from_peer(arrival.frame) {
            self.heard_elsewhere(now, index, arrival.frame);
        }
        if self.hand_over(arrival, index) {
            self.after_segment(now, index, before, queued);
            if behind && !self.stash.is_empty() {
                self.take_from_beside(arrival, index);
            }
        }
    }

    /// Whether a segment acknowledges our FIN, the peer having closed before, while the application has yet to read what came
    /// before that. smoltcp would throw it away: it is not told, and the flow is kept for the application.
    #[cold]
    #[inline(never)]
    fn is_over_unread(&mut self, index: u32, segment: &Segment) -> bool {
        let block = &mut *self.blocks[index as usize];
        let socket = block.socket();
        let fin_sent = block.snd_nxt.wrapping_sub(block.highest_ack) as usize == socket.send_queue() + 1;
        let over = fin_sent && segment.ack == block.snd_nxt && socket.recv_queue() > 0 && block.phase == Phase::Open;
        if over {
            self.stats.segments += 1;
            block.marks |= Marks::OVER;
            self.work.timers += u64::from(self.wheel.cancel(index));
        }
        over
    }

    /// What the options of a segment tell, which are hidden from smoltcp then.
    #[cold]
    #[inline(never)]
    fn take_options<Q: Queue>(&mut self, index: u32, arrival: &mut Arrival<'_, Q>) {
        let block = &mut self.blocks[index as usize];
        if block.options.sack_permitted {
            let (blocks, twice) = options::sack_blocks(arrival.segment, arrival.frame);
            if let Some((left, _)) = twice {
                let moves = (arrival.segment.ack.wrapping_sub(block.highest_ack) as i32) > 0;
                if block.sending.told_of_duplicate(left, moves) {
                    self.stats.probes_needless += 1;
                    self.hosts.delayed_acks.in_vain(arrival.now, block.key.remote);
                }
            }
            self.note_blocks(arrival.now, index, &blocks);
        }
        rewrite::hide_options(arrival.segment, arrival.frame);
    }

    /// An ACK that acknowledges nothing new. Returns whether it tells smoltcp something: another window. smoltcp would count
    /// as duplicates what differs in windows that are not told it.
    #[cold]
    #[inline(never)]
    fn is_news(&mut self, index: u32, segment: &Segment) -> bool {
        let block = &mut self.blocks[index as usize];
        let in_flight = block.snd_nxt.wrapping_sub(block.highest_ack);
        if is_duplicate(block, segment) && block.sending.duplicate(in_flight, block.snd_nxt) {
            block.marks |= Marks::SEND_AGAIN;
        }
        if (segment.seq.wrapping_sub(block.window_seq) as i32) >= 0 {
            (block.peer_window, block.window_seq) = (segment.window, segment.seq);
        }
        let news = block.peer_window.min(block.sending.field()) != block.told_window;
        self.stats.segments += u64::from(!news);
        self.touch(index);
        news
    }

    /// What `fit` has left of a segment.
    fn take_in_fitted<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, index: u32) {
        let segment = arrival.segment;
        let start = segment.seq.wrapping_sub(self.blocks[index as usize].rcv_nxt()) as i32;
        if start > 0 && segment.payload_len > 0 {
            self.take_in_behind_hole(arrival, index);
        } else {
            self.take_in(arrival, index);
        }
    }

    /// A segment that the window allows and the ring has no room for: there may be larger rings.
    fn take_in_beyond_ring<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, index: u32) {
        let segment = arrival.segment;
        let fits = self.enlarge_flow(arrival.now, index, Want::Receive);
        let block = &self.blocks[index as usize];
        if !block.phase.is_alive() {
            return;
        }
        if fits && matches!(shim::judge(block, segment, false), Verdict::Acceptable | Verdict::BehindHole) {
            return self.take_in_fitted(arrival, index);
        }
        self.stats.drops.add(DropReason::NoRing);
        let fitted = rewrite::fit(block, segment, arrival.frame);
        self.take_in_fitted(&mut arrival.with_segment(&fitted), index);
    }

    /// Has smoltcp read a segment of a flow, and sends what it answers at once. Returns false when it could not: there
    /// was no frame for an answer, or the flow has ended because smoltcp panicked over it.
    #[inline(always)]
    pub(super) fn hand_over<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>, index: u32) -> bool {
        let port = &mut *arrival.port;
        if !port.can_answer() {
            self.stats.drops.add(DropReason::NoFrame);
            return false;
        }
        let block = &mut *self.blocks[index as usize];
        if block.link.is_ipv6() {
            ipv6::write_as_ipv4(arrival.frame, arrival.segment, &block.key);
        }
        let packet = arrival.segment.packet(arrival.frame);
        let mut device = OneFrame::new(Some(packet), port.reserve(), &block.link, self.config.ip_mtu);
        let (interface, set) = (&mut self.interface, &mut block.set);
        let flow_now = FlowClock::instant(arrival.now);
        let outcome = contain(|| interface.poll_ingress_single(flow_now, &mut device, set));
        let reply = device.into_reply();
        self.work.sets += 1;
        self.stats.segments += 1;
        take_reply(block, port, reply, self.promises, (&mut self.islands, &self.names));
        if outcome.is_none() {
            self.stats.drops.add(DropReason::Contained);
            self.end(index, CloseReason::Contained);
        }
        outcome.is_some()
    }

    /// What a segment has changed.
    #[inline(always)]
    fn after_segment(&mut self, now: Time, index: u32, before: State, queued: usize) {
        let mut block = &mut *self.blocks[index as usize];
        let socket = block.socket();
        let (after, arrived) = (socket.state(), socket.recv_queue() > queued);
        let mut news = News::empty();
        if arrived {
            // RFC 1122 §4.2.2.13: the peer has seen our FIN and still sends; nobody will read it, and it shall know.
            if before == State::FinWait2 && block.phase.is_released() {
                block.phase = Phase::Aborted;
                return self.touch(index);
            }
            news |= News::READABLE;
        }
        if before != after {
            match self.after_transition(now, index, before, after) {
                Some(more) => news |= more,
                None => return,
            }
            block = &mut *self.blocks[index as usize];
        }
        if block.want_room != 0 {
            let socket = block.socket();
            if socket.send_capacity() - socket.send_queue() >= block.want_room as usize {
                block.want_room = 0;
                news |= News::WRITABLE;
            }
        }
        touch(&mut self.touched, block, index);
        if !news.is_empty() {
            self.ready.push(&mut block.news, index, news);
        }
    }

    /// What it means that a segment has changed the state of a flow's socket; `None`: the flow has ended.
    fn after_transition(&mut self, now: Time, index: u32, before: State, after: State) -> Option<News> {
        let block = &mut *self.blocks[index as usize];
        let mut news = News::empty();
        let fin = matches!(after, State::CloseWait | State::Closing | State::TimeWait | State::LastAck);
        if fin && !block.marks.contains(Marks::FIN_RECEIVED) {
            block.marks |= Marks::FIN_RECEIVED;
            news |= News::READABLE | News::PEER_CLOSED;
        }
        match after {
            // The peer's last ACK has come; RSTs never get here.
            State::Closed => {
                self.end(index, CloseReason::Finished);
                return None;
            }
            State::Listen => {
                self.end(index, CloseReason::Reset);
                return None;
            }
            _ if before == State::SynReceived => {
                block.phase = Phase::Open;
                measure_handshake(block, now);
                block.state_since = now;
                news |= News::OPENED;
                self.stats.opened += 1;
            }
            _ => {}
        }
        Some(news)
    }
}

/// Whether a segment only acknowledges again what the last has, while something is under way.
#[inline]
fn repeats_ack(block: &FlowBlock, segment: &Segment) -> bool {
    segment.payload_len == 0
        && segment.ack == block.highest_ack
        && block.snd_nxt != block.highest_ack
        && segment.window != 0
        && !segment.has(FIN)
}

/// Whether such a segment is a duplicate, a sign that what follows has arrived (RFC 5681 §2), and not a window update. A
/// peer that shows what has arrived (SACK) may change its window with it.
fn is_duplicate(block: &FlowBlock, segment: &Segment) -> bool {
    segment.window == block.peer_window || usize::from(segment.header_len) > TCP_BYTES
}
