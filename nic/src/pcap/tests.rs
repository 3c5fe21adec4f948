use super::*;
use crate::burst::Burst;
use crate::frame::Frame;
use crate::pool::{FramePool, PoolConfig};
use crate::queue::{Queue, QueueId};
use crate::ring::{RingPort, forward};
use crate::wire::{PortConfig, Wire};

const MS: Duration = Duration::from_millis(1);

fn recorder() -> PcapRecorder<Vec<u8>> {
    PcapRecorder::new(Vec::new()).unwrap()
}

fn numbered(number: u8) -> Vec<u8> {
    vec![number; 60 + usize::from(number)]
}

fn capture(numbers: std::ops::Range<u8>) -> Capture {
    let mut capture = Capture::default();
    for number in numbers {
        capture.push(u32::from(number) * MS, &numbered(number));
    }
    capture
}

fn fill(mut frame: Frame, bytes: &[u8]) -> Frame {
    frame.resize(bytes.len()).unwrap();
    frame.bytes_mut().copy_from_slice(bytes);
    frame
}

fn receive(queue: &mut impl Queue) -> Vec<Vec<u8>> {
    let mut burst = Burst::default();
    queue.rx_burst(&mut burst);
    let mut frames = Vec::new();
    while let Some(frame) = burst.pop() {
        frames.push(frame.bytes().to_vec());
        queue.free(frame);
    }
    frames
}

#[test]
fn what_is_recorded_is_read_back_with_its_times() {
    let mut recorder = recorder();
    let mut expected = Capture::default();
    for number in 0..50u8 {
        let at = Duration::new(1_700_000_000 + u64::from(number), 123_456_789);
        recorder.set_time(at);
        recorder.record(&numbered(number));
        expected.push(at, &numbered(number));
    }
    assert_eq!(recorder.frames(), 50);
    let file = recorder.finish().unwrap();
    assert_eq!(Capture::read(&file[..]).unwrap(), expected);
}

#[test]
fn a_replay_receives_what_was_recorded_until_the_time_set() {
    let config = ReplayConfig { pool: PoolConfig { frames: 8, ..PoolConfig::default() }, tx_ring: 4 };
    let mut replay = PcapReplay::new(capture(0..20), recorder(), config).unwrap();
    replay.set_time(2 * MS);
    assert_eq!(receive(&mut replay), [numbered(0), numbered(1), numbered(2)]);
    assert!(receive(&mut replay).is_empty());
    assert_eq!(replay.next_at(), Some(3 * MS));
    replay.set_time(Duration::MAX);
    let rest: Vec<_> = std::iter::from_fn(|| Some(receive(&mut replay)).filter(|frames| !frames.is_empty())).collect();
    assert_eq!(rest.iter().map(Vec::len).collect::<Vec<_>>(), [8, 8, 1], "as many as there are frames");
    assert_eq!(rest.concat(), (3..20).map(numbered).collect::<Vec<_>>());
    assert_eq!((replay.next_at(), replay.stats().rx_frames), (None, 20));
}

#[test]
fn what_is_sent_into_a_replay_is_recorded_at_the_flush() {
    let config = ReplayConfig { pool: PoolConfig { frames: 8, ..PoolConfig::default() }, tx_ring: 2 };
    let mut replay = PcapReplay::new(Capture::default(), recorder(), config).unwrap();
    let mut burst = Burst::default();
    for number in 0..3 {
        burst.push(fill(replay.tx_alloc().unwrap(), &numbered(number))).unwrap();
    }
    replay.set_time(7 * MS);
    assert_eq!(replay.tx_burst(&mut burst), 2);
    assert_eq!((replay.census().tx, replay.census().held), (2, 1));
    replay.flush().unwrap();
    assert_eq!(replay.tx_burst(&mut burst), 1);
    // The last one is not flushed.
    let file = replay.into_sent().finish().unwrap();
    let sent = Capture::read(&file[..]).unwrap();
    assert_eq!(sent.iter().collect::<Vec<_>>(), [(7 * MS, &numbered(0)[..]), (7 * MS, &numbered(1))]);
}

#[test]
fn a_replay_refuses_foreign_frames_and_counts_every_frame_of_its_own() {
    let config = ReplayConfig { pool: PoolConfig { frames: 8, ..PoolConfig::default() }, tx_ring: 4 };
    let mut replay = PcapReplay::new(capture(0..6), recorder(), config).unwrap();
    let mut other = PcapReplay::new(Capture::default(), recorder(), config).unwrap();
    replay.free(other.tx_alloc().unwrap());
    let mut burst = Burst::default();
    assert_eq!(replay.rx_burst(&mut burst), 6);
    burst.push(other.tx_alloc().unwrap()).unwrap();
    burst.push(replay.tx_alloc().unwrap()).unwrap();
    assert_eq!((replay.census().held, replay.census().free), (7, 1));
    assert_eq!(replay.tx_burst(&mut burst), 4);
    replay.flush().unwrap();
    assert_eq!(replay.tx_burst(&mut burst), 3, "two that were received and one that was allocated");
    assert_eq!(replay.stats().foreign_frames, 2);
    replay.flush().unwrap();
    assert_eq!((replay.census().held, replay.census().free), (0, 8));
    assert!(std::iter::from_fn(|| replay.tx_alloc()).count() == 8 && replay.stats().tx_exhausted == 1);
}

