//! A fixed number of places for what is held for others, and how fast each of those is getting on.
//!
//! Whatever a connection can hold for as long as it likes, because its client does not read or does not finish a value,
//! lies in such a place: the bytes of an item that is being read, the room of a value that is being sent. Where these
//! are short, the slowest gives way ([`Table::slowest`]): it is judged by the bytes that have moved over the time that
//! it was held, never by when one moved last. Giving way closes no connection; see `held.rs` and `uploads.rs`.

use crate::lists::Lists;
use crate::pool::Pool;

/// Places looked at for the slowest; those passed over are looked at later than others.
const LOOKED_AT: usize = 16;

#[derive(Debug)]
struct Row<T> {
    thing: T,
    since_secs: u32,
    moved_bytes: u32,
}

/// Bytes per second below which something gets on slowly: what the slowest of networks carry.
const SLOW_BYTES_PER_SEC: u32 = 16 << 10;

/// How fast something is getting on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How long it has been held.
    pub(crate) age_secs: u32,
    /// Bytes that have moved for each second of that.
    pub(crate) bytes_per_sec: u32,
}

impl Pace {
    /// Whether it has had `grace_secs` of time and is slow all the same.
    pub(crate) fn is_slow(&self, grace_secs: u32) -> bool {
        self.age_secs >= grace_secs && self.bytes_per_sec < SLOW_BYTES_PER_SEC
    }

    /// The order in which they give way, the lowest first: those that are slow; those too young to be judged; last
    /// those that get on, so that a client that begins anew all the time takes nothing from them. Within each kind the
    /// slowest comes first.
    fn rank(&self, grace_secs: u32) -> (u8, u32) {
        let kind = match self {
            pace if pace.is_slow(grace_secs) => 0,
            pace if pace.age_secs < grace_secs => 1,
            _ => 2,
        };
        (kind, self.bytes_per_sec)
    }
}

/// Places `0..capacity`, each empty or taken.
#[derive(Debug)]
pub(crate) struct Table<T> {
    places: Pool<Row<T>>,
    /// One list: of those that can give way.
    give_way: Lists,
}

impl<T> Table<T> {
    /// `capacity` empty places.
    pub(crate) fn new(capacity: usize) -> Table<T> {
        Table { places: Pool::new(capacity, 0), give_way: Lists::new(1, capacity) }
    }

    /// Puts `thing` in an empty place; gives it back when there is none. `gives_way`: it can, where such things are
    /// short.
    pub(crate) fn insert(&mut self, thing: T, gives_way: bool, now_secs: u32) -> Result<u32, T> {
        let row = Row { thing, since_secs: now_secs, moved_bytes: 0 };
        let place = self.places.take(row).map_err(|row| row.thing)?;
        if gives_way {
            self.give_way.push_back(0, place);
        }
        Ok(place)
    }

