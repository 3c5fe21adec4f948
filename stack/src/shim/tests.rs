use std::time::Duration;

use super::*;
use crate::block::maker;
use crate::classify::{Class, Local};
use crate::clock::Time;
use crate::link::{LinkHeader, Mac};
use crate::rewrite::{fit, raise_ack};
use crate::rings::Rings;
use crate::time_wait::TimeWaitTable;

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A flow that has received up to 1,000, was told a window of 500, and has sent up to 2,000 of which 1,900 are
/// acknowledged.
fn block() -> &'static mut FlowBlock {
    let mut blocks = Vec::new();
    maker(Rings::DEFAULT).expect("the default")(1, &mut blocks);
    let block = blocks.pop().expect("one was made");
    block.rcv_base = 1_000;
    block.last_ack = 1_000;
    block.edge = 1_500;
    block.ring_edge = 1_500;
    block.snd_nxt = 2_000;
    block.highest_ack = 1_900;
    block.peer_window = 77;
    block
}

fn frame(seq: u32, ack: u32, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], OWN)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(5, 80, seq, 333);
    if flags & ACK != 0 {
        builder = builder.ack(ack);
    }
    if flags & RST != 0 {
        builder = builder.rst();
    }
    if flags & SYN != 0 {
        builder = builder.syn();
    }
    if flags & FIN != 0 {
        builder = builder.fin();
    }
    let mut frame = Vec::new();
    builder.write(&mut frame, data).expect("written to memory");
    frame
}

fn segment(frame: &[u8]) -> Segment {
    match Local::new([10, 0, 0, 2].into(), 24, Mac(OWN)).classify(frame) {
        Class::Tcp(segment) => segment,
        other => panic!("{other:?}"),
    }
}

fn judged(seq: u32, flags: u8, half_open: bool) -> Verdict {
    judge(block(), &segment(&frame(seq, 0, flags, b"")), half_open)
}

#[test]
fn only_an_exact_rst_resets() {
    assert_eq!(judged(1_000, RST, false), Verdict::Reset);
    assert_eq!(judged(1_001, RST, false), Verdict::Challenge(DropReason::RstNotExact));
    assert_eq!(judged(1_499, RST | ACK, false), Verdict::Challenge(DropReason::RstNotExact));
    assert_eq!(judged(1_500, RST, false), Verdict::Drop(DropReason::RstNotExact));
    assert_eq!(judged(999, RST, false), Verdict::Drop(DropReason::RstNotExact));
}

#[test]
fn a_syn_is_challenged_unless_it_is_the_first_one_again() {
    assert_eq!(judged(999, SYN, true), Verdict::Drop(DropReason::SynRepeated));
    assert_eq!(judged(998, SYN, true), Verdict::Challenge(DropReason::SynOnLiveFlow));
    assert_eq!(judged(999, SYN, false), Verdict::Challenge(DropReason::SynOnLiveFlow));
    for half_open in [false, true] {
        assert_eq!(judged(999, SYN | ACK, half_open), Verdict::Challenge(DropReason::SynRepeated));
        assert_eq!(judged(998, SYN | ACK, half_open), Verdict::Challenge(DropReason::SynOnLiveFlow));
    }
}

#[test]
fn the_first_check_is_that_of_table_6() {
    use Verdict::{Acceptable, AcceptableInPart, Acknowledge, BehindHole, Challenge, KeepAlive};
    let (old, beyond) = (DropReason::SeqRepeated, DropReason::SeqBeyondWindow);
    // 500 bytes from 1,000 on may come; (seq, bytes, flags).
    for (seq, len, flags, wanted) in [
        (1_000, 0, ACK, Acceptable),
        (1_000, 500, ACK | FIN, Acceptable),
        (1_000, 501, ACK, AcceptableInPart),
        (999, 0, ACK, KeepAlive),
        (998, 0, ACK, Challenge(old)),
        (999, 0, ACK | FIN, Acknowledge(old)),
        (990, 10, ACK, Acknowledge(old)),
        (990, 10, ACK | FIN, AcceptableInPart),
        (990, 11, ACK, Acceptable),
        (990, 600, ACK, AcceptableInPart),
        (1_001, 0, ACK, Acceptable),
        (1_499, 1, ACK, BehindHole),
        (1_499, 2, ACK, AcceptableInPart),
        (1_500, 0, ACK, AcceptableInPart),
        (1_500, 1, ACK, AcceptableInPart),
        (1_501, 0, ACK, Challenge(beyond)),
        (1_501, 1, ACK, Acknowledge(beyond)),
        (1_000 + (1 << 31), 0, ACK, Challenge(old)),
        (999 + (1 << 31), 1_000, ACK, Acknowledge(beyond)),
    ] {
        let segment = segment(&frame(seq, 1_900, flags, &vec![0; len]));
        assert_eq!(judge(block(), &segment, false), wanted, "{seq} {len} {flags}");
    }
}

