use etherparse::checksum::Sum16BitWords;

use super::*;

fn injector(faults: Faults, seed: u64) -> Injector {
    faults.check().unwrap();
    Injector::new(faults, seed)
}

/// Ones-complement sum of 16-bit words (RFC 1071).
fn sum(parts: &[&[u8]]) -> u16 {
    let sum = parts.iter().fold(Sum16BitWords::new(), |sum, part| sum.add_slice(part));
    !sum.ones_complement().to_be()
}

/// A frame of `protocol` over IPv4 with right checksums and a random payload.
fn ipv4_frame(random: &mut Xoshiro256PlusPlus, protocol: u8, tagged: bool, payload: usize) -> Vec<u8> {
    let mut frame = vec![2; 12];
    if tagged {
        frame.extend([0x81, 0, 0, 5]);
    }
    frame.extend([8, 0]);
    let ip = frame.len();
    let (header, checksum) = match protocol {
        6 => (20, 16),
        17 => (8, 6),
        _ => (8, 2),
    };
    let total = 20 + header + payload;
    frame.extend([0x45, 0]);
    frame.extend((total as u16).to_be_bytes());
    frame.extend([0, 7, 0x40, 0, 64, protocol, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2]);
    let ip_sum = !sum(&[&frame[ip..ip + 20]]);
    frame[ip + 10..ip + 12].copy_from_slice(&ip_sum.to_be_bytes());
    let body = frame.len();
    frame.resize(body + header + payload, 0);
    random.fill_bytes(&mut frame[body..]);
    if protocol == 17 {
        let length = (header + payload) as u16;
        frame[body + 4..body + 6].copy_from_slice(&length.to_be_bytes());
    }
    frame[body + checksum..body + checksum + 2].fill(0);
    let mut value = !transport_sum(&frame, ip);
    if protocol == 17 && value == 0 {
        value = 0xffff;
    }
    frame[body + checksum..body + checksum + 2].copy_from_slice(&value.to_be_bytes());
    frame
}

fn transport_sum(frame: &[u8], ip: usize) -> u16 {
    let body = &frame[ip + 20..];
    let pseudo = [0, frame[ip + 9], (body.len() >> 8) as u8, body.len() as u8];
    match frame[ip + 9] {
        1 => sum(&[body]),
        _ => sum(&[&frame[ip + 12..ip + 20], &pseudo, body]),
    }
}

/// Whether a receiver that verifies both checksums takes the frame.
fn accepted(frame: &[u8], ip: usize) -> bool {
    if sum(&[&frame[ip..ip + 20]]) != 0xffff {
        return false;
    }
    let unchecked = frame[ip + 9] == 17 && frame[ip + 26..ip + 28] == [0, 0];
    unchecked || transport_sum(frame, ip) == 0xffff
}

#[test]
fn every_burst_of_flipped_bits_is_detected_by_a_checksum() {
    let seed = 11;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let faults = Faults { corrupt: Some(Corrupt { probability: 1.0, bits: CORRUPT_BITS_MAX }), ..Faults::default() };
    let mut injector = injector(faults, seed);
    let mut corrupted = 0;
    for round in 0..60_000 {
        let protocol = [6, 17, 1][round % 3];
        let tagged = round % 5 == 0;
        let frame = ipv4_frame(&mut random, protocol, tagged, round % 61);
        let ip = if tagged { 18 } else { 14 };
        assert!(accepted(&frame, ip), "seed {seed} round {round}: the frame was wrong before");
        let mut hit = frame.clone();
        let verdict = injector.draw(Duration::ZERO, &mut hit);
        match verdict.corrupted {
            Some((first, span)) => {
                corrupted += 1;
                assert!(!accepted(&hit, ip), "seed {seed} round {round}: bits {first}+{span} went unnoticed");
                let flipped: Vec<usize> = (0..frame.len() * 8)
                    .filter(|bit| (frame[bit / 8] ^ hit[bit / 8]) & (0x80 >> (bit % 8)) != 0)
                    .collect();
                assert_eq!(flipped.first(), Some(&first));
                assert_eq!(flipped.last(), Some(&(first + usize::from(span) - 1)));
                assert!(span <= CORRUPT_BITS_MAX);
            }
            None => {
                assert_eq!(verdict.fate, Fate::CorruptDropped);
                assert_eq!(hit, frame, "a frame that is dropped is left as it was");
            }
        }
    }
    assert!(corrupted > 55_000, "{corrupted}");
}

