use super::*;
use crate::key::KeyHasher;
use crate::store::header::{Fields, Header, Layout};
use crate::store::segment::SegmentState;

/// Segments 0, 1 and 63 are the index's; the others hold 128 items of four-byte keys each.
struct Bed {
    memory: Memory,
    segments: Segments,
    index: Index,
    hasher: KeyHasher,
}

const PER_SEGMENT: u32 = 128;

impl Bed {
    fn new() -> Bed {
        let memory = Memory::new(64, 12).unwrap();
        let mut segments = Segments::new(64, 2047);
        (0..64).for_each(|segment| segments.switch_on(segment));
        [0, 1, 63].iter().for_each(|&segment| segments.take(segment, SegmentState::Index));
        (2..63).for_each(|segment| segments.take(segment, SegmentState::Sealed));
        let mut index = Index::new(&[0], 1, 4096, 64);
        index.add_overflow_page(63);
        Bed { memory, segments, index, hasher: KeyHasher::new([4; 16]) }
    }

    fn place(&self, n: u32) -> ItemRef {
        let segment = 2 + n / PER_SEGMENT;
        ItemRef { segment, offset: n % PER_SEGMENT * 32, generation: self.segments.generation(segment) }
    }

    fn insert(&mut self, n: u32) -> bool {
        let (at, key) = (self.place(n), n.to_le_bytes());
        let layout = Layout::new(4, 0, &Fields::NONE, false);
        let address = self.memory.at(at);
        Header { layout, key: self.hasher.key(&key), fields: Fields::NONE }.write(&mut self.memory, address);
        self.index.insert(&mut self.memory, &self.segments, self.hasher.hash(&key), at)
    }

    fn find(&mut self, n: u32) -> Option<ItemRef> {
        let key = n.to_le_bytes();
        self.index.find(&self.memory, &self.segments, self.hasher.key(&key)).map(|found| found.at)
    }

    fn sweep_all(&mut self) {
        let ended = self.index.sweeps_ended();
        while self.index.sweeps_ended() == ended {
            self.index.sweep(&mut self.memory, &self.segments);
        }
    }
}

#[test]
fn items_are_found_through_overflow_splits_and_sweeps() {
    let mut bed = Bed::new();
    let count = 900;
    assert!((0..count).all(|n| bed.insert(n)), "14 for each of 64 buckets");
    assert!((0..count).all(|n| bed.find(n) == Some(bed.place(n))));
    assert!(bed.index.overflow.carved > 60, "most buckets need a second line");
    let mut page = 40;
    while bed.index.wants_split(u64::from(count)) {
        if bed.index.needs_page() {
            bed.index.add_page(page);
            page += 1;
        }
        bed.index.split(&mut bed.memory, &bed.segments);
        let n = bed.index.buckets() % count;
        assert_eq!(bed.find(n), Some(bed.place(n)));
    }
    assert_eq!(bed.index.buckets(), 139);
    bed.sweep_all();
    assert!((0..count).all(|n| bed.find(n) == Some(bed.place(n))));
    assert_eq!(bed.find(count), None);
    let in_use = bed.index.overflow.carved - bed.index.overflow.free_len;
    assert!(in_use < 60, "{in_use} overflow lines after the splits");
}

#[test]
fn giving_up_a_segment_loses_its_items_and_no_other() {
    let mut bed = Bed::new();
    (0..900).for_each(|n| assert!(bed.insert(n)));
    bed.segments.give_up(3, 0);
    bed.index.note_stale(PER_SEGMENT);
    let of_3 = PER_SEGMENT..2 * PER_SEGMENT;
    assert!((0..900).all(|n| bed.find(n).is_none() == of_3.contains(&n)));
    bed.segments.take(3, SegmentState::Sealed);
    assert!(of_3.clone().all(|n| bed.find(n).is_none()), "nor does taking it into use bring them back");
    (128..140).for_each(|n| assert!(bed.insert(n)));
    bed.sweep_all();
    assert_eq!(bed.index.stale(), 0);
    assert!((0..900).all(|n| bed.find(n).is_none() == (140..256).contains(&n)));
}

#[test]
fn a_key_is_found_behind_others_with_its_tag() {
    let mut bed = Bed::new();
    let hash = bed.hasher.hash(&0u32.to_le_bytes());
    // Two items of other keys under the hash of this one; the second is then given up.
    for other in [1, PER_SEGMENT] {
        let place = bed.place(other);
        assert!(bed.insert(other) && bed.index.insert(&mut bed.memory, &bed.segments, hash, place));
    }
    bed.segments.give_up(3, 0);
    assert_eq!(bed.find(0), None);
    assert!(bed.insert(0));
    assert_eq!(bed.find(0), Some(bed.place(0)));
}

#[test]
fn a_full_chain_names_a_victim() {
    let mut bed = Bed::new();
    let same: Vec<u32> = (0..u32::MAX)
        .filter(|n| bed.hasher.hash(&n.to_le_bytes()).home_bits() & 63 == 5)
        .take(CHAIN_SLOTS_MAX + 1)
        .collect();
    let at = |bed: &Bed, n: usize| bed.place(n as u32);
    for (n, key) in same.iter().enumerate() {
        let hash = bed.hasher.hash(&key.to_le_bytes());
        let place = at(&bed, n);
        assert_eq!(bed.index.insert(&mut bed.memory, &bed.segments, hash, place), n < CHAIN_SLOTS_MAX);
    }
    let hash = bed.hasher.hash(&same[0].to_le_bytes());
    assert!(bed.index.victim(&bed.memory, &bed.segments, hash).is_some());
}

#[test]
fn slots_hold_what_was_put_in() {
    let at = ItemRef { segment: (1 << SEGMENT_BITS) - 1, offset: (1 << OFFSET_BITS) - 1, generation: 2047 };
    assert_eq!((Slot::new(0xffff, at).at(), Slot::new(0xabcd, at).tag()), (at, 0xabcd));
    let least = ItemRef { segment: 0, offset: 0, generation: 1 };
    assert_eq!((Slot::new(0, least).at(), Slot::new(0, least).as_link()), (least, None));
    assert_eq!((Slot::link(0).as_link(), Slot::link(u32::MAX).as_link()), (Some(0), Some(u32::MAX)));
    assert_eq!(Slot::EMPTY.as_link(), None);
}