#[test]
fn nothing_is_acceptable_in_a_closed_window_but_what_takes_no_room() {
    let block = block();
    block.edge = 1_000;
    block.ring_edge = 1_000;
    for (seq, len, flags, wanted) in [
        (1_000, 0, ACK, Verdict::Acceptable),
        (1_000, 0, ACK | FIN, Verdict::Acceptable),
        (1_000, 1, ACK, Verdict::AcceptableInPart),
        (999, 0, ACK, Verdict::KeepAlive),
        (1_001, 0, ACK, Verdict::Challenge(DropReason::SeqBeyondWindow)),
    ] {
        let segment = segment(&frame(seq, 1_900, flags, &vec![0; len]));
        assert_eq!(judge(block, &segment, false), wanted, "{seq} {len} {flags}");
    }
}

#[test]
fn an_ack_number_is_of_what_was_sent_and_not_older_than_the_largest_window() {
    for (ack, acceptable) in [
        (1_900, true),
        (2_000, true),
        (2_001, false),
        (1_900u32.wrapping_sub(65_535), true),
        (1_900u32.wrapping_sub(65_536), false),
        (1_900 + (1 << 31), false),
    ] {
        let verdict = judge(block(), &segment(&frame(1_000, ack, ACK, b"data")), false);
        let wanted = if acceptable { Verdict::Acceptable } else { Verdict::Challenge(DropReason::AckOutOfRange) };
        assert_eq!(verdict, wanted, "{ack}");
    }
}

#[test]
fn the_few_comparisons_let_nothing_pass_that_the_checks_do_not() {
    let block = block();
    let mut acceptable = 0;
    for case in 0..2 * 2 * 3 * 3 {
        let (half_open, ended) = (case % 2 == 1, case / 2 % 2 == 1);
        block.marks.set(Marks::FIN_RECEIVED, ended);
        block.edge = 1_000 + [0, 1, 500][case / 4 % 3];
        block.ring_edge = block.edge;
        block.highest_ack = 2_000 - [0, 1, 100][case / 12];
        let rcv_nxt = block.rcv_nxt();
        for flags in [ACK, ACK | FIN, ACK | SYN, ACK | RST] {
            for (seq, len) in [(0, 0), (0, 1), (0, 500), (0, 501), (1, 0), (1, 1), (u32::MAX, 0), (u32::MAX, 1)] {
                for ack in [0, 1_899, 1_900, 1_999, 2_000, 2_001, 1 << 31] {
                    let segment = segment(&frame(rcv_nxt.wrapping_add(seq), ack, flags, &vec![0; len]));
                    let verdict = judge(block, &segment, half_open);
                    assert_eq!(verdict, judge_check_by_check(block, &segment, half_open), "{case} {segment:?}");
                    acceptable += u32::from(verdict == Verdict::Acceptable);
                }
            }
        }
    }
    assert!(acceptable > 0);
}

#[test]
fn a_handshake_ends_by_the_ack_of_our_syn_alone() {
    let block = block();
    block.highest_ack = 1_999;
    for (seq, ack, wanted) in [
        (1_000, 2_000, Verdict::Acceptable),
        (1_000, 1_999, Verdict::Refuse(DropReason::AckOfNoSyn)),
        (1_000, 2_001, Verdict::Refuse(DropReason::AckOfNoSyn)),
        (7_000, 2_000, Verdict::Challenge(DropReason::SeqBeyondWindow)),
    ] {
        assert_eq!(judge(block, &segment(&frame(seq, ack, ACK, b"x")), true), wanted, "{seq} {ack}");
    }
}

