//! The options of a SYN or SYN-ACK: read once, and written back so that smoltcp reads the same.
//!
//! Whatever was checked must be what is used: of an option that comes twice, smoltcp takes the last. So where smoltcp
//! might read something else than was read here, the latter is written over all that came. Read first: RFC 9293 §3.2.

use arrayvec::ArrayVec;

use crate::classify::Segment;
use crate::drop_reason::DropReason;
use crate::scoreboard::{Block, before};
use crate::wire::TCP_BYTES;

/// Ends the list; fills; carries a value.
const END: u8 = 0;
pub(crate) const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;

/// Smallest segment size that a SYN may offer: that of the 256-byte links that RFC 1191 §7.1 lists, so far below any
/// link in use that a smaller one only serves to make us send many tiny segments.
const SMALLEST_MSS: u16 = 216;

/// Most bytes of the options of our SYN-ACKs.
const MOST_ANSWER: usize = 12;

/// What a SYN or SYN-ACK offers. Of an option that comes more than once the last counts, as with Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SynOptions {
    /// Largest segment that the peer takes.
    pub(crate) mss: Option<u16>,
    /// Bits by which the peer shifts its windows (RFC 7323 §2.2).
    pub(crate) window_scale: Option<u8>,
    /// RFC 2018 §2.
    pub(crate) sack_permitted: bool,
    /// smoltcp might read them otherwise: an option comes twice, or one that has no place in a SYN.
    pub(crate) ambiguous: bool,
}

impl SynOptions {
    /// Reads the options of `segment`, which lies in `frame`. `None`: they do not parse.
    pub(crate) fn read(segment: &Segment, frame: &[u8]) -> Option<Self> {
        Self::parse(frame.get(place(segment))?)
    }

    fn parse(mut options: &[u8]) -> Option<Self> {
        let mut read = Self::default();
        loop {
            options = match options {
                [] | [END, ..] => return Some(read),
                [NOP, rest @ ..] => rest,
                [kind, len, ..] if *len >= 2 => {
                    let (option, rest) = options.split_at_checked(usize::from(*len))?;
                    let twice = match *kind {
                        MSS => read.mss.is_some(),
                        WINDOW_SCALE => read.window_scale.is_some(),
                        SACK_PERMITTED => read.sack_permitted,
                        kind => kind == SACK,
                    };
                    read.ambiguous |= twice;
                    match (*kind, &option[2..]) {
                        (MSS, &[high, low]) => read.mss = Some(u16::from_be_bytes([high, low])),
                        (WINDOW_SCALE, &[bits]) => read.window_scale = Some(bits),
                        (SACK_PERMITTED, []) => read.sack_permitted = true,
                        (MSS | WINDOW_SCALE | SACK_PERMITTED, _) => return None,
                        _ => {}
                    }
                    rest
                }
                _ => return None,
            };
        }
    }

    /// The largest segment that may be sent to the peer, `own` being that of our link.
    pub(crate) fn segment_bytes(&self, own: usize) -> u16 {
        // smoltcp takes 0 as no offer (RFC 9293 §3.7.1: 536 bytes).
        let peer = self.mss.filter(|&mss| mss != 0).unwrap_or(536);
        u16::try_from(own).unwrap_or(u16::MAX).min(peer)
    }

    /// Has the peer be taken to offer no more than `most` bytes.
    pub(crate) fn limit_mss(&mut self, most: usize) {
        let most = u16::try_from(most).unwrap_or(u16::MAX);
        self.mss = self.mss.map(|mss| if mss == 0 { mss } else { mss.min(most) });
    }

    /// The options of the SYN-ACK that answers a SYN with these: segments of `mss` bytes, and, where the peer has offered them, a
    /// shift of our windows by `scale` bits, and SACK.
    pub(crate) fn answer(&self, mss: u16, scale: u8) -> ArrayVec<u8, MOST_ANSWER> {
        let [high, low] = mss.to_be_bytes();
        let mut options = ArrayVec::from([MSS, 4, high, low, END, END, END, END, END, END, END, END]);
        let mut len = 4;
        let mut put = |option: &[u8]| {
            options[len..len + option.len()].copy_from_slice(option);
            len += option.len();
        };
        if self.window_scale.is_some() {
            put(&[WINDOW_SCALE, 3, scale]);
        }
        if self.sack_permitted {
            put(&[SACK_PERMITTED, 2]);
        }
        let len = len.next_multiple_of(4);
        options.truncate(len);
        options
    }

    /// Writes them over the options of `segment`, whence they were read, where smoltcp might read those otherwise.
    pub(crate) fn write(&self, segment: &Segment, frame: &mut [u8]) {
        if self.ambiguous {
            self.write_over(segment, frame);
        }
    }

    /// What was read fits where it came from.
    #[cold]
    fn write_over(&self, segment: &Segment, frame: &mut [u8]) {
        let Some(mut room) = frame.get_mut(place(segment)) else { return };
        room.fill(END);
        let mut put = |option: &[u8]| {
            let taken = std::mem::take(&mut room);
            let Some((place, rest)) = taken.split_at_mut_checked(option.len()) else { return };
            place.copy_from_slice(option);
            room = rest;
        };
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            put(&[MSS, 4, high, low]);
        }
        if let Some(bits) = self.window_scale {
            put(&[WINDOW_SCALE, 3, bits]);
        }
        if self.sack_permitted {
            put(&[SACK_PERMITTED, 2]);
        }
    }
}

