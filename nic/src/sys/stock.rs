//! `FrameStock`: where each chunk of an AF_XDP queue's UMEM is, in user space or with the kernel.
//!
//! Invariant: each chunk is in exactly one of: a free list, lent to the kernel to be filled, lent to it to be sent, or
//! held by the caller (F1). What is lent is parked here, and an address that the kernel hands back gives a chunk only
//! if that chunk is lent for that purpose. Some chunks are for receiving, the others for sending, so that a flood of one
//! kind never starves the other; how many of either is for good, whichever chunks they are (F6). Safe code; it is in `sys`
//! since the rings' safety rests on it.

use super::memory::{Chunk, Purpose, Region};
use crate::frame::Frame;
use crate::pool::PoolError;
use crate::queue::FrameCensus;

/// What the kernel has a chunk for.
#[derive(Debug)]
enum Lent {
    /// It does not have it.
    Not,
    /// To be filled: in the fill ring, in the driver, or in the receive ring.
    Fill(Chunk),
    /// To be sent: in the transmit ring, in the driver, or in the completion ring.
    Tx(Chunk),
}

/// The chunks of one queue. Belongs to one core; allocates only when it is made.
#[derive(Debug)]
pub(crate) struct FrameStock {
    rx_free: Vec<Chunk>,
    tx_free: Vec<Chunk>,
    /// By chunk index, of all that the memory has: frames may come in any of them.
    lent: Box<[Lent]>,
    fill: usize,
    tx: usize,
    headroom: usize,
    // Last: its memory goes when all chunks have come home.
    region: Region,
}

impl FrameStock {
    /// A stock of all chunks of `region`, `rx_chunks` of them for receiving. `headroom` is where a frame starts in its
    /// chunk.
    ///
    /// # Errors
    /// [`PoolError::Headroom`] when the headroom leaves no byte for a frame.
    pub(crate) fn over(mut region: Region, rx_chunks: u32, headroom: usize) -> Result<Self, PoolError> {
        let chunk_bytes = region.chunk_bytes();
        if headroom >= chunk_bytes {
            return Err(PoolError::Headroom { headroom_bytes: headroom, chunk_bytes });
        }
        let total = region.chunks();
        let rx_count = total.min(rx_chunks as usize);
        let mut rx_free = Vec::with_capacity(rx_count);
        let mut tx_free = Vec::with_capacity(total - rx_count);
        rx_free.extend((0..rx_count).map_while(|_| region.take(Purpose::Receive)));
        tx_free.extend(std::iter::from_fn(|| region.take(Purpose::Send)));
        let lent = (0..region.memory_chunks()).map(|_| Lent::Not).collect();
        Ok(Self { rx_free, tx_free, lent, fill: 0, tx: 0, headroom, region })
    }

    /// Takes a free frame for sending; `None` when all are in flight.
    #[inline]
    pub(crate) fn alloc(&mut self) -> Option<Frame> {
        let chunk = self.tx_free.pop()?;
        Some(Frame::new(chunk, self.headroom, 0))
    }

    /// Takes back a frame that the caller held.
    ///
    /// # Errors
    /// Gives the frame back when it belongs to another queue.
    #[inline]
    pub(crate) fn free(&mut self, frame: Frame) -> Result<(), Frame> {
        if !self.owns(&frame) {
            return Err(frame);
        }
        self.shelve(frame.into_chunk());
        Ok(())
    }

    /// Whether the frame is one of this queue's.
    #[inline]
    pub(crate) fn owns(&self, frame: &Frame) -> bool {
        self.region.owns(frame.chunk())
    }

    /// Chunks that could be lent to be filled.
    #[inline]
    pub(crate) fn fillable(&self) -> usize {
        self.rx_free.len()
    }

    /// Chunks that are lent to be filled.
    #[inline]
    pub(crate) fn lent_to_fill(&self) -> usize {
        self.fill
    }

