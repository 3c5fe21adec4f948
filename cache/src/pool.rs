//! `Pool`: numbered places, each empty or taken, for what a core holds for others.
//!
//! Nothing is allocated after start. The memory of a place is touched when all before it are taken, but for those that
//! are usually enough, which is there from the start.

use std::ops::{Index, IndexMut};

/// Places `0..capacity`, of which any may be given back; who comes next gets the one given back last.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
    capacity: usize,
}

impl<T> Pool<T> {
    /// `capacity` empty places; the memory of the first `ready` is there.
    pub(crate) fn new(capacity: usize, ready: usize) -> Pool<T> {
        let (mut places, mut free) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        let ready = ready.min(capacity);
        places.resize_with(ready, || None);
        free.extend((0..ready as u32).rev());
        Pool { places, free, capacity }
    }

    /// Puts `thing` in an empty place.
    ///
    /// # Errors
    /// `thing` again, when there is none.
    pub(crate) fn take(&mut self, thing: T) -> Result<u32, T> {
        match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = Some(thing);
                Ok(place)
            }
            None if self.places.len() < self.capacity => {
                self.places.push(Some(thing));
                Ok(self.places.len() as u32 - 1)
            }
            None => Err(thing),
        }
    }

    /// Takes out what is at `place`, which is empty then.
    pub(crate) fn give_back(&mut self, place: u32) -> Option<T> {
        let thing = self.places.get_mut(place as usize)?.take();
        debug_assert!(thing.is_some(), "a place is given back twice");
        if thing.is_some() {
            self.free.push(place);
        }
        thing
    }

    /// What is at `place`.
    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        self.places.get(place as usize)?.as_ref()
    }

    /// What is at `place`.
    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.places.get_mut(place as usize)?.as_mut()
    }

    /// Places taken.
    pub(crate) fn in_use(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Places to be had.
    pub(crate) fn available(&self) -> usize {
        self.capacity - self.in_use()
    }
}

/// Of a place that is taken.
impl<T> Index<u32> for Pool<T> {
    type Output = T;

    #[inline]
    fn index(&self, place: u32) -> &T {
        self.get(place).expect("the place is taken")
    }
}

impl<T> IndexMut<u32> for Pool<T> {
    #[inline]
    fn index_mut(&mut self, place: u32) -> &mut T {
        self.get_mut(place).expect("the place is taken")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_up_to_the_last_and_the_one_given_back_last_is_taken_first() {
        let mut pool = Pool::new(3, 2);
        assert_eq!([0, 1, 2].map(|_| pool.take('a')), [Ok(0), Ok(1), Ok(2)]);
        assert_eq!((pool.take('b'), pool.in_use(), pool.available()), (Err('b'), 3, 0));
        assert_eq!((pool.give_back(0), pool.give_back(2), pool.get(2)), (Some('a'), Some('a'), None));
        assert_eq!((pool.take('c'), pool.available(), pool[2]), (Ok(2), 1, 'c'));
        assert_eq!((pool.give_back(u32::MAX), pool.get(3)), (None, None), "there are no such places");
    }
}
