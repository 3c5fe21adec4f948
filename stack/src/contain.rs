//! Containment: a panic of the protocol code over one flow ends that flow and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `act`; `None` if it panicked. Costs nothing measurable when it does not.
///
/// Whatever `act` was changing is in an unknown state afterwards: the caller recycles the flow, whose every field is
/// then set anew. The interface that flows share keeps nothing of a flow between calls.
#[inline(always)]
pub(crate) fn contain<R>(act: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(act)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_contained_and_a_result_comes_through() {
        assert_eq!(contain(|| 7), Some(7));
        assert_eq!(contain(|| -> u8 { panic!("shown by the test on purpose") }), None);
    }
}
