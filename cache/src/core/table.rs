//! A fixed number of places for things that other cores name by number.

/// Places `0..capacity`, each empty or taken. Never allocates after start.
#[derive(Debug)]
pub(crate) struct Table<T> {
    places: Box<[Option<T>]>,
    free: Vec<u32>,
}

impl<T> Table<T> {
    /// `capacity` empty places.
    pub(crate) fn new(capacity: usize) -> Table<T> {
        Table { places: (0..capacity).map(|_| None).collect(), free: (0..capacity as u32).rev().collect() }
    }

    /// Puts `thing` in an empty place; gives it back when there is none.
    pub(crate) fn insert(&mut self, thing: T) -> Result<u32, T> {
        match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = Some(thing);
                Ok(place)
            }
            None => Err(thing),
        }
    }

    /// What is at `place`.
    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        self.places.get(place as usize)?.as_ref()
    }

    /// What is at `place`.
    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.places.get_mut(place as usize)?.as_mut()
    }

    /// Takes what is at `place` out.
    pub(crate) fn remove(&mut self, place: u32) -> Option<T> {
        let thing = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place);
        Some(thing)
    }

    /// Places taken.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}