    /// Parks a free chunk as lent to be filled and returns its index.
    #[inline]
    pub(super) fn lend_to_fill(&mut self) -> Option<usize> {
        let chunk = self.rx_free.pop()?;
        let index = chunk.index() as usize;
        let slot = self.lent.get_mut(index)?;
        *slot = Lent::Fill(chunk);
        self.fill += 1;
        Some(index)
    }

    /// Parks a frame's chunk as lent to be sent and returns its index.
    ///
    /// # Errors
    /// Gives the frame back when it belongs to another queue.
    #[inline]
    pub(super) fn lend_to_send(&mut self, frame: Frame) -> Result<usize, Frame> {
        if !self.owns(&frame) {
            return Err(frame);
        }
        let chunk = frame.into_chunk();
        let index = chunk.index() as usize;
        // `owns` says that the index is below the number of chunks, which is the table's length.
        self.lent[index] = Lent::Tx(chunk);
        self.tx += 1;
        Ok(index)
    }

    /// Takes chunk `index`, which the kernel says it has filled, as a frame; `None` when it was not lent for that.
    #[inline]
    pub(super) fn take_filled(&mut self, index: usize, start: usize, len: usize) -> Option<Frame> {
        let slot = self.lent.get_mut(index)?;
        match std::mem::replace(slot, Lent::Not) {
            Lent::Fill(chunk) => {
                self.fill -= 1;
                Some(Frame::new(chunk, start, len))
            }
            other => {
                *slot = other;
                None
            }
        }
    }

    /// Shelves chunk `index`, which the kernel says it has sent; `false` when it was not lent for that.
    #[inline]
    pub(super) fn take_sent(&mut self, index: usize) -> bool {
        let Some(slot) = self.lent.get_mut(index) else { return false };
        match std::mem::replace(slot, Lent::Not) {
            Lent::Tx(chunk) => {
                self.tx -= 1;
                self.shelve(chunk);
                true
            }
            other => {
                *slot = other;
                false
            }
        }
    }

    #[inline]
    fn shelve(&mut self, chunk: Chunk) {
        // Neither list grows: each was made for all chunks of its kind, and no more count for it (F6).
        match chunk.purpose() {
            Purpose::Receive => self.rx_free.push(chunk),
            Purpose::Send => self.tx_free.push(chunk),
        }
    }

    /// Where every chunk is.
    pub(crate) fn census(&self) -> FrameCensus {
        let (total, free) = (self.region.chunks(), self.rx_free.len() + self.tx_free.len());
        FrameCensus { total, free, fill: self.fill, tx: self.tx, held: total - free - self.fill - self.tx }
    }

    /// The longest frame that [`alloc`](Self::alloc) has room for, in bytes.
    pub(crate) fn max_frame_bytes(&self) -> usize {
        self.region.chunk_bytes() - self.headroom
    }
}

