//! `Listener`: the ports on which this core accepts.

/// Ports listened on.
#[derive(Debug)]
pub(crate) struct Listener {
    ports: Box<[u64]>,
    paused: bool,
    hands_over: bool,
    /// Flows opened by their peers that were found by a look for events (`net_stack/events.rs`), or have ended before.
    found: u64,
}

impl Listener {
    /// A listener on `ports`.
    pub(crate) fn new(ports: &[u16]) -> Self {
        let mut bits = vec![0u64; 1 << 10].into_boxed_slice();
        for &port in ports {
            bits[usize::from(port >> 6)] |= 1 << (port & 63);
        }
        Self { ports: bits, paused: false, hands_over: false, found: 0 }
    }

    /// Whether connections to `port` are accepted.
    #[inline]
    pub(crate) fn accepts(&self, port: u16) -> bool {
        self.ports[usize::from(port >> 6)] >> (port & 63) & 1 == 1
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_ports_given_are_accepted() {
        let listener = Listener::new(&[1, 64, 11_211, 65_535]);
        let accepted: Vec<u16> = (0..=u16::MAX).filter(|&port| listener.accepts(port)).collect();
        assert_eq!(accepted, [1, 64, 11_211, 65_535]);
    }

    #[test]
    fn no_port_is_accepted_once_it_has_closed() {
        let mut listener = Listener::new(&[11_211]);
        listener.close();
        assert!(!listener.accepts(11_211) && !listener.is_paused());
    }
}