/// What is judged by a record is judged as by the block that would hold the same numbers.
#[test]
fn a_record_judges_as_a_half_open_block_does() {
    let block = block();
    block.highest_ack = 1_999;
    let record = crate::syn_queue::HalfOpen::new(
        Time::ZERO,
        &crate::syn_queue::Syn {
            key: block.key,
            isn: 1_999,
            rcv_nxt: 1_000,
            port: 0,
            peer_window: 77,
            window: 500,
            options: crate::options::SynOptions::default(),
            link: LinkHeader::EMPTY,
        },
    );
    use Verdict::{Acceptable, AcceptableInPart, BehindHole, BeyondRing};
    let opens = |verdict| matches!(verdict, Acceptable | AcceptableInPart | BehindHole | BeyondRing);
    let mut opening = 0;
    for flags in [ACK, ACK | FIN, ACK | SYN, ACK | RST, RST, SYN] {
        for start in [0, 1, 2, 499, 500, 501, 1 << 31, u32::MAX - 10, u32::MAX - 1, u32::MAX] {
            for len in [0, 1, 10, 11, 500, 501] {
                for ack in [0, 1_999, 2_000, 2_001, 1 << 31] {
                    let segment = segment(&frame(1_000u32.wrapping_add(start), ack, flags, &vec![0; len]));
                    let (by_record, by_block) = (judge_half_open(&record, &segment), judge(block, &segment, true));
                    let same = by_record == by_block || opens(by_record) && opens(by_block);
                    assert!(same, "{by_record:?}, {by_block:?}: {segment:?}");
                    opening += u32::from(opens(by_record));
                }
            }
        }
    }
    assert!(opening > 0);
}

#[test]
fn in_syn_sent_only_what_acknowledges_our_syn_says_something() {
    use InSynSent::{Crossing, Drop, Refuse, Refused, SynAck};
    let block = block();
    // Our SYN is 1,999.
    block.highest_ack = 1_999;
    for (ack, flags, wanted) in [
        (2_000, SYN | ACK, SynAck),
        (1_999, SYN | ACK, Refuse),
        (2_001, SYN | ACK, Refuse),
        (2_001, ACK, Refuse),
        (2_000, ACK, Drop(DropReason::NotSynAck)),
        (2_000, ACK | FIN, Drop(DropReason::NotSynAck)),
        (2_000, RST | ACK, Refused),
        (2_001, RST | ACK, Drop(DropReason::RstNotExact)),
        (0, RST, Drop(DropReason::RstNotExact)),
        (0, SYN, Crossing),
    ] {
        let verdict = judge_in_syn_sent(block, &segment(&frame(77, ack, flags, b"")));
        assert_eq!(verdict, wanted, "{ack} {flags}");
    }
    // Nothing acknowledges a SYN that has not left.
    block.snd_nxt = 1_999;
    assert_eq!(judge_in_syn_sent(block, &segment(&frame(77, 1_999, SYN | ACK, b""))), Refuse);
    assert_eq!(judge_in_syn_sent(block, &segment(&frame(77, 1_999, RST | ACK, b""))), Drop(DropReason::RstNotExact));
}

#[test]
fn an_ack_is_noted_with_its_window_unless_an_older_one() {
    let block = block();
    assert!(!note(block, &segment(&frame(1_000, 1_800, ACK, b""))));
    assert_eq!((block.highest_ack, block.peer_window), (1_900, 77));
    assert!(note(block, &segment(&frame(1_000, 1_800, ACK, b"data"))), "smoltcp would drop it");
    assert!(note(block, &segment(&frame(1_000, 1_800, ACK | FIN, b""))), "smoltcp would drop it");
    assert!(!note(block, &segment(&frame(1_000, 1_950, ACK, b""))));
    assert_eq!((block.highest_ack, block.peer_window), (1_950, 333));
    // The same ACK number again is no older one: the window may have opened.
    block.peer_window = 0;
    assert!(!note(block, &segment(&frame(1_000, 1_950, ACK, b"data"))));
    assert_eq!((block.highest_ack, block.peer_window), (1_950, 333));
}

#[test]
fn the_window_of_an_older_segment_is_not_noted_unless_it_acknowledges_more() {
    let block = block();
    (block.window_seq, block.highest_ack) = (1_100, 1_950);
    assert!(note(block, &segment(&frame(1_000, 1_950, ACK, b"data"))));
    assert_eq!((block.peer_window, block.window_seq), (77, 1_100));
    assert!(!note(block, &segment(&frame(1_000, 1_951, ACK, b"data"))));
    assert_eq!((block.peer_window, block.window_seq, block.highest_ack), (333, 1_000, 1_951));
}

#[test]
fn data_behind_an_old_ack_gets_the_newest_and_a_right_checksum() {
    let mut bytes = frame(1_000, 1_800, ACK, b"data");
    raise_ack(block(), &segment(&bytes.clone()), &mut bytes);
    // `segment` verifies the checksum.
    let new = segment(&bytes);
    assert_eq!((new.ack, new.window, new.seq), (1_900, 77, 1_000));
}

