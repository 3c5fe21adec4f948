//! `Resolver`: neighbours that are being asked for their Ethernet address, and the flows that wait for an answer.
//!
//! All stations are asked, once a second, three times at the most (RFC 1122 §2.3.2.1 bounds the rate); then the
//! neighbour counts as not there. A question may know who holds the address: the station that is being sent to. If
//! another station answers, the holder alone is asked, twice, and **has the last word**: the other station is believed
//! only when the holder stays silent. So a station that claims the address of a live neighbour gets nothing, and a
//! neighbour that has moved is found a tenth of a second after it has answered.
//!
//! An address of our own is announced once nobody has answered for it: it is probed before ([`Question::probe`]).
//!
//! Neighbours of IPv6 are asked for by the same rules, under their names; what a question looks like on the wire does not matter
//! here.
//!
//! Invariant: a flow's block is on the list at most once, marked by `Marks::RESOLVING`, which outlives the flow; the
//! caller, which takes a block off the list, checks whether its flow still waits for anything. All memory is made at start.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::clock::Time;
use crate::link::Mac;
use crate::names::is_name;

/// Most neighbours asked for at a time, for all reasons together: an application connects to few new hosts at once. A
/// reason that strangers can cause may use fewer questions, so that they cannot use up those of flows in doubt, nor of the
/// application.
pub(crate) const FOR_CONNECTIONS: usize = 64;
/// Most neighbours asked for at a time when the question is for a flow in doubt.
pub(crate) const FOR_FLOWS: usize = 48;
/// Most neighbours asked for at a time when the question is which of two ARP packets is right.
pub(crate) const FOR_CLAIMS: usize = 16;
/// Requests to all before a neighbour counts as not there.
const TRIES: u8 = 3;
/// Between two requests to all.
const GAP: Duration = Duration::from_secs(1);
/// Requests to the holder of an address before another station is believed.
const LAST_WORDS: u8 = 2;
/// Requests for an address of our own before it is announced, and between two of them. Deviates: RFC 5227 §1.1 has 1 to 2 s
/// between probes and 2 s of silence before an address is used. Here it is in use from the start, since a server that is
/// started again answers within 0.3 s, and a client that asked before it was there waits for the announcement; the probes only
/// tell whether somebody else has it. Stations on one link answer within milliseconds, and one that takes longer is told of as
/// soon as it does.
const PROBES: u8 = 3;
const PROBE_GAP: Duration = Duration::from_millis(20);
/// The same of IPv6, a second before the address is in use (RFC 4862 §5.1: DupAddrDetectTransmits).
const PROBES_OF_IPV6: u8 = 1;
/// Between two questions to all routers (RFC 4861 §10: RTR_SOLICITATION_INTERVAL).
const ROUTER_GAP: Duration = Duration::from_secs(4);
/// Between two requests to the holder. Stations on one link answer within a millisecond; together less than the least
/// retransmission time-out, so that a flow whose peer has moved loses one segment.
const LAST_WORD_GAP: Duration = Duration::from_millis(50);

/// A neighbour that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) target: Ipv4Addr,
    /// Our address that asks.
    pub(crate) source: Ipv4Addr,
    /// The port by which the requests leave, and the VLAN.
    pub(crate) port: u16,
    pub(crate) tag: Option<u16>,
    /// The station that frames for the neighbour go to at present.
    holder: Option<Mac>,
    /// Another station, which has answered.
    claimant: Option<Mac>,
    sent: u8,
    next_at: Time,
}

/// What has come of a question that nothing more is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Another station is believed to be the neighbour, and the one that held its address was silent.
    Believed { address: Ipv4Addr, mac: Mac, left: Mac },
    /// Nobody has answered.
    Silent { address: Ipv4Addr },
    /// Nobody else has an address of ours.
    Free { announcement: Question },
}

impl Question {
    /// A question to be asked at once.
    pub(crate) fn new(now: Time, target: Ipv4Addr, source: Ipv4Addr, port: u16) -> Self {
        Self { target, source, port, tag: None, holder: None, claimant: None, sent: 0, next_at: now }
    }

