//! What threads share, under names of this crate.
//!
//! So that a model checker can have its own put in their place: `tests/loom.rs` compiles the files that use these names
//! a second time, with loom's. Nothing else belongs here.

pub(crate) use std::sync::atomic::{AtomicBool, Ordering, fence};

pub(crate) use crossbeam_queue::ArrayQueue;
