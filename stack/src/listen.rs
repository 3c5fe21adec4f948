//! `Listener`: the ports on which this core accepts, and its bounded SYN queue.
//!
//! A flow block serves each SYN at once, so the queue is a count of half-open flows. From half of it on, SYNs are answered
//! with cookies (`net_stack/cookies.rs`); what is left is for those that cannot be, since they follow an earlier
//! connection. A SYN beyond it is dropped, and the client sends it again (RFC 4987 §3). The accept queue is the ready
//! list.

/// Ports listened on, and the handshakes under way.
#[derive(Debug)]
pub(crate) struct Listener {
    ports: Box<[u64]>,
    half_open: usize,
    syn_queue: usize,
    paused: bool,
    hands_over: bool,
    /// Flows opened by their peers that were found by a look for events (`net_stack/events.rs`), or have ended before.
    found: u64,
}

impl Listener {
    /// A listener on `ports` with room for `syn_queue` handshakes at a time.
    pub(crate) fn new(ports: &[u16], syn_queue: usize) -> Self {
        let mut bits = vec![0u64; 1 << 10].into_boxed_slice();
        for &port in ports {
            bits[usize::from(port >> 6)] |= 1 << (port & 63);
        }
        Self { ports: bits, half_open: 0, syn_queue, paused: false, hands_over: false, found: 0 }
    }

    /// Whether connections to `port` are accepted.
    #[inline]
    pub(crate) fn accepts(&self, port: u16) -> bool {
        self.ports[usize::from(port >> 6)] >> (port & 63) & 1 == 1
    }

    /// Whether no further handshake can begin.
    pub(crate) fn is_full(&self) -> bool {
        self.paused || self.half_open >= self.syn_queue
    }

    /// Whether so many handshakes are under way that no stranger's SYN shall begin another.
    pub(crate) fn is_half_full(&self) -> bool {
        self.half_open * 2 >= self.syn_queue
    }

    /// Whether no handshake begins for now, be the queue as it may.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether no handshake begins for now.
    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// No handshake begins any more; those under way go on.
    pub(crate) fn close(&mut self) {
        self.ports.fill(0);
    }

    /// Whether SYNs are for another core, since nobody accepts here.
    pub(crate) fn hands_over(&self) -> bool {
        self.hands_over
    }

    /// Whether they are from now on.
    pub(crate) fn set_handing_over(&mut self, hands_over: bool) {
        self.hands_over = hands_over;
    }

    /// A flow that a peer has opened was found, or has ended before, if it `was`.
    pub(crate) fn note_found(&mut self, was: bool) {
        self.found += u64::from(was);
    }

    /// How many there were.
    pub(crate) fn found(&self) -> u64 {
        self.found
    }

    /// A handshake has begun.
    pub(crate) fn begin(&mut self) {
        self.half_open += 1;
    }

    /// A handshake has ended, well or not.
    pub(crate) fn end(&mut self) {
        self.half_open -= 1;
    }

    /// Handshakes under way.
    pub(crate) fn half_open(&self) -> usize {
        self.half_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_ports_given_are_accepted() {
        let listener = Listener::new(&[1, 64, 11_211, 65_535], 1);
        let accepted: Vec<u16> = (0..=u16::MAX).filter(|&port| listener.accepts(port)).collect();
        assert_eq!(accepted, [1, 64, 11_211, 65_535]);
    }

    #[test]
    fn no_port_is_accepted_once_it_has_closed() {
        let mut listener = Listener::new(&[11_211], 1);
        listener.close();
        assert!(!listener.accepts(11_211) && !listener.is_full());
    }

    #[test]
    fn the_syn_queue_has_room_again_when_a_handshake_ends() {
        let mut listener = Listener::new(&[], 2);
        listener.begin();
        assert!(!listener.is_full());
        listener.begin();
        assert!(listener.is_full());
        listener.end();
        assert_eq!((listener.is_full(), listener.half_open()), (false, 1));
        listener.set_paused(true);
        assert!(listener.is_full() && listener.is_paused(), "a SYN is dropped, and comes again");
    }

    #[test]
    fn the_syn_queue_is_half_full_with_half_of_it_or_more() {
        for (syn_queue, from) in [(1, 1), (2, 1), (3, 2), (4, 2), (1_024, 512)] {
            let mut listener = Listener::new(&[], syn_queue);
            (0..from - 1).for_each(|_| listener.begin());
            assert!(!listener.is_half_full(), "{syn_queue}");
            listener.begin();
            assert!(listener.is_half_full(), "{syn_queue}");
        }
    }
}