    /// The question whether somebody else has `address`, which is ours. It is asked from no address (RFC 5227 §2.1.1), so
    /// that nobody learns anything of it.
    pub(crate) fn probe(now: Time, address: Ipv4Addr, port: u16) -> Self {
        Self::new(now, address, Ipv4Addr::UNSPECIFIED, port)
    }

    /// Who all routers of IPv6 are, to be asked.
    pub(crate) const ROUTERS: Ipv4Addr = Ipv4Addr::new(240, 0, 255, 255);

    /// The question which routers there are.
    pub(crate) fn for_routers(now: Time, port: u16) -> Self {
        Self::new(now, Self::ROUTERS, Self::ROUTERS, port)
    }

    fn is_probe(&self) -> bool {
        self.source.is_unspecified()
    }

    /// The same, about a neighbour that frames go to at `holder`, in the VLAN `tag`.
    pub(crate) fn about(self, holder: Mac, tag: Option<u16>) -> Self {
        Self { holder: Some(holder), tag, ..self }
    }

    /// The same, in the VLAN `tag`.
    pub(crate) fn tagged(self, tag: Option<u16>) -> Self {
        Self { tag, ..self }
    }

    /// The station that the next request goes to.
    pub(crate) fn to(&self) -> Mac {
        self.claimant.and(self.holder).unwrap_or(Mac::BROADCAST)
    }

    fn tries(&self) -> u8 {
        match (self.claimant, self.is_probe()) {
            (Some(_), _) => LAST_WORDS,
            (None, true) if is_name(self.target) => PROBES_OF_IPV6,
            (None, true) => PROBES,
            (None, false) => TRIES,
        }
    }

    fn gap(&self) -> Duration {
        match (self.claimant, self.is_probe()) {
            (Some(_), _) => LAST_WORD_GAP,
            (None, true) if is_name(self.target) => GAP,
            (None, true) => PROBE_GAP,
            (None, false) if self.target == Self::ROUTERS => ROUTER_GAP,
            (None, false) => GAP,
        }
    }

    fn is_due(&self, now: Time) -> bool {
        self.sent < self.tries() && self.next_at <= now
    }

    fn is_over(&self, now: Time) -> bool {
        self.sent >= self.tries() && self.next_at <= now
    }
}

/// What an answer to a question has settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nobody had asked.
    Unasked,
    /// Where the neighbour is.
    Settled,
    /// Nothing yet: the station that holds the address is heard first.
    HolderFirst,
}

/// Questions, and the flows that wait.
#[derive(Debug)]
pub(crate) struct Resolver {
    questions: Vec<Question>,
    /// Most questions, those about our own addresses included.
    most: usize,
    waiting: VecDeque<u32>,
}

impl Resolver {
    /// For at most `flows` flows, of a host with `others` addresses beside those in a row.
    pub(crate) fn new(flows: usize, others: usize) -> Self {
        let most = FOR_CONNECTIONS + others;
        Self { questions: Vec::with_capacity(most), most, waiting: VecDeque::with_capacity(flows) }
    }

    /// Begins to ask about ourselves.
    pub(crate) fn ask_for_own(&mut self, question: Question) -> bool {
        self.ask(question, self.most)
    }

    /// Begins to ask unless the same neighbour is asked for already: then the holder is noted, if none was known.
    /// Returns false when `most` others are asked for.
    pub(crate) fn ask(&mut self, question: Question, most: usize) -> bool {
        if let Some(asked) = self.questions.iter_mut().find(|asked| asked.target == question.target) {
            asked.holder = asked.holder.or(question.holder);
            return true;
        }
        if self.questions.len() >= most {
            return false;
        }
        self.questions.push(question);
        true
    }

    /// Whether `target` is asked for.
    pub(crate) fn is_asking(&self, target: Ipv4Addr) -> bool {
        self.questions.iter().any(|question| question.target == target)
    }

    /// Whether the one that holds the address `target` is asked by itself.
    pub(crate) fn asks_holder(&self, target: Ipv4Addr) -> bool {
        self.questions.iter().any(|question| question.target == target && question.claimant.is_some())
    }

