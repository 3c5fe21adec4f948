//! `Resolver`: neighbours that are being asked for their Ethernet address, and the flows that wait for an answer.
//!
//! A request a second, three at the most (RFC 1122 §2.3.2.1 bounds the rate), then the neighbour counts as not there.
//! Invariant: a flow's block is on the list at most once, marked by `FLAG_RESOLVING`, which outlives the flow; who is
//! taken off the list looks for itself whether it still waits for anything. All memory is made at start.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::clock::Time;

/// Neighbours asked for at a time: an application connects to few new hosts at once.
const QUESTIONS: usize = 64;
/// Requests before a neighbour counts as not there.
const TRIES: u8 = 3;
/// Between two requests.
const GAP: Duration = Duration::from_secs(1);

/// A neighbour that is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    pub(crate) target: Ipv4Addr,
    /// Our address that asks.
    pub(crate) source: Ipv4Addr,
    /// The port by which the requests leave.
    pub(crate) port: u16,
    sent: u8,
    next_at: Time,
}

/// Questions, and the flows that wait.
#[derive(Debug)]
pub(crate) struct Resolver {
    questions: Vec<Question>,
    waiting: VecDeque<u32>,
}

impl Resolver {
    /// For at most `flows` flows.
    pub(crate) fn new(flows: usize) -> Self {
        Self { questions: Vec::with_capacity(QUESTIONS), waiting: VecDeque::with_capacity(flows) }
    }

    /// Begins to ask for `target` unless it is asked for already. Returns false when too many others are.
    pub(crate) fn ask(&mut self, now: Time, target: Ipv4Addr, source: Ipv4Addr, port: u16) -> bool {
        if self.is_asking(target) {
            return true;
        }
        if self.questions.len() == QUESTIONS {
            return false;
        }
        self.questions.push(Question { target, source, port, sent: 0, next_at: now });
        true
    }

    /// Whether `target` is asked for.
    pub(crate) fn is_asking(&self, target: Ipv4Addr) -> bool {
        self.questions.iter().any(|question| question.target == target)
    }

    /// Ends the question for `target`. Returns whether there was one.
    pub(crate) fn end(&mut self, target: Ipv4Addr) -> bool {
        let before = self.questions.len();
        self.questions.retain(|question| question.target != target);
        self.questions.len() < before
    }

    /// Ends a question that was asked in vain, if there is one, and says which.
    pub(crate) fn give_up(&mut self, now: Time) -> Option<Ipv4Addr> {
        let at = self.questions.iter().position(|question| question.sent >= TRIES && question.next_at <= now)?;
        Some(self.questions.swap_remove(at).target)
    }

    /// A question that is due to be asked.
    pub(crate) fn due(&self, now: Time) -> Option<Question> {
        self.questions.iter().find(|question| question.sent < TRIES && question.next_at <= now).copied()
    }

    /// A request for `target` has left.
    pub(crate) fn sent(&mut self, now: Time, target: Ipv4Addr) {
        for question in self.questions.iter_mut().filter(|question| question.target == target) {
            question.sent += 1;
            question.next_at = now.after(GAP);
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

    #[test]
    fn a_neighbour_is_asked_for_three_times_a_second_apart_and_then_given_up() {
        let mut resolver = Resolver::new(4);
        assert!(resolver.ask(Time::ZERO, HOST, US, 0) && resolver.ask(Time::ZERO, HOST, US, 1));
        for second in 0..3 {
            let now = Time::from_millis(second * 1_000);
            assert_eq!(resolver.due(now).map(|question| (question.target, question.port)), Some((HOST, 0)));
            assert_eq!(resolver.give_up(now), None);
            resolver.sent(now, HOST);
            assert!(resolver.due(Time::from_millis(second * 1_000 + 999)).is_none());
        }
        assert_eq!(resolver.next_deadline(), Some(Time::from_millis(3_000)));
        assert_eq!((resolver.due(Time::from_millis(3_000)).is_some(), resolver.asking()), (false, 1));
        assert_eq!(resolver.give_up(Time::from_millis(3_000)), Some(HOST));
        assert_eq!((resolver.asking(), resolver.next_deadline()), (0, None));
    }

    #[test]
    fn questions_are_bounded() {
        let mut resolver = Resolver::new(4);
        let asked = (0..1_000u32).filter(|&host| resolver.ask(Time::ZERO, Ipv4Addr::from_bits(host), US, 0)).count();
        assert_eq!((asked, resolver.asking()), (QUESTIONS, QUESTIONS));
        assert!(resolver.end(Ipv4Addr::from_bits(5)) && !resolver.end(Ipv4Addr::from_bits(5)));
        assert!(resolver.ask(Time::ZERO, HOST, US, 0));
    }
}
