//! Segments of no flow here: a SYN that begins one, what half-open connections and those in TIME-WAIT are sent, strays.

use nic::Queue;

use super::NetStack;
use super::arrival::Arrival;
use crate::drop_reason::DropReason;
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
        if let Some(number) = self.syn_queue.find(arrival.hash, &segment.key) {
            return self.ingest_half_open(arrival, number);
        }
        if let Some(number) = self.time_wait.find(arrival.hash, &segment.key) {
            return self.ingest_time_wait(arrival, number);
        }
        let syn = segment.flags & (SYN | ACK) == SYN;
        if syn && self.listener.accepts(segment.key.local_port) {
            if self.listener.hands_over() {
                self.hand_over_syn(arrival);
            } else if self.is_pressed() {
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
}
