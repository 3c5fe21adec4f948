//! `FlowList`: flows in the order in which they came, each at most once.

/// Numbers of flows, oldest first. The caller enters no flow that is on the list, which a mark in its block tells, so
/// that there is always room.
#[derive(Debug)]
pub(crate) struct FlowList {
    slots: Box<[u32]>,
    /// Flows ever taken, and ever entered; their low bits are places.
    taken: usize,
    entered: usize,
}

impl FlowList {
    /// A list of at most `flows` flows.
    pub(crate) fn new(flows: usize) -> Self {
        Self { slots: vec![0; flows.next_power_of_two()].into_boxed_slice(), taken: 0, entered: 0 }
    }

    /// Enters a flow that is not on the list, behind all others.
    #[inline]
    pub(crate) fn push(&mut self, flow: u32) {
        debug_assert!(self.len() < self.slots.len());
        let at = self.entered & (self.slots.len() - 1);
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = flow;
        }
        self.entered = self.entered.wrapping_add(1);
    }

    /// Takes the oldest flow.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<u32> {
        if self.is_empty() {
            self.rewind();
            return None;
        }
        let at = self.taken & (self.slots.len() - 1);
        self.taken = self.taken.wrapping_add(1);
        self.slots.get(at).copied()
    }

    /// Begins anew at the first place, if the list is empty, so that its memory is touched only as far as there were flows on
    /// it at a time.
    #[inline]
    pub(crate) fn rewind(&mut self) {
        if self.is_empty() {
            (self.taken, self.entered) = (0, 0);
        }
    }

    /// Flows on the list.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entered.wrapping_sub(self.taken)
    }

    /// Whether no flow is on the list.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.entered == self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_leave_in_the_order_in_which_they_came_however_often_the_list_goes_round() {
        let mut list = FlowList::new(3);
        assert_eq!((list.pop(), list.len()), (None, 0));
        for round in 0..10 {
            for flow in 0..3 {
                list.push(round * 3 + flow);
            }
            assert_eq!((list.len(), list.is_empty()), (3, false));
            assert_eq!(list.slots[..3], [round * 3, round * 3 + 1, round * 3 + 2], "an empty list begins anew");
            let taken: Vec<u32> = std::iter::from_fn(|| list.pop()).collect();
            assert_eq!(taken, [round * 3, round * 3 + 1, round * 3 + 2]);
        }
    }
}
