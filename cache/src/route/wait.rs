//! Who waits for what, first come first served; and lists of connections in order of age.
//!
//! Links are kept in arrays indexed by connection, so nothing is allocated after start and a connection that dies
//! leaves its list in constant time. A connection is in at most one list of a [`Lists`].

use crate::core::ConnId;

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Links {
    previous: u32,
    next: u32,
    list: u32,
}

#[derive(Debug, Clone, Copy)]
struct Ends {
    first: u32,
    last: u32,
    len: u32,
}

/// Several queues of connections over one set of links.
#[derive(Debug)]
pub(crate) struct Lists {
    links: Box<[Links]>,
    ends: Box<[Ends]>,
}

impl Lists {
    /// `lists` empty queues for connections below `connections`.
    pub(crate) fn new(lists: usize, connections: usize) -> Lists {
        Lists {
            links: vec![Links { previous: NONE, next: NONE, list: NONE }; connections].into_boxed_slice(),
            ends: vec![Ends { first: NONE, last: NONE, len: 0 }; lists].into_boxed_slice(),
        }
    }

    /// Asks for the links of `conn`.
    #[inline]
    pub(crate) fn prefetch(&self, conn: ConnId) {
        cpu::prefetch_index(&self.links, conn.index());
    }

    /// Connections in `list`.
    pub(crate) fn len(&self, list: usize) -> usize {
        self.ends[list].len as usize
    }

    /// Whether nobody is in `list`.
    pub(crate) fn is_empty(&self, list: usize) -> bool {
        self.ends[list].first == NONE
    }

    /// The list that `conn` is in.
    pub(crate) fn list_of(&self, conn: ConnId) -> Option<usize> {
        let list = self.links[conn.index()].list;
        (list != NONE).then_some(list as usize)
    }

    /// The first of `list`.
    pub(crate) fn first(&self, list: usize) -> Option<ConnId> {
        let first = self.ends[list].first;
        (first != NONE).then_some(ConnId(first))
    }

    /// Puts `conn` at the end of `list`, out of any other.
    pub(crate) fn push_back(&mut self, list: usize, conn: ConnId) {
        self.remove(conn);
        let last = std::mem::replace(&mut self.ends[list].last, conn.0);
        self.links[conn.index()] = Links { previous: last, next: NONE, list: list as u32 };
        match last {
            NONE => self.ends[list].first = conn.0,
            last => self.links[last as usize].next = conn.0,
        }
        self.ends[list].len += 1;
    }

    /// Puts `conn` at the head of `list`, out of any other.
    pub(crate) fn push_front(&mut self, list: usize, conn: ConnId) {
        self.remove(conn);
        let first = std::mem::replace(&mut self.ends[list].first, conn.0);
        self.links[conn.index()] = Links { previous: NONE, next: first, list: list as u32 };
        match first {
            NONE => self.ends[list].last = conn.0,
            first => self.links[first as usize].previous = conn.0,
        }
        self.ends[list].len += 1;
    }

    /// Takes the first of `list` out.
    pub(crate) fn pop_front(&mut self, list: usize) -> Option<ConnId> {
        let first = self.first(list)?;
        self.remove(first);
        Some(first)
    }

    /// Takes `conn` out of the list it is in, if any.
    pub(crate) fn remove(&mut self, conn: ConnId) {
        let Links { previous, next, list } = self.links[conn.index()];
        if list == NONE {
            return;
        }
        let list = list as usize;
        match previous {
            NONE => self.ends[list].first = next,
            previous => self.links[previous as usize].next = next,
        }
        match next {
            NONE => self.ends[list].last = previous,
            next => self.links[next as usize].previous = previous,
        }
        self.ends[list].len -= 1;
        self.links[conn.index()] = Links { previous: NONE, next: NONE, list: NONE };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_order_and_let_go_anywhere() {
        let mut lists = Lists::new(2, 5);
        for conn in [0, 1, 2, 3] {
            lists.push_back(0, ConnId(conn));
        }
        lists.push_front(0, ConnId(4));
        lists.remove(ConnId(1));
        lists.push_back(1, ConnId(2));
        assert_eq!((lists.len(0), lists.len(1)), (3, 1));
        assert_eq!(lists.list_of(ConnId(2)), Some(1));
        let order: Vec<_> = std::iter::from_fn(|| lists.pop_front(0)).collect();
        assert_eq!(order, [ConnId(4), ConnId(0), ConnId(3)]);
        assert_eq!(lists.pop_front(1), Some(ConnId(2)));
        assert!(lists.is_empty(0) && lists.is_empty(1));
    }
}
