//! Strays: segments of flows that this core does not know, kept until the application offers them to another core.
//!
//! A client's kernel sends some segments of a flow (RSTs, ACKs of a socket being torn down) by another queue than the
//! flow's, so a miss here says nothing until every core has looked. Copies, because a frame belongs to its queue; a
//! bounded number of buffers, made at start.

use std::collections::VecDeque;

/// Most strays that wait at a time.
const STRAYS: usize = 64;

/// Set in a stray's hops if a core that has seen it may have given its sender a cookie that it has yet to give back.
pub(crate) const AHEAD_OF_COOKIE: u8 = 0x80;

/// Most cores that a stray is offered to.
pub(crate) const MOST_HOPS: u8 = AHEAD_OF_COOKIE - 1;

/// Bytes of the longest frame on a link of this MTU: one that a queue has cut from what the kernel had merged may fill a
/// chunk, which is more than the MTU.
pub(crate) fn longest_frame(ip_mtu: usize) -> usize {
    (ip_mtu + CHUNK_ROOM).next_power_of_two().max(SMALLEST_CHUNK)
}

/// Headroom of a chunk, and the smallest there is (`nic`, `XdpConfig`).
const CHUNK_ROOM: usize = 512;
const SMALLEST_CHUNK: usize = 2048;

#[derive(Debug)]
struct Stray {
    bytes: Box<[u8]>,
    len: usize,
    hops: u8,
}

/// Strays that wait to be offered, oldest first.
#[derive(Debug)]
pub(crate) struct Strays {
    waiting: VecDeque<Stray>,
    free: Vec<Stray>,
}

impl Strays {
    /// Buffers for frames of up to `frame_bytes`; none where there is nobody to offer them to.
    pub(crate) fn new(peers: u8, frame_bytes: usize) -> Self {
        let count = if peers == 0 { 0 } else { STRAYS };
        let free = (0..count).map(|_| Stray { bytes: vec![0; frame_bytes].into(), len: 0, hops: 0 }).collect();
        Self { waiting: VecDeque::with_capacity(count), free }
    }

    /// Keeps a copy of `frame`; false when there is no room.
    pub(crate) fn keep(&mut self, frame: &[u8], hops: u8) -> bool {
        let Some(mut stray) = self.free.pop() else { return false };
        let Some(room) = stray.bytes.get_mut(..frame.len()) else {
            self.free.push(stray);
            return false;
        };
        room.copy_from_slice(frame);
        stray.len = frame.len();
        stray.hops = hops;
        self.waiting.push_back(stray);
        true
    }

    /// Gives the oldest to `offer`; false when there is none.
    pub(crate) fn next(&mut self, offer: impl FnOnce(&[u8], u8)) -> bool {
        let Some(stray) = self.waiting.pop_front() else { return false };
        offer(&stray.bytes[..stray.len], stray.hops);
        self.free.push(stray);
        true
    }

    /// Strays that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strays_are_bounded_and_come_out_in_order() {
        let mut strays = Strays::new(1, 100);
        let kept = (0..200u8).filter(|&i| strays.keep(&[i; 40], i)).count();
        assert_eq!((kept, strays.len()), (STRAYS, STRAYS));
        assert!(!strays.keep(&[0; 101], 0));
        for i in 0..STRAYS as u8 {
            assert!(strays.next(|frame, hops| assert_eq!((frame, hops), (&[i; 40][..], i))));
        }
        assert!(!strays.next(|_, _| panic!("there is none")));
        assert!(strays.keep(&[1; 100], 0));
    }

    /// The longest headers (tag, IPv4 and TCP with all options) in front of all that the kernel writes into a chunk.
    #[test]
    fn a_frame_that_was_cut_from_a_merged_one_is_kept() {
        for (ip_mtu, chunk_bytes) in [(1_500, 2_048), (1_700, 2_048), (1_701, 4_096), (3_822, 4_096)] {
            let cut = vec![0; 18 + 60 + 60 + chunk_bytes - 256];
            assert!(Strays::new(1, longest_frame(ip_mtu)).keep(&cut, 0), "MTU {ip_mtu}");
        }
    }

    #[test]
    fn a_core_without_peers_keeps_none() {
        assert!(!Strays::new(0, 100).keep(&[1], 0));
    }
}
