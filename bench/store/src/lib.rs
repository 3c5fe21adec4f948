//! What the store holds and what it misses at equal resident memory, against memcached and libcachesim.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.

/// The command line.
pub mod args;
/// Both sides at equal resident memory.
pub mod measure;
/// Our shards, driven in this process.
pub mod ours;
/// memcached as the peer.
pub mod peer;
/// Tables, plots and the run folder.
pub mod report;
/// Resident memory.
pub mod resident;
/// Streams of keys asked for.
pub mod stream;
/// Trace files for libcachesim.
pub mod trace;
