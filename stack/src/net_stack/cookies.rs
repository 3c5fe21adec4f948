//! SYN cookies: SYNs answered without keeping anything, and connections made of the ACKs that prove their senders real.
//!
//! Under pressure, which is when half of the SYN queue or half of the flows that could still be had are half-open, so that
//! a flood can take neither all of the one nor of the other. Never otherwise: a connection of
//! a cookie has no window scale and no SACK. The ACK is taken for as long as a cookie that was given may be good
//! (`cookie.rs`). It makes a flow, as that of a half-open connection does (`half_open.rs`), and is then read like any other segment.
//!
//! To send a frame may cost far more than to receive one (on a veth the kernel carries it into the peer's namespace
//! within the call that sends it), so a turn gives few cookies, after all that established flows have to say: nobody who
//! has a connection waits for the answers to a whole burst of SYNs, unless more come than are answered so. Those that are
//! to be answered wait in a queue of fixed size, and what finds that full is dropped: its sender, if there is one, sends
//! it again.
//!
//! A SYN that follows a connection in TIME-WAIT gets none, since its ISN could not be above the numbers of the earlier one.
//! Nor does any while recorded ISNs are used.
//! Read first: RFC 4987 §3.6, `cookie.rs`.

use nic::{BURST, Queue};

use super::NetStack;
use super::arrival::Arrival;
use crate::asking::{Asking, MOST_ASKING};
use crate::block::Beginning;
use crate::clock::Time;
use crate::drop_reason::DropReason;
use crate::flow_id::FlowKey;
use crate::ipv6::USUAL_MSS;
use crate::link::LinkHeader;
use crate::options::{self, SynOptions};
use crate::phase::Phase;
use crate::port::Port;
use crate::segment::Control;
use crate::wire::{ACK, IPV4_BYTES, RST, SYN, TCP_BYTES};

/// SYNs that are answered with cookies in a turn; where more than half of the queue waits, as many are as a turn brings.
const COOKIES_A_TURN: usize = 8;

impl NetStack {
    /// Whether a SYN is to be answered with a cookie.
    pub(super) fn is_pressed(&self) -> bool {
        if self.listener.is_paused() || self.recorded_isns.is_some() {
            return false;
        }
        let half_open = self.syn_queue.len();
        // Flows that are there to be had, by whoever proves real; half-open ones can become one each.
        let room = self.config.max_flows - (self.flows() - half_open);
        self.syn_queue.is_half_full() || room > 0 && 2 * (half_open + 1) > room
    }

    /// Notes a SYN that is to be answered with a cookie, once the flows that this turn has touched have said what they have
    /// to say.
    pub(super) fn ask_for_cookie<Q: Queue>(&mut self, arrival: &Arrival<'_, Q>) {
        let segment = arrival.segment;
        let mut options = match options::read_syn(segment, arrival.frame) {
            Ok(options) => options,
            Err(reason) => return self.stats.drops.add(reason),
        };
        if segment.key.is_ipv6() {
            options.mss = options.mss.or(Some(USUAL_MSS));
        }
        if self.asking.len() == MOST_ASKING {
            return self.stats.drops.add(DropReason::SynQueueFull);
        }
        let key = FlowKey { remote: self.names.ask(segment.key.remote), ..segment.key };
        self.asking.push_back(Asking {
            key,
            seq: segment.seq,
            offered: options.segment_bytes(usize::from(u16::MAX)),
            port: arrival.port_index as u16,
            link: LinkHeader::answering(arrival.frame, usize::from(segment.at)),
        });
    }

    /// Answers SYNs with cookies, as many as one turn may.
    #[inline]
    pub(super) fn give_cookies<Q: Queue>(&mut self, now: Time, ports: &mut [Port<Q>]) {
        if !self.asking.is_empty() {
            self.give_some_cookies(now, ports);
        }
    }

