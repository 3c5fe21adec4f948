//! What each segment holds of each slab class, so that a segment can be given up without looking at its items.

/// A row of counts for each segment.
#[derive(Debug)]
pub(crate) struct ClassRows {
    classes: usize,
    counts: Vec<ClassCount>,
}

/// Items of one slab class in one segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ClassCount {
    pub(crate) items: u32,
    /// Their bytes, as memcached counts them.
    pub(crate) bytes: u32,
}

impl ClassRows {
    /// Nothing in any of `segments` segments.
    pub(crate) fn new(segments: usize, classes: usize) -> ClassRows {
        ClassRows { classes, counts: vec![ClassCount::default(); segments * classes] }
    }

    /// Counts an item of `bytes` bytes in.
    #[inline]
    pub(crate) fn add(&mut self, segment: u32, class: usize, bytes: usize) {
        let count = &mut self.counts[segment as usize * self.classes + class];
        count.items += 1;
        count.bytes += bytes as u32;
    }

    /// Counts an item of `bytes` bytes out.
    #[inline]
    pub(crate) fn sub(&mut self, segment: u32, class: usize, bytes: usize) {
        let count = &mut self.counts[segment as usize * self.classes + class];
        count.items -= 1;
        count.bytes -= bytes as u32;
    }

    /// The counts of a segment, class by class.
    pub(crate) fn row(&self, segment: u32) -> &[ClassCount] {
        &self.counts[segment as usize * self.classes..][..self.classes]
    }

    /// Forgets what a segment holds.
    pub(crate) fn clear(&mut self, segment: u32) {
        self.counts[segment as usize * self.classes..][..self.classes].fill(ClassCount::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_segment_has_a_row_of_its_own() {
        let mut rows = ClassRows::new(3, 2);
        rows.add(1, 0, 100);
        rows.add(1, 1, 50);
        rows.add(1, 1, 60);
        rows.add(2, 0, 7);
        rows.sub(1, 1, 50);
        let one = |bytes| ClassCount { items: 1, bytes };
        assert_eq!(rows.row(0), [ClassCount::default(); 2]);
        assert_eq!((rows.row(1), rows.row(2)[0]), (&[one(100), one(60)][..], one(7)));
        rows.clear(1);
        assert_eq!((rows.row(1), rows.row(2)[0]), (&[ClassCount::default(); 2][..], one(7)));
    }
}
