//! What our ACKs tell of data behind a hole (RFC 2018), and of data that came twice (RFC 2883).
//!
//! smoltcp answers a segment behind a hole with an ACK that tells of one island, the one that grew, and forgets those it has
//! told of. They are noted here, off the path of a flow without holes, and its ACKs are rewritten to tell of the last four.
//! The table has one row for many flows: a flow whose row another has taken tells of what it hears of from then on, as a
//! receiver may that "does not have the room" (RFC 2018 §4). What is told is kept: smoltcp throws no island away, and a
//! connection is not moved while it has one (`net_stack/rings.rs`).

use nic::{Frame, FrameTooShort};

use crate::block::FlowBlock;
use crate::flow_id::FlowKey;
use crate::phase::Marks;
use crate::segment::{Sent, write_checksums};
use crate::wire::{IPV4_BYTES, TCP_BYTES};

/// The option, and what fills the two bytes before it.
const SACK: u8 = 5;
const NOP: u8 = 1;

/// Blocks that the 40 bytes of options have room for.
const MOST: usize = 4;

/// Rows of the table: more flows than wait for a lost segment at a time, mostly.
const ROWS: usize = 256;

/// The sequence numbers of an island: its first, and the one behind its last.
pub(crate) type Island = (u32, u32);

/// The islands that flows have told of last.
pub(crate) struct Islands {
    rows: Box<[Row]>,
    /// What has come again of an island, to be told with the next ACK.
    again: Option<Island>,
}

/// Whose a list is.
#[derive(Debug, Clone, Copy)]
struct Row {
    key: FlowKey,
    generation: u32,
    list: List,
}

/// Islands, the newest first.
#[derive(Debug, Clone, Copy)]
struct List {
    islands: [Island; MOST],
    count: usize,
}

impl Islands {
    pub(crate) fn new() -> Self {
        Self { rows: vec![Row { key: FlowKey::NONE, generation: 0, list: List::EMPTY }; ROWS].into(), again: None }
    }

    /// The list of a flow, empty if its row was another's.
    fn list(&mut self, block: &FlowBlock) -> &mut List {
        let row = &mut self.rows[block.hash as usize % ROWS];
        if row.key != block.key || row.generation != block.generation {
            *row = Row { key: block.key, generation: block.generation, list: List::EMPTY };
        }
        &mut row.list
    }

    /// Notes that the bytes of `came` have come, behind a hole: if they were there, the next ACK says so.
    pub(crate) fn note_arrival(&mut self, block: &FlowBlock, came: Island) {
        self.again = None;
        if block.options.sack_permitted && self.list(block).shown().iter().any(|&island| is_within(came, island)) {
            self.again = Some(came);
        }
    }

    /// Notes an island that has grown, of which smoltcp knows nothing.
    pub(crate) fn note(&mut self, block: &FlowBlock, island: Island) {
        if block.options.sack_permitted {
            self.list(block).put_first(island);
        }
    }

    /// Has an ACK of ours that smoltcp has written tell of all islands that the flow has told of last, and of what has come
    /// again. The sums are to be written afterwards.
    #[cold]
    #[inline(never)]
    pub(crate) fn rewrite(&mut self, block: &mut FlowBlock, sent: &Sent, frame: &mut Frame) {
        if (sent.ack.wrapping_sub(block.island_end) as i32) >= 0 {
            block.marks.remove(Marks::ISLANDS);
        }
        if !block.options.sack_permitted {
            return;
        }
        let told = frame.bytes().get(block.link.len()..).and_then(told_island);
        let again = self.again.take();
        let list = self.list(block);
        list.forget_below(sent.ack);
        if let Some(told) = told {
            // Where the ACK number moves, the island told is the lowest, and need not be the one that has grown.
            if sent.ack == block.last_ack || !list.shown().contains(&told) {
                list.put_first(told);
            }
        }
        let list = list.with_first(again);
        // If the frame has no room for them, it stays as it is.
        let _ = write(frame, block.link.len(), &list);
    }

    /// Adds to an ACK written by hand what the flow has told of last, and before it what has come again.
    ///
    /// # Errors
    /// The frame has no room for 36 bytes more.
    pub(crate) fn add(
        &mut self,
        block: &FlowBlock,
        ack: u32,
        again: Option<Island>,
        frame: &mut Frame,
    ) -> Result<(), FrameTooShort> {
        if !block.options.sack_permitted {
            return Ok(());
        }
        let list = self.list(block);
        list.forget_below(ack);
        let list = list.with_first(again);
        if list.shown().is_empty() {
            return Ok(());
        }
        write(frame, block.link.len(), &list)?;
        if let Some(packet) = frame.bytes_mut().get_mut(block.link.len()..) {
            packet[10..12].fill(0);
            packet[IPV4_BYTES + 16..IPV4_BYTES + 18].fill(0);
            write_checksums(packet);
        }
        Ok(())
    }
}