    /// `target` has said that it is at `mac`.
    pub(crate) fn answer(&mut self, now: Time, target: Ipv4Addr, mac: Mac) -> Answer {
        let Some(at) = self.questions.iter().position(|question| question.target == target) else {
            return Answer::Unasked;
        };
        let question = &mut self.questions[at];
        if question.holder.is_none_or(|holder| holder == mac) {
            self.questions.swap_remove(at);
            return Answer::Settled;
        }
        // The first that claims it is the one that is decided upon.
        if question.claimant.is_none() {
            *question = Question { claimant: Some(mac), sent: 0, next_at: now, ..*question };
        }
        Answer::HolderFirst
    }

    /// Ends a question that nothing more is waited for, if there is one, and says what has come of it.
    pub(crate) fn conclude(&mut self, now: Time) -> Option<Over> {
        let at = self.questions.iter().position(|question| question.is_over(now))?;
        let question = self.questions.swap_remove(at);
        let address = question.target;
        Some(match question.claimant.zip(question.holder) {
            Some((mac, left)) => Over::Believed { address, mac, left },
            None if question.is_probe() => {
                let announcement = Question::new(now, address, address, question.port).tagged(question.tag);
                Over::Free { announcement }
            }
            None => Over::Silent { address },
        })
    }

    /// Asks and tells no more of an address of ours: somebody else has it.
    pub(crate) fn give_up(&mut self, address: Ipv4Addr) {
        self.questions.retain(|question| question.target != address);
    }

    /// A question that is due to be asked.
    pub(crate) fn due(&self, now: Time) -> Option<Question> {
        self.questions.iter().find(|question| question.is_due(now)).copied()
    }

    /// A request for `target` has left.
    pub(crate) fn sent(&mut self, now: Time, target: Ipv4Addr) {
        for question in self.questions.iter_mut().filter(|question| question.target == target) {
            question.sent += 1;
            question.next_at = now.after(question.gap());
        }
    }

