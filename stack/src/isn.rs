//! Initial sequence numbers nobody can guess (RFC 6528), delivered through smoltcp.
//!
//! smoltcp draws a connection's ISN from its interface's random generator, which is predictable when left alone. The
//! generator is a 64-bit multiplicative congruential one with a permuted output, so it can be run backwards: for any
//! wanted ISN there is a seed. A SYN is therefore ingested by a throw-away interface (25 ns to make, no allocation)
//! whose seed makes the ISN the one wanted. This rests on a private detail of smoltcp (its `src/rand.rs`: the first
//! output becomes the IPv4 identification and is drawn again if that is 0, the second is the ISN), so the version is
//! pinned and the tests here fail if it ever changes.

use std::collections::HashMap;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::clock::Time;
use crate::flow_id::Ends;

/// The ISNs that a recorded server chose, so that a replay's acknowledgements are of the same numbers. Never for traffic
/// of others: these numbers are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordedIsns(HashMap<(Ends, u32), u32>);

impl RecordedIsns {
    /// The connection of `ends` whose SYN has the sequence number `syn` gets the ISN `isn`.
    pub fn insert(&mut self, ends: Ends, syn: u32, isn: u32) {
        self.0.insert((ends, syn), isn);
    }

    /// The ISN for a SYN; `None` when it was not recorded.
    pub(crate) fn find(&self, ends: &Ends, syn: u32) -> Option<u32> {
        self.0.get(&(*ends, syn)).copied()
    }
}

/// Makes the ISNs of RFC 6528 §3: `M + F(4-tuple, secret)`, where M ticks every 4 microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IsnGenerator {
    secret: [u64; 2],
}

impl IsnGenerator {
    pub(crate) fn new(secret: [u64; 2]) -> Self {
        Self { secret }
    }

    /// The ISN for a connection that begins at `now`.
    pub(crate) fn isn(&self, now: Time, ends: &Ends) -> u32 {
        let mut hasher = SipHasher24::new_with_keys(self.secret[0], self.secret[1]);
        ends.feed(&mut hasher);
        (hasher.finish() as u32).wrapping_add((now.as_micros() / 4) as u32)
    }
}

/// `isn`, or one above everything that an earlier connection of the same 4-tuple has sent, `after` being where it left
/// off (RFC 9293 §3.4.1).
pub(crate) fn above(after: Option<u32>, isn: u32) -> u32 {
    match after {
        Some(after) if (isn.wrapping_sub(after) as i32) <= 0 => after.wrapping_add(250_000),
        _ => isn,
    }
}

/// Multiplier and increment of smoltcp's generator.
const MULTIPLIER: u64 = 0xbb2e_fcec_3c39_611d;
const INCREMENT: u64 = 0x7590_ef39;
/// The multiplier's inverse modulo 2^64.
const INVERSE: u64 = inverse(MULTIPLIER);

/// Newton's iteration: each step doubles the low bits that are right, beginning with three.
const fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    let mut step = 0;
    while step < 5 {
        x = x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x)));
        step += 1;
    }
    x
}

/// The state before the one given.
const fn step_back(state: u64) -> u64 {
    state.wrapping_sub(INCREMENT).wrapping_mul(INVERSE)
}

/// What the generator outputs in a state: 32 bits, from a place that the top three bits choose.
const fn output(state: u64) -> u32 {
    (state >> (29 - (state >> 61))) as u32
}

/// The seed with which smoltcp's next ISN is `isn`.
pub(crate) fn seed_for(isn: u32) -> u64 {
    // With 7 on top, the output is bits 22 to 53; those below are free.
    let mut second = 7 << 61 | u64::from(isn) << 22;
    loop {
        let first = step_back(second);
        let identification = output(first);
        // smoltcp would draw again for an IPv4 identification of 0.
        if (identification ^ identification >> 16) as u16 != 0 {
            return step_back(first);
        }
        second += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::{RngCore, SeedableRng};
    use smoltcp::iface::{Config, Interface, SocketSet, SocketStorage};
    use smoltcp::socket::tcp::{Socket, SocketBuffer};
    use smoltcp::wire::{HardwareAddress, TcpPacket};

    use super::*;
    use crate::clock::FlowClock;
    use crate::flow_id::FlowKey;
    use crate::one_frame::Scratch;

    const KEY: FlowKey = FlowKey::OF_TESTS;
    const ENDS: Ends = Ends::OF_TESTS;

    /// smoltcp's own answer to a SYN, for many wanted ISNs. If this fails, smoltcp's generator has changed: see the
    /// module's documentation.
    #[test]
    fn smoltcp_answers_a_syn_with_exactly_the_isn_wanted() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(6_528);
        let mut sockets = [SocketStorage::EMPTY];
        let (mut rx, mut tx) = ([0; 512], [0; 512]);
        let mut set = SocketSet::new(&mut sockets[..]);
        let handle = set.add(Socket::new(SocketBuffer::new(&mut rx[..]), SocketBuffer::new(&mut tx[..])));
        let syn = crate::segment::tests::syn_packet(&KEY, 1_000);
        let now = FlowClock::instant(Time::from_millis(5));
        let edges = [0, 1, u32::MAX, 1 << 31, 0x8000_0001];
        let count = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
        for wanted in edges.into_iter().chain((0..count).map(|_| rng.next_u32())) {
            let socket = set.get_mut::<Socket>(handle);
            socket.abort();
            socket.listen(KEY.local_port).expect("a closed socket");
            let mut config = Config::new(HardwareAddress::Ip);
            config.random_seed = seed_for(wanted);
            let mut device = Scratch::new(&syn, 1_500);
            let mut interface = Interface::new(config, &mut device, now);
            interface.set_any_ip(true);
            interface.poll_ingress_single(now, &mut device, &mut set);
            interface.poll_egress(now, &mut device, &mut set);
            let tcp = TcpPacket::new_checked(&device.reply()[20..]).expect("a SYN-ACK");
            assert!(tcp.syn() && tcp.ack(), "{tcp}");
            assert_eq!(tcp.seq_number().0 as u32, wanted);
        }
    }

    #[test]
    fn the_inverse_inverts() {
        assert_eq!(MULTIPLIER.wrapping_mul(INVERSE), 1);
    }

    #[test]
    fn isns_of_one_tuple_climb_and_of_many_tuples_differ() {
        let isns = IsnGenerator::new([1, 2]);
        let at = Time::from_millis(7);
        let later = at.after(std::time::Duration::from_micros(400));
        assert_eq!(isns.isn(later, &ENDS).wrapping_sub(isns.isn(at, &ENDS)), 100);
        let many: HashSet<_> = (0..10_000u16).map(|port| isns.isn(at, &Ends { remote_port: port, ..ENDS })).collect();
        assert!(many.len() > 9_990);
        assert_ne!(IsnGenerator::new([1, 3]).isn(at, &ENDS), isns.isn(at, &ENDS));
    }
}