impl List {
    const EMPTY: Self = Self { islands: [(0, 0); MOST], count: 0 };

    fn shown(&self) -> &[Island] {
        &self.islands[..self.count]
    }

    /// Forgets the islands that are none any more.
    fn forget_below(&mut self, ack: u32) {
        self.keep(|island| island.0.wrapping_sub(ack) as i32 > 0);
    }

    /// Puts an island that has come into being, or has grown, before the others; those that it holds go.
    fn put_first(&mut self, island: Island) {
        self.keep(|other| !is_within(other, island));
        *self = self.with_first(Some(island));
    }

    /// The same with another before the first; the last gives way.
    fn with_first(mut self, first: Option<Island>) -> Self {
        if let Some(first) = first {
            self.count = (self.count + 1).min(MOST);
            self.islands[..self.count].rotate_right(1);
            self.islands[0] = first;
        }
        self
    }

    fn keep(&mut self, stays: impl Fn(Island) -> bool) {
        let before = *self;
        self.count = 0;
        for &island in before.shown() {
            if stays(island) {
                self.islands[self.count] = island;
                self.count += 1;
            }
        }
    }
}

/// Whether all of `inner` lies in `outer`.
fn is_within(inner: Island, outer: Island) -> bool {
    inner.0.wrapping_sub(outer.0) as i32 >= 0 && outer.1.wrapping_sub(inner.1) as i32 >= 0
}

/// The island that smoltcp tells of in `packet`: it writes the option first, and one island.
fn told_island(packet: &[u8]) -> Option<Island> {
    let option = packet.get(IPV4_BYTES + TCP_BYTES..)?.first_chunk::<10>()?;
    let &[SACK, _, a, b, c, d, e, f, g, h] = option else { return None };
    Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])))
}

/// Makes `list` the options of the segment without data whose IPv4 packet lies at `at` in `frame`.
///
/// # Errors
/// The frame has no room for them; it is as before.
fn write(frame: &mut Frame, at: usize, list: &List) -> Result<(), FrameTooShort> {
    let options = if list.count == 0 { 0 } else { 4 + 8 * list.count };
    frame.resize(at + IPV4_BYTES + TCP_BYTES + options)?;
    let Some(packet) = frame.bytes_mut().get_mut(at..) else { return Ok(()) };
    let total = packet.len() as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[IPV4_BYTES + 12] = ((TCP_BYTES + options) as u8 / 4) << 4;
    let Some((head, blocks)) = packet[IPV4_BYTES + TCP_BYTES..].split_at_mut_checked(4) else { return Ok(()) };
    head.copy_from_slice(&[NOP, NOP, SACK, 2 + 8 * list.count as u8]);
    for (place, island) in blocks.chunks_exact_mut(8).zip(list.shown()) {
        place[..4].copy_from_slice(&island.0.to_be_bytes());
        place[4..].copy_from_slice(&island.1.to_be_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(list: List) -> Vec<Island> {
        list.shown().to_vec()
    }

    #[test]
    fn the_island_that_grew_last_is_told_first_and_the_oldest_of_five_no_more() {
        let mut list = List::EMPTY;
        for from in [100, 300, 500, 700, 900] {
            list.put_first((from, from + 50));
        }
        assert_eq!(shown(list), [(900, 950), (700, 750), (500, 550), (300, 350)]);
        list.put_first((300, 400));
        assert_eq!(shown(list), [(300, 400), (900, 950), (700, 750), (500, 550)]);
        list.put_first((300, 750));
        assert_eq!(shown(list), [(300, 750), (900, 950)]);
    }

    #[test]
    fn islands_below_the_ack_number_are_forgotten_across_the_wrap() {
        let mut list = List::EMPTY;
        for from in [u32::MAX - 100, 5, 500] {
            list.put_first((from, from.wrapping_add(50)));
        }
        list.forget_below(55);
        assert_eq!(shown(list), [(500, 550)]);
    }

    #[test]
    fn what_came_again_is_told_before_three_islands() {
        let mut list = List::EMPTY;
        for from in [100, 300, 500, 700] {
            list.put_first((from, from + 50));
        }
        assert_eq!(shown(list.with_first(Some((1, 9)))), [(1, 9), (700, 750), (500, 550), (300, 350)]);
        assert_eq!(shown(list.with_first(None)), [(700, 750), (500, 550), (300, 350), (100, 150)]);
    }
}