/// Reads the options of a SYN or SYN-ACK, and leaves in it, for smoltcp, only what was read: of the segment size no more than
/// `most`, where that is less than smoltcp knows of.
///
/// # Errors
/// They do not parse, or the segment size that they offer is too small.
pub(crate) fn restrict_syn(segment: &Segment, frame: &mut [u8], most: Option<usize>) -> Result<SynOptions, DropReason> {
    let mut options = read_syn(segment, frame)?;
    match most {
        None => options.write(segment, frame),
        Some(most) => {
            options.limit_mss(most);
            options.write_over(segment, frame);
            options.ambiguous = false;
        }
    }
    Ok(options)
}

/// Reads the options of a SYN that smoltcp is not to see.
///
/// # Errors
/// As [`restrict_syn`].
pub(crate) fn read_syn(segment: &Segment, frame: &[u8]) -> Result<SynOptions, DropReason> {
    let options = SynOptions::read(segment, frame).ok_or(DropReason::TcpOptions)?;
    if options.mss.is_some_and(|mss| mss < SMALLEST_MSS) {
        return Err(DropReason::TcpTinyMss);
    }
    Ok(options)
}

/// What a peer says it has behind what it lacks.
pub(crate) type SackBlocks = ArrayVec<Block, 4>;

/// The blocks of a segment's SACK option; and the first, apart, if it tells of what has come twice (RFC 2883 §4: it lies
/// below the ACK number, or within the second).
pub(crate) fn sack_blocks(segment: &Segment, frame: &[u8]) -> (SackBlocks, Option<Block>) {
    let mut options = frame.get(place(segment)).unwrap_or_default();
    let mut blocks = SackBlocks::new();
    loop {
        options = match options {
            [NOP, rest @ ..] => rest,
            [SACK, len, edges @ ..] if *len >= 2 => {
                let (edges, _) = edges.get(..usize::from(*len - 2)).unwrap_or_default().as_chunks::<8>();
                let number = |bytes: &[u8]| bytes.iter().fold(0, |number, &byte| number << 8 | u32::from(byte));
                blocks.extend(edges.iter().take(4).map(|edges| (number(&edges[..4]), number(&edges[4..]))));
                break;
            }
            [kind, len, ..] if *kind != END && *len >= 2 => options.get(usize::from(*len)..).unwrap_or_default(),
            _ => break,
        };
    }
    let twice = match *blocks {
        [(left, right), (from, to), ..] => !before(segment.ack, right) || !before(left, from) && !before(to, right),
        [(_, right)] => !before(segment.ack, right),
        [] => false,
    };
    let twice = if twice { blocks.pop_at(0) } else { None };
    (blocks, twice)
}

/// Where the options lie in the segment's frame.
fn place(segment: &Segment) -> std::ops::Range<usize> {
    segment.tcp_at() + TCP_BYTES..segment.tcp_at() + usize::from(segment.header_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_is_read_and_of_two_the_last() {
        let parsed = SynOptions::parse(&[2, 4, 5, 0xb4, 1, 3, 3, 7, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            parsed,
            Some(SynOptions { mss: Some(1_460), window_scale: Some(7), sack_permitted: true, ambiguous: false })
        );
        let twice = SynOptions::parse(&[2, 4, 5, 0xb4, 2, 4, 0, 1]).expect("they parse");
        assert_eq!((twice.mss, twice.ambiguous), (Some(1), true));
        // smoltcp would refuse the whole SYN for it.
        assert!(SynOptions::parse(&[5, 3, 0]).expect("it parses").ambiguous);
        // What follows the end of the list is none.
        assert_eq!(SynOptions::parse(&[1, 0, 2, 4, 0, 1]), Some(SynOptions::default()));
        assert_eq!(SynOptions::parse(&[]), Some(SynOptions::default()));
    }

    #[test]
    fn the_answer_offers_what_was_offered_in_whole_words() {
        let all = SynOptions { mss: Some(536), window_scale: Some(2), sack_permitted: true, ambiguous: false };
        for (offered, words) in [
            (SynOptions::default(), 1),
            (SynOptions { sack_permitted: false, ..all }, 2),
            (SynOptions { window_scale: None, ..all }, 2),
            (all, 3),
        ] {
            let answer = offered.answer(1_460, 7);
            assert_eq!(answer.len(), 4 * words);
            let read = SynOptions::parse(&answer).expect("they parse");
            let scale = offered.window_scale.map(|_| 7);
            assert_eq!(read, SynOptions { mss: Some(1_460), window_scale: scale, ..offered });
        }
    }

    #[test]
    fn a_length_that_cannot_be_is_refused() {
        for options in
            [&[2][..], &[2, 0], &[9, 1], &[2, 4, 5], &[2, 3, 5], &[2, 5, 1, 1, 1], &[3, 2], &[4, 3, 0], &[9, 9, 0]]
        {
            assert_eq!(SynOptions::parse(options), None, "{options:?}");
        }
    }
}