    /// What is at `place`.
    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        self.places.get(place).map(|row| &row.thing)
    }

    /// What is at `place`.
    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.places.get_mut(place).map(|row| &mut row.thing)
    }

    /// Takes what is at `place` out.
    pub(crate) fn remove(&mut self, place: u32) -> Option<T> {
        let row = self.places.give_back(place)?;
        self.give_way.remove(place);
        Some(row.thing)
    }

    /// Puts `thing` in place of what is at `place`, which has given way: it is asked for no more.
    pub(crate) fn give_way(&mut self, place: u32, thing: T) -> Option<T> {
        let row = self.places.get_mut(place)?;
        self.give_way.remove(place);
        Some(std::mem::replace(&mut row.thing, thing))
    }

    /// Notes that `bytes` more bytes of what is at `place` have moved.
    pub(crate) fn note_moved(&mut self, place: u32, bytes: usize) {
        if let Some(place) = self.places.get_mut(place) {
            place.moved_bytes = place.moved_bytes.saturating_add(bytes as u32);
        }
    }

    /// The first to give way of the next few that can, and its pace. Of those that are held for less than `grace_secs`
    /// nothing is known yet.
    pub(crate) fn slowest(&mut self, now_secs: u32, grace_secs: u32) -> Option<(u32, Pace)> {
        let mut slowest: Option<(u32, Pace)> = None;
        let begun = self.give_way.first(0);
        for _ in 0..LOOKED_AT {
            let Some((index, place)) = self.give_way.first(0).and_then(|first| Some((first, self.places.get(first)?)))
            else {
                break;
            };
            let age_secs = now_secs.saturating_sub(place.since_secs);
            let pace = Pace { age_secs, bytes_per_sec: place.moved_bytes / age_secs.max(1) };
            if slowest.is_none_or(|(_, other)| pace.rank(grace_secs) < other.rank(grace_secs)) {
                slowest = Some((index, pace));
            }
            self.give_way.push_back(0, index);
            if self.give_way.first(0) == begun {
                break;
            }
        }
        slowest
    }

    /// Places taken.
    pub(crate) fn len(&self) -> usize {
        self.places.in_use()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slowest_of(table: &mut Table<char>, now_secs: u32) -> Option<char> {
        let (place, _) = table.slowest(now_secs, 3)?;
        table.get(place).copied()
    }

    #[test]
    fn the_slowest_is_judged_by_what_moved_over_the_time_it_was_held() {
        let mut table = Table::new(4);
        let [drips, runs, young] =
            [('d', 0), ('r', 0), ('y', 9)].map(|(name, since)| table.insert(name, true, since).expect("a place"));
        table.note_moved(runs, 100_000);
        // A byte moved just now: that is motion, and no progress.
        table.note_moved(drips, 1);
        assert_eq!(slowest_of(&mut table, 10), Some('d'));
        assert_eq!(table.give_way(drips, 'D'), Some('d'));
        assert_eq!(slowest_of(&mut table, 10), Some('r'), "of the young one nothing is known");
        assert_eq!(slowest_of(&mut table, 12), Some('y'), "it had its time");
        assert_eq!((table.remove(runs), table.remove(young)), (Some('r'), Some('y')));
        assert_eq!(slowest_of(&mut table, 20), None, "who has given way is not asked again");
        assert_eq!((table.get(drips), table.len()), (Some(&'D'), 1));
    }

    #[test]
    fn one_that_begins_anew_all_the_time_takes_nothing_from_one_that_gets_on() {
        let mut table = Table::new(3);
        let [runs, young] = [('r', 0), ('y', 9)].map(|(name, since)| table.insert(name, true, since).expect("a place"));
        table.note_moved(runs, 1_000_000);
        assert_eq!(slowest_of(&mut table, 10), Some('y'), "it has moved nothing, if for a second");
        assert_eq!(table.remove(young), Some('y'));
        assert_eq!(slowest_of(&mut table, 10), Some('r'), "there is no other");
    }

    #[test]
    fn whoever_is_slowest_is_found_however_many_there_are() {
        let mut table = Table::new(100);
        let places: Vec<u32> = (0..100).map(|_| table.insert('f', true, 0).expect("a place")).collect();
        assert_eq!(table.insert('x', true, 0), Err('x'));
        places.iter().for_each(|&place| table.note_moved(place, 1_000_000));
        *table.get_mut(places[77]).expect("it is there") = 's';
        table.remove(places[77]);
        let slow = table.insert('s', true, 0).expect("a place");
        assert!((0..7).any(|_| table.slowest(10, 3).is_some_and(|(place, _)| place == slow)));
    }

    #[test]
    fn of_those_that_are_slow_the_slower_gives_way_and_of_equals_the_one_held_longest() {
        let mut table = Table::new(4);
        for (name, bytes) in [('a', 90), ('b', 20), ('c', 20), ('d', 40)] {
            let place = table.insert(name, true, 0).expect("a place");
            table.note_moved(place, bytes);
        }
        assert_eq!(slowest_of(&mut table, 10), Some('b'));
    }

    /// One that moves just as fast as is not slow, and one that has been there just as long as is its time.
    #[test]
    fn who_has_had_its_time_is_slow_below_the_bound_and_not_at_it() {
        let pace = |age_secs, bytes_per_sec| Pace { age_secs, bytes_per_sec };
        assert!(pace(3, SLOW_BYTES_PER_SEC - 1).is_slow(3) && !pace(3, SLOW_BYTES_PER_SEC).is_slow(3));
        assert!(!pace(2, 0).is_slow(3), "it has not had its time");
        // In this order they give way.
        let order =
            [pace(3, 0), pace(3, 9), pace(2, 0), pace(2, u32::MAX), pace(3, SLOW_BYTES_PER_SEC), pace(3, u32::MAX)];
        assert!(order.is_sorted_by(|one, other| one.rank(3) < other.rank(3)), "{order:?}");
    }
}