#[test]
fn a_frame_without_a_checksum_is_lost_instead_of_corrupted() {
    let faults = Faults { corrupt: Some(Corrupt { probability: 1.0, bits: 3 }), ..Faults::default() };
    let mut injector = injector(faults, 1);
    let mut arp = [0x11; 42];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    for len in 0..=arp.len() {
        let mut frame = arp[..len].to_vec();
        assert_eq!(injector.draw(Duration::ZERO, &mut frame).fate, Fate::CorruptDropped);
        assert_eq!(frame, arp[..len]);
    }
}

#[test]
fn frequencies_are_those_asked_for() {
    let faults = Faults { loss: 0.05, duplicate: 0.02, ..Faults::default() };
    let mut injector = injector(faults, 42);
    let (mut lost, mut duplicated) = (0u32, 0u32);
    for _ in 0..100_000 {
        let verdict = injector.draw(Duration::ZERO, &mut [0; 60]);
        lost += u32::from(verdict.fate == Fate::Lost);
        duplicated += u32::from(verdict.duplicated);
    }
    assert!((4_700..5_300).contains(&lost), "{lost}");
    assert!((1_700..2_100).contains(&duplicated), "{duplicated}");
}

#[test]
fn losses_come_in_bursts_of_the_length_asked_for() {
    let burst = BurstLoss { enter: 0.01, leave: 0.1, loss: 1.0 };
    let mut injector = injector(Faults { burst_loss: Some(burst), ..Faults::default() }, 7);
    let fates: Vec<bool> =
        (0..100_000).map(|_| injector.draw(Duration::ZERO, &mut [0; 60]).fate == Fate::BurstLost).collect();
    let lost = fates.iter().filter(|&&lost| lost).count();
    let bursts = fates.windows(2).filter(|pair| !pair[0] && pair[1]).count();
    let mean = lost as f64 / bursts as f64;
    assert!((8.5..11.5).contains(&mean), "{lost} losses in {bursts} bursts");
}

#[test]
fn the_rate_limit_spaces_frames_and_drops_what_finds_its_queue_full() {
    // 1000 bytes take 1 ms.
    let rate = RateLimit { bits_per_second: 8_000_000, queue_bytes: 2_500 };
    let mut injector = injector(Faults { rate: Some(rate), ..Faults::default() }, 1);
    let mut send = |at| {
        let verdict = injector.draw(Duration::from_millis(at), &mut [0; 1000]);
        (verdict.fate == Fate::Passed).then_some(verdict.due.as_millis())
    };
    assert_eq!([send(0), send(0), send(0), send(0)], [Some(1), Some(2), Some(3), None]);
    assert_eq!([send(2), send(10)], [Some(4), Some(11)]);
}

#[test]
fn a_blackhole_swallows_what_is_sent_within_it() {
    let window = Duration::from_millis(10)..Duration::from_millis(20);
    let mut injector = injector(Faults { blackholes: vec![window], ..Faults::default() }, 1);
    let passed: Vec<bool> =
        [9, 10, 19, 20].map(|at| injector.draw(Duration::from_millis(at), &mut [0; 60]).fate == Fate::Passed).to_vec();
    assert_eq!(passed, [true, false, false, true]);
}

#[test]
fn a_fault_out_of_range_is_refused_with_its_range() {
    let bad = |faults: Faults| faults.check().unwrap_err().to_string();
    let message = bad(Faults { loss: 1.5, ..Faults::default() });
    assert_eq!(message, "loss: 1.5 is no probability; it must be from 0 to 1");
    assert!(Faults { duplicate: f64::NAN, ..Faults::default() }.check().is_err());
    let corrupt = Some(Corrupt { probability: 0.1, bits: 16 });
    let message = bad(Faults { corrupt, ..Faults::default() });
    assert_eq!(message, "corrupt.bits: 16 is out of range; it must be from 1 to 15");
    let reorder = Some(Reorder { probability: 0.1, depth: 0, hold: Duration::ZERO });
    assert!(Faults { reorder, ..Faults::default() }.check().is_err());
    let rate = Some(RateLimit { bits_per_second: 0, queue_bytes: 0 });
    assert!(Faults { rate, ..Faults::default() }.check().is_err());
}