#[test]
fn what_is_fitted_is_what_smoltcp_can_take() {
    // (seq, bytes, FIN) -> (seq, bytes, FIN), 500 bytes from 1,000 on being the window.
    for ((seq, len, fin), wanted) in [
        ((1_400, 200, true), (1_400, 100, false)),
        ((990, 600, true), (990, 510, false)),
        ((990, 10, true), (1_000, 0, true)),
        ((1_500, 0, false), (1_000, 0, false)),
        ((1_500, 0, true), (1_000, 0, false)),
        ((1_500, 7, true), (1_000, 0, false)),
    ] {
        let mut bytes = frame(seq, 1_950, if fin { ACK | FIN } else { ACK }, &vec![b'x'; len]);
        let fitted = fit(block(), &segment(&bytes.clone()), &mut bytes);
        assert_eq!((fitted.seq, usize::from(fitted.payload_len), fitted.has(FIN)), wanted, "{seq} {len}");
        let packet = &bytes[14..14 + usize::from(fitted.packet_len)];
        let read = etherparse::SlicedPacket::from_ip(packet).expect("its lengths are right");
        let Some(etherparse::TransportSlice::Tcp(tcp)) = read.transport else { panic!("no TCP") };
        assert_eq!((tcp.sequence_number(), tcp.payload().len(), tcp.fin()), wanted, "{seq} {len}");
        assert_eq!((tcp.acknowledgment_number(), tcp.window_size()), (1_950, 333));
    }
}

#[test]
fn a_fin_behind_data_sent_again_counts_though_the_window_is_closed() {
    let block = block();
    block.edge = 1_000;
    block.ring_edge = 1_000;
    let mut bytes = frame(990, 1_950, ACK | FIN, &[b'x'; 10]);
    let segment = segment(&bytes.clone());
    assert_eq!(judge(block, &segment, false), Verdict::AcceptableInPart);
    let fitted = fit(block, &segment, &mut bytes);
    assert_eq!((fitted.seq, fitted.payload_len, fitted.has(FIN)), (1_000, 0, true));
}

#[test]
fn a_record_in_time_wait_yields_restarts_and_answers_for_nothing_but_what_may_ask_it() {
    use InTimeWait::{Acknowledge, Ask, Begin, FinAgain, Ignore, Yield};
    // It has sent up to 2,000, and received up to 1,000, the FIN being 999.
    let key = segment(&frame(1_000, 2_000, ACK, b"")).key;
    let mut table = TimeWaitTable::new(1, Duration::from_secs(1));
    table.insert(Time::ZERO, key, 7, (2_000, 1_000), LinkHeader::EMPTY);
    let number = table.find(7, &key).expect("just made");
    for (claim, seq, ack, flags, len, wanted) in [
        (Claim::None, 1_000, 0, RST, 0, Ignore),
        (Claim::Asked, 1_000, 0, RST, 0, Yield),
        (Claim::Asked, 1_001, 0, RST, 0, Ignore),
        (Claim::Granted, 1_000, 0, RST, 0, Ignore),
        (Claim::None, 1_000, 0, SYN, 0, Begin),
        (Claim::None, 999, 0, SYN, 0, Ask),
        (Claim::Asked, 999, 0, SYN, 0, Ask),
        (Claim::Granted, 999, 0, SYN, 0, Begin),
        (Claim::Granted, 1_000, 2_000, SYN | ACK, 0, Acknowledge),
        (Claim::None, 999, 2_000, ACK | FIN, 0, FinAgain),
        (Claim::None, 989, 2_000, ACK | FIN, 10, FinAgain),
        (Claim::None, 999, 2_000 - 65_535_i64, ACK | FIN, 0, FinAgain),
        (Claim::None, 999, 2_000 - 65_536, ACK | FIN, 0, Acknowledge),
        (Claim::None, 999, 2_001, ACK | FIN, 0, Acknowledge),
        (Claim::None, 998, 2_000, ACK | FIN, 0, Acknowledge),
        (Claim::None, 999, 2_000, ACK, 1, Acknowledge),
        (Claim::None, 1_000, 2_000, ACK, 0, Ignore),
        (Claim::None, 1_000, 2_001, ACK, 0, Acknowledge),
        (Claim::None, 1_000, 2_000, ACK, 1, Acknowledge),
        (Claim::None, 999, 2_000, ACK, 0, Acknowledge),
    ] {
        table.set_claim(number, claim);
        let segment = segment(&frame(seq, ack as u32, flags, &vec![0; len]));
        let verdict = judge_in_time_wait(table.record(number), &segment);
        assert_eq!(verdict, wanted, "{claim:?} {seq} {ack} {flags} {len}");
    }
}
