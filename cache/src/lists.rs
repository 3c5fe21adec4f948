//! `Lists`: linked lists of things that have numbers.
//!
//! The links lie in an array indexed by number, so nothing is allocated after start and whatever dies leaves its list
//! in constant time. A number is in at most one list of a [`Lists`].

/// In place of a number, a list or a note: there is none.
pub(crate) const NONE: u32 = u32::MAX;

/// The links of a number, and its note, each one more than it is, so that [`NONE`] is 0: memory of numbers that were never
/// on a list is not touched.
type Node = [u32; 4];

const PREVIOUS: usize = 0;
const NEXT: usize = 1;
const LIST: usize = 2;
const NOTE: usize = 3;

#[derive(Debug, Clone, Copy)]
struct Ends {
    first: u32,
    last: u32,
    len: u32,
}

/// Several lists over one set of links.
#[derive(Debug)]
pub(crate) struct Lists {
    links: Box<[Node]>,
    ends: Box<[Ends]>,
}

impl Lists {
    /// `lists` empty lists for numbers below `count`. Each number has a note beside its links, which is [`NONE`].
    pub(crate) fn new(lists: usize, count: usize) -> Lists {
        Lists {
            links: vec![[0; 4]; count].into_boxed_slice(),
            ends: vec![Ends { first: NONE, last: NONE, len: 0 }; lists].into_boxed_slice(),
        }
    }

    /// Asks for the links of `number`.
    #[inline]
    pub(crate) fn prefetch(&self, number: u32) {
        cpu::prefetch_index(&self.links, number as usize);
    }

    /// What the owner of the lists notes of `number`.
    #[inline]
    pub(crate) fn note(&self, number: u32) -> u32 {
        self.links[number as usize][NOTE].wrapping_sub(1)
    }

    /// Replaces what is noted of `number`.
    #[inline]
    pub(crate) fn set_note(&mut self, number: u32, note: u32) -> u32 {
        std::mem::replace(&mut self.links[number as usize][NOTE], note.wrapping_add(1)).wrapping_sub(1)
    }

    /// Numbers in `list`.
    pub(crate) fn len(&self, list: usize) -> usize {
        self.ends[list].len as usize
    }

    /// Whether `list` is empty.
    pub(crate) fn is_empty(&self, list: usize) -> bool {
        self.ends[list].first == NONE
    }

    /// The list that `number` is in.
    pub(crate) fn list_of(&self, number: u32) -> Option<usize> {
        let list = self.links[number as usize][LIST].wrapping_sub(1);
        (list != NONE).then_some(list as usize)
    }

    /// The first of `list`.
    pub(crate) fn first(&self, list: usize) -> Option<u32> {
        let first = self.ends[list].first;
        (first != NONE).then_some(first)
    }

    /// Puts `number` at the end of `list`, out of any other.
    pub(crate) fn push_back(&mut self, list: usize, number: u32) {
        self.remove(number);
        let last = std::mem::replace(&mut self.ends[list].last, number);
        self.link(number, last, NONE, list as u32);
        match last {
            NONE => self.ends[list].first = number,
            last => self.links[last as usize][NEXT] = number + 1,
        }
        self.ends[list].len += 1;
    }

    /// Puts `number` at the head of `list`, out of any other.
    pub(crate) fn push_front(&mut self, list: usize, number: u32) {
        self.remove(number);
        let first = std::mem::replace(&mut self.ends[list].first, number);
        self.link(number, NONE, first, list as u32);
        match first {
            NONE => self.ends[list].last = number,
            first => self.links[first as usize][PREVIOUS] = number + 1,
        }
        self.ends[list].len += 1;
    }

    /// Takes the first of `list` out.
    pub(crate) fn pop_front(&mut self, list: usize) -> Option<u32> {
        let first = self.first(list)?;
        self.remove(first);
        Some(first)
    }

    /// Takes `number` out of the list it is in, if any.
    #[inline]
    pub(crate) fn remove(&mut self, number: u32) {
        // Most are on none: each request asks.
        if self.links[number as usize][LIST] != 0 {
            self.unlink(number);
        }
    }

    #[cold]
    fn unlink(&mut self, number: u32) {
        let [previous, next, list, _] = self.links[number as usize].map(|link| link.wrapping_sub(1));
        let list = list as usize;
        match previous {
            NONE => self.ends[list].first = next,
            previous => self.links[previous as usize][NEXT] = next.wrapping_add(1),
        }
        match next {
            NONE => self.ends[list].last = previous,
            next => self.links[next as usize][PREVIOUS] = previous.wrapping_add(1),
        }
        self.ends[list].len -= 1;
        self.link(number, NONE, NONE, NONE);
    }

    fn link(&mut self, number: u32, previous: u32, next: u32, list: u32) {
        let links = &mut self.links[number as usize];
        (links[PREVIOUS], links[NEXT]) = (previous.wrapping_add(1), next.wrapping_add(1));
        links[LIST] = list.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_order_and_let_go_anywhere() {
        let mut lists = Lists::new(2, 5);
        for number in [0, 1, 2, 3] {
            lists.push_back(0, number);
        }
        lists.push_front(0, 4);
        lists.remove(1);
        lists.push_back(1, 2);
        assert_eq!((lists.len(0), lists.len(1)), (3, 1));
        assert_eq!(lists.list_of(2), Some(1));
        let order: Vec<_> = std::iter::from_fn(|| lists.pop_front(0)).collect();
        assert_eq!(order, [4, 0, 3]);
        assert_eq!(lists.pop_front(1), Some(2));
        assert!(lists.is_empty(0) && lists.is_empty(1));
        assert!((0..5).all(|number| lists.note(number) == NONE));
    }
}