    /// When there is something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.questions.iter().map(|question| question.next_at).min()
    }

    /// Neighbours asked for.
    pub(crate) fn asking(&self) -> usize {
        self.questions.len()
    }

    /// Puts a flow on the list; the caller has marked it.
    pub(crate) fn wait(&mut self, index: u32) {
        self.waiting.push_back(index);
    }

    /// Takes the first flow off the list.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        self.waiting.pop_front()
    }

    /// Entries of the list.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const HERE: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const THERE: Mac = Mac([2, 0, 0, 0, 0, 66]);

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    fn question(host: u32) -> Question {
        Question::new(Time::ZERO, Ipv4Addr::from_bits(host), US, 0)
    }

    #[test]
    fn a_neighbour_is_asked_for_three_times_a_second_apart_and_then_given_up() {
        let mut resolver = Resolver::new(4, 0);
        let first = Question::new(Time::ZERO, HOST, US, 0);
        assert!(resolver.ask(first, 1) && resolver.ask(Question::new(Time::ZERO, HOST, US, 1), 1));
        for second in 0..3 {
            let now = at(second * 1_000);
            let due = resolver.due(now).map(|question| (question.target, question.port, question.to()));
            assert_eq!(due, Some((HOST, 0, Mac::BROADCAST)));
            assert_eq!(resolver.conclude(now), None);
            resolver.sent(now, HOST);
            assert!(resolver.due(at(second * 1_000 + 999)).is_none());
        }
        assert_eq!(resolver.next_deadline(), Some(at(3_000)));
        assert_eq!((resolver.due(at(3_000)).is_some(), resolver.asking()), (false, 1));
        assert_eq!(resolver.conclude(at(3_000)), Some(Over::Silent { address: HOST }));
        assert_eq!((resolver.asking(), resolver.next_deadline()), (0, None));
    }

    #[test]
    fn who_holds_an_address_is_heard_before_who_claims_it() {
        let mut resolver = Resolver::new(4, 0);
        resolver.ask(Question::new(at(0), HOST, US, 0).about(HERE, Some(7)), 1);
        resolver.sent(at(0), HOST);
        assert_eq!(resolver.answer(at(10), HOST, THERE), Answer::HolderFirst);
        for millis in [10, 60] {
            let due = resolver.due(at(millis)).map(|question| (question.to(), question.tag));
            assert_eq!(due, Some((HERE, Some(7))));
            resolver.sent(at(millis), HOST);
            assert!(resolver.due(at(millis + 49)).is_none() && resolver.conclude(at(millis + 49)).is_none());
        }
        // Late, but in time.
        assert_eq!(resolver.answer(at(109), HOST, HERE), Answer::Settled);
        assert_eq!(resolver.answer(at(109), HOST, THERE), Answer::Unasked);
    }

    #[test]
    fn the_first_claim_is_believed_when_the_holder_is_silent() {
        let mut resolver = Resolver::new(4, 0);
        resolver.ask(Question::new(at(0), HOST, US, 0).about(HERE, None), 1);
        resolver.sent(at(0), HOST);
        assert_eq!(resolver.answer(at(1_500), HOST, THERE), Answer::HolderFirst);
        for millis in [1_500, 1_550] {
            assert_eq!(resolver.answer(at(millis), HOST, Mac([2, 0, 0, 0, 0, 77])), Answer::HolderFirst);
            resolver.sent(at(millis), HOST);
        }
        assert_eq!((resolver.conclude(at(1_599)), resolver.next_deadline()), (None, Some(at(1_600))));
        assert_eq!(resolver.conclude(at(1_600)), Some(Over::Believed { address: HOST, mac: THERE, left: HERE }));
    }

    #[test]
    fn an_address_of_ours_is_announced_once_nobody_has_answered_for_it() {
        let mut resolver = Resolver::new(4, 0);
        resolver.ask(Question::probe(at(0), US, 1).tagged(Some(7)), 1);
        for millis in [0, 20, 40] {
            let due = resolver.due(at(millis)).map(|question| (question.source, question.to()));
            assert_eq!(due, Some((Ipv4Addr::UNSPECIFIED, Mac::BROADCAST)));
            resolver.sent(at(millis), US);
            assert_eq!((resolver.due(at(millis + 19)), resolver.conclude(at(millis + 19))), (None, None));
        }
        let Some(Over::Free { announcement }) = resolver.conclude(at(60)) else { panic!("nobody has answered") };
        assert_eq!((announcement.source, announcement.target), (US, US));
        assert_eq!((announcement.port, announcement.tag), (1, Some(7)));
        resolver.ask(Question::probe(at(60), US, 1), 1);
        resolver.give_up(US);
        assert_eq!((resolver.asking(), resolver.conclude(at(9_000))), (0, None));
    }

    #[test]
    fn questions_are_bounded_and_those_of_strangers_leave_room() {
        let mut resolver = Resolver::new(4, 0);
        let mut hosts = 0..;
        for most in [FOR_CLAIMS, FOR_FLOWS, FOR_CONNECTIONS] {
            let asked = (0..1_000).filter(|_| resolver.ask(question(hosts.next().expect("endless")), most)).count();
            assert!(asked > 0 && resolver.asking() == most, "{asked}");
        }
        let fifth = Ipv4Addr::from_bits(5);
        assert_eq!(resolver.answer(Time::ZERO, fifth, HERE), Answer::Settled);
        assert_eq!(resolver.answer(Time::ZERO, fifth, HERE), Answer::Unasked);
        assert!(resolver.ask(question(5), FOR_CONNECTIONS));
    }

    #[test]
    fn a_doubt_about_a_neighbour_that_is_asked_for_has_its_holder_heard_first() {
        let mut resolver = Resolver::new(4, 0);
        let question = Question::new(at(0), HOST, US, 0);
        assert!(resolver.ask(question, 1) && resolver.ask(question.about(HERE, None), 1));
        assert_eq!(resolver.answer(at(0), HOST, THERE), Answer::HolderFirst);
        assert_eq!(resolver.answer(at(0), HOST, HERE), Answer::Settled);
    }
}