    #[cold]
    #[inline(never)]
    fn give_some_cookies<Q: Queue>(&mut self, now: Time, ports: &mut [Port<Q>]) {
        let most = if self.asking.len() > MOST_ASKING / 2 { BURST } else { COOKIES_A_TURN };
        for _ in 0..most {
            let Some(asking) = self.asking.front() else { return };
            let Some(port) = ports.get_mut(usize::from(asking.port)) else { return };
            if !port.has_room() {
                return;
            }
            let Some(mut frame) = port.take_frame() else { return };
            let seq = self.cookies.give(now, &self.names.ends(&asking.key), asking.seq, asking.offered);
            let window = u16::try_from(self.config.rings.rx).unwrap_or(u16::MAX);
            let control = Control { flags: SYN | ACK, seq, ack: asking.seq.wrapping_add(1), window };
            let mss = (self.config.ip_mtu - IPV4_BYTES - TCP_BYTES) as u16;
            match control.write_with_mss(&mut frame, &asking.link, &asking.key, mss) {
                Ok(()) => {
                    self.stats.cookies_sent += 1;
                    self.names.finish(&mut frame, &asking.link, &asking.key);
                    port.send(frame);
                }
                Err(_) => port.return_frame(frame),
            }
            self.asking.pop_front();
        }
    }

    /// Whether a segment of no flow may give a cookie back.
    #[inline]
    pub(super) fn may_give_back<Q: Queue>(&self, arrival: &Arrival<'_, Q>) -> bool {
        self.cookies.are_out(arrival.now)
            && arrival.segment.flags & (ACK | SYN | RST) == ACK
            && self.listener.accepts(arrival.segment.key.local_port)
            && !self.listener.hands_over()
    }

    /// Whether a segment of no flow, which gives no cookie back, may come from a client that was given one, and whose segment
    /// before this one was lost. That comes again, and opens the connection; an RST now would end it for the client, while
    /// the flood lasts that cookies are for. Whoever has a connection of a time long past, or none, is told so by RST as ever.
    pub(super) fn is_ahead_of_cookie<Q: Queue>(&mut self, arrival: &Arrival<'_, Q>) -> bool {
        let segment = arrival.segment;
        self.cookies.may_be_of(arrival.now, &self.names.ends(&segment.key), segment.ack.wrapping_sub(1))
    }

    /// Takes a segment that gives a cookie back, if it does, and makes its flow. Returns whether it did.
    #[cold]
    #[inline(never)]
    pub(super) fn take_cookie<Q: Queue>(&mut self, arrival: &mut Arrival<'_, Q>) -> bool {
        let segment = arrival.segment;
        let (syn, cookie) = (segment.seq.wrapping_sub(1), segment.ack.wrapping_sub(1));
        let ends = self.names.ends(&segment.key);
        let Some(mss) = self.cookies.take(arrival.now, &ends, syn, cookie) else { return false };
        match self.begin_with_cookie(arrival, cookie, mss) {
            Ok(index) => {
                self.stats.cookies_accepted += 1;
                self.ingest_first(arrival, index);
            }
            // Its sender sends again what it has to say.
            Err(reason) => self.stats.drops.add(reason),
        }
        true
    }

    /// The flow whose SYN-ACK had the ISN `cookie`, and which waits for the ACK of that.
    ///
    /// # Errors
    /// There is none, and the reason why the segment is dropped.
    fn begin_with_cookie<Q: Queue>(
        &mut self,
        arrival: &Arrival<'_, Q>,
        cookie: u32,
        mss: u16,
    ) -> Result<u32, DropReason> {
        let segment = arrival.segment;
        if self.listener.is_paused() {
            return Err(DropReason::SynQueueFull);
        }
        // Those that are half-open can become a flow each.
        if self.flows() >= self.config.max_flows {
            self.miss_block();
            return Err(DropReason::NoFreeFlow);
        }
        let mut options = SynOptions { mss: Some(mss), ..SynOptions::default() };
        if let Some(most) = self.most_if_ipv6(&segment.key) {
            options.limit_mss(most);
        }
        let beginning = Beginning {
            phase: Phase::HalfOpen,
            key: segment.key,
            hash: arrival.hash,
            port: arrival.port_index as u16,
            link: LinkHeader::answering(arrival.frame, usize::from(segment.at)),
            token: 0,
            isn: cookie,
            rcv_nxt: segment.seq,
            peer_window: segment.window,
        };
        let index = self.begin_block(arrival.now, beginning, &options)?;
        let window = u16::try_from(self.config.rings.rx).unwrap_or(u16::MAX);
        self.replay_handshake(arrival.now, index, &options, window)
    }
}
