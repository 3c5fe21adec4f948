//! `sidestep-pktgen`: sends, reflects and counts frames on the queues of a port, with the letters of netmap's pkt-gen.
//!
//! Everything is written against [`nic::Queue`], so it runs the same over AF_XDP and over the in-memory wire. A mode is
//! a state machine that is given a queue and the time, turn by turn; only [`run`] knows threads and clocks. Its pong is
//! the *null responder* of the benchmarks: what a machine can do when the program does nothing. Read first: `pong.rs`.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.

/// ARP (RFC 826): answers for our address, asks for another's.
pub mod arp;
/// `Bursts`: the frames of a turn.
pub mod bursts;
/// `Engine`: the mode that runs on a queue.
pub mod engine;
/// Neighbour discovery (RFC 4861) for IPv6: the same.
pub mod ndp;
/// `Neighbor`: finding each other, whichever the family.
pub mod neighbor;
/// `Plan`: the command line.
pub mod options;
/// `Pace`: when each frame is to be sent.
pub mod pace;
/// Frames: what one is, and the UDP frames that ping and tx send.
pub mod packet;
/// `Part`: what one end of the link does.
pub mod part;
/// `Pong`: the null responder, and the counter of what arrives.
pub mod pong;
/// `OpenPort`: what `-i` names, opened.
pub mod port;
/// `Report`: the figures, as text or JSON.
pub mod report;
/// `Resolve`: whose Ethernet address the frames go to.
pub mod resolve;
/// The runner: a pinned thread a queue, until count, time or ^C.
pub mod run;
/// `Sender`: sends, and for ping waits for the answers, checks and times them.
pub mod sender;
/// `Station`, `Endpoint`: who we are, and how that is written.
pub mod station;
/// `Tally`: what is counted.
pub mod tally;