impl Drop for FrameStock {
    /// Brings home what is free or parked; whoever drops a stock has closed the socket before, so the kernel has nothing
    /// any more. A frame still held keeps the memory mapped (F2).
    fn drop(&mut self) {
        let lent = self.lent.iter_mut().filter_map(|slot| match std::mem::replace(slot, Lent::Not) {
            Lent::Fill(chunk) | Lent::Tx(chunk) => Some(chunk),
            Lent::Not => None,
        });
        for chunk in self.rx_free.drain(..).chain(self.tx_free.drain(..)).chain(lent) {
            // Only chunks of this region are let in, so none is refused.
            let _ = self.region.put_home(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    const CHUNKS: usize = 12;
    const RX: u32 = 8;

    fn stock() -> FrameStock {
        FrameStock::over(Region::heap(2048, CHUNKS).unwrap(), RX, 256).unwrap()
    }

    #[test]
    fn filling_never_takes_a_frame_meant_for_sending() {
        let mut stock = stock();
        while stock.lend_to_fill().is_some() {}
        assert_eq!(stock.census(), FrameCensus { total: CHUNKS, free: CHUNKS - 8, fill: 8, tx: 0, held: 0 });
        let frame = stock.alloc().unwrap();
        stock.free(frame).unwrap();
    }

    #[test]
    fn an_address_that_was_not_lent_gives_no_chunk() {
        let mut stock = stock();
        let index = stock.lend_to_fill().unwrap();
        assert!(!stock.take_sent(index), "lent to be filled, not to be sent");
        assert!(stock.take_filled(CHUNKS, 256, 60).is_none(), "beyond the last chunk");
        let frame = stock.take_filled(index, 256, 60).unwrap();
        assert!(stock.take_filled(index, 256, 60).is_none(), "a second time");
        stock.free(frame).unwrap();
        assert_eq!(stock.census().free, CHUNKS);
    }

    #[test]
    fn a_received_frame_that_is_sent_goes_back_to_receiving() {
        let mut stock = stock();
        let index = stock.lend_to_fill().unwrap();
        let frame = stock.take_filled(index, 256, 60).unwrap();
        let sent = stock.lend_to_send(frame).unwrap();
        assert_eq!((sent, stock.fillable()), (index, 7));
        assert!(stock.take_sent(sent));
        assert_eq!(stock.fillable(), 8);
    }

    #[test]
    fn a_frame_of_another_queue_is_given_back() {
        let (mut stock, mut other) = (stock(), stock());
        let foreign = stock.free(other.alloc().unwrap()).unwrap_err();
        let foreign = stock.lend_to_send(foreign).unwrap_err();
        other.free(foreign).unwrap();
    }

    #[test]
    fn what_two_queues_exchange_leaves_each_as_many_for_receiving_and_for_sending() {
        let shares = Region::heap(2048, 2 * CHUNKS).unwrap().split(&[CHUNKS, CHUNKS]).unwrap();
        let mut stocks = shares.into_iter().map(|share| FrameStock::over(share, RX, 256).unwrap());
        let (mut a, mut b) = (stocks.next().unwrap(), stocks.next().unwrap());
        // Many times round, so that every chunk has wandered.
        for _ in 0..100 {
            let index = a.lend_to_fill().unwrap();
            let mut received = a.take_filled(index, 300, 60).unwrap();
            let mut free = b.alloc().unwrap();
            assert!(received.exchange(&mut free));
            assert_eq!((free.chunk_index() as usize, free.start(), free.len()), (index, 300, 60));
            assert!(!a.owns(&free) && !b.owns(&received));
            let index = b.lend_to_send(free).unwrap();
            a.free(received).unwrap();
            assert!(b.take_sent(index));
            for stock in [&a, &b] {
                assert_eq!((stock.rx_free.len(), stock.tx_free.len()), (8, CHUNKS - 8));
                assert_eq!(stock.census(), FrameCensus { total: CHUNKS, free: CHUNKS, fill: 0, tx: 0, held: 0 });
            }
        }
    }

    proptest! {
        #[test]
        fn every_chunk_is_in_one_place_whatever_the_kernel_says(acts in proptest::collection::vec(any::<(u8, u8)>(), 0..300)) {
            let mut stock = stock();
            let mut held = Vec::new();
            for (act, pick) in acts {
                let index = usize::from(pick) % (CHUNKS + 2);
                match act % 6 {
                    0 => { let _ = stock.lend_to_fill(); }
                    1 => held.extend(stock.take_filled(index, 256, 60)),
                    2 => held.extend(stock.alloc()),
                    3 if !held.is_empty() => {
                        let frame: Frame = held.swap_remove(usize::from(pick) % held.len());
                        prop_assert!(stock.lend_to_send(frame).is_ok());
                    }
                    4 => { stock.take_sent(index); }
                    5 => if let Some(frame) = held.pop() { prop_assert!(stock.free(frame).is_ok()) },
                    _ => {}
                }
                let census = stock.census();
                prop_assert_eq!(census.held, held.len());
                prop_assert_eq!(census.free + census.fill + census.tx + census.held, CHUNKS);
            }
            for frame in held { prop_assert!(stock.free(frame).is_ok()) }
        }
    }
}
