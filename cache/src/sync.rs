//! What threads share, under names of this crate, so that a model checker can have its own put in their place:
//! `apps/cached/tests/loom.rs` compiles the files that use them a second time, with loom's. Nothing else belongs here.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

pub(crate) use crossbeam_queue::ArrayQueue;