#[test]
fn a_tap_records_both_directions_and_only_what_was_taken() {
    let config = PortConfig { rx_ring: 8, tx_ring: 2, frames: 16, ..PortConfig::default() };
    let (_wire, a, b) = Wire::pair(config.clone(), config, 1).unwrap();
    let recorder = SharedRecorder::new(recorder());
    let mut tap = PcapTap::new(a.take_queue(QueueId(0)).unwrap(), recorder.clone());
    let mut far = b.take_queue(QueueId(0)).unwrap();
    let mut burst = Burst::default();
    let foreign = fill(far.tx_alloc().unwrap(), &numbered(99));
    burst.push(fill(tap.tx_alloc().unwrap(), &numbered(0))).unwrap();
    burst.push(foreign).unwrap();
    for number in 1..4 {
        burst.push(fill(tap.tx_alloc().unwrap(), &numbered(number))).unwrap();
    }
    recorder.set_time(MS);
    assert_eq!(tap.tx_burst(&mut burst), 2);
    let left: Vec<_> = burst.iter().map(|frame| frame.bytes().to_vec()).collect();
    assert_eq!(left, [numbered(2), numbered(3)]);
    tap.flush().unwrap();
    let mut echo = Burst::default();
    assert_eq!(far.rx_burst(&mut echo), 2);
    assert_eq!(far.tx_burst(&mut echo), 2);
    far.flush().unwrap();
    recorder.set_time(2 * MS);
    assert_eq!(receive(&mut tap), [numbered(0), numbered(1)]);
    let file = recorder.finish().unwrap().expect("finished once");
    let queue = tap.into_queue();
    assert_eq!(queue.stats().foreign_frames, 1);
    let recorded = Capture::read(&file[..]).unwrap();
    let expected = [(MS, numbered(0)), (MS, numbered(1)), (2 * MS, numbered(0)), (2 * MS, numbered(1))];
    assert!(recorded.iter().eq(expected.iter().map(|(at, frame)| (*at, &frame[..]))), "{recorded:?}");
    assert_eq!(recorded.filtered(|frame| frame[0] == 1).len(), 2);
}

/// A disk that fills up.
struct Full(usize);

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.0.checked_sub(bytes.len()) {
            Some(room) => self.0 = room,
            None => return Err(std::io::Error::other("the disk is full")),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_failing_disk_is_told_at_the_end_and_not_on_the_path() {
    assert!(PcapRecorder::new(Full(3)).is_err());
    let mut recorder = PcapRecorder::new(Full(24 + 3 * 76)).unwrap();
    for _ in 0..5 {
        recorder.record(&numbered(0));
    }
    assert_eq!((recorder.frames(), recorder.unrecorded_frames()), (3, 2));
    let error = recorder.finish().map(|_| ()).unwrap_err();
    assert!(matches!(error, PcapError::Write { frames: 3, .. }), "{error}");
}

#[test]
fn what_is_no_capture_of_ethernet_is_refused() {
    let good = {
        let mut recorder = recorder();
        recorder.record(&numbered(0));
        recorder.finish().unwrap()
    };
    assert!(matches!(Capture::read(&b"no capture at all, but long enough"[..]), Err(PcapError::Read { frame: 0, .. })));
    assert!(matches!(Capture::read(&good[..good.len() - 1]), Err(PcapError::Read { frame: 0, .. })));
    let mut raw_ip = good.clone();
    raw_ip[20] = 101;
    assert!(matches!(Capture::read(&raw_ip[..]), Err(PcapError::LinkType { link_type: 101 })));
    let mut cut = good;
    cut[36] += 9; // The length on the wire, of the first frame.
    assert!(matches!(Capture::read(&cut[..]), Err(PcapError::Cut { frame: 0, kept: 60, len: 69 })));
    let missing = Capture::open(Path::new("/nonexistent/file.pcap")).unwrap_err().to_string();
    assert!(missing.starts_with("/nonexistent/file.pcap: "), "{missing}");
}

/// A capture and a wire of one memory: what was recorded goes out by the wire in the buffers that it was replayed in.
#[test]
fn a_replay_and_a_wire_of_one_memory_forward_by_changing_buffers() {
    let config = PortConfig { rx_ring: 8, tx_ring: 8, frames: 32, ..PortConfig::default() };
    let shape = PoolConfig { frames: config.frames, chunk_bytes: config.chunk_bytes, ..PoolConfig::default() };
    let mut pools = FramePool::over_one_memory(shape, 2).unwrap();
    let (_wire, near, far) = Wire::pair(config.clone(), config, 1).unwrap();
    let mut host = far.take_queue(QueueId(0)).unwrap();
    let mut wire = RingPort::new(near.take_queue_with(QueueId(0), pools.pop().unwrap()).unwrap(), 8);
    let replay = PcapReplay::over(capture(0..20), recorder(), pools.pop().unwrap(), 8);
    let mut replay = RingPort::new(replay, 8);
    let mut arrived = Vec::new();
    for _ in 0..20 {
        replay.rxsync().unwrap();
        forward(replay.rings().0, wire.rings().1, 4).unwrap();
        wire.txsync().unwrap();
        arrived.extend(receive(&mut host));
        host.flush().unwrap();
    }
    assert_eq!(arrived, (0..20).map(numbered).collect::<Vec<_>>());
    assert_eq!((replay.queue().census().total, wire.queue().census().total), (32, 32));
}
