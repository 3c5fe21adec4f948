//! Flows out of frames: one core's TCP/IP on smoltcp, with no thread, no clock and no I/O of its own.
//!
//! [`Poll`] is what a server or a client is written on: events of flows, level- or edge-triggered. Below it,
//! [`NetStack`] is the turn: `receive` (on each [`Port`]) → [`ingest`](NetStack::ingest) →
//! [`expire`](NetStack::expire) → events and [`flow`](NetStack::flow) (the application, through [`Poll`]) →
//! [`flush`](NetStack::flush) → `transmit`. Time is an argument ([`Time`]).
#![forbid(unsafe_code)]

/// A SYN that waits for its cookie.
mod asking;
/// Flow blocks: a flow's memory, made once and recycled.
mod block;
/// Which block serves which flow: `Blocks`.
mod blocks;
/// What is known of hosts, each for a time.
mod by_address;
/// What a frame is, in one pass.
mod classify;
/// `Time`, and the five times faster clock that smoltcp sees.
mod clock;
/// How a flow ended: `CloseReason`.
mod close_reason;
/// `StackConfig`, `Secrets`.
mod config;
/// What a connection that is asked for is: `Connect`, `ConnectError`.
mod connect;
/// A panic over one flow ends that flow alone.
mod contain;
/// SYN cookies: a connection that was asked for, in the ISN of the answer.
mod cookie;
/// UDP: `DatagramHandler`, `DatagramPeer`, `DatagramReplies`.
mod datagram;
/// When a flow is given up.
mod deadline;
/// The hosts that delay their ACKs.
mod delayed_acks;
/// What routers of IPv6 say of themselves.
mod discovery;
/// Why a frame was dropped.
mod drop_reason;
/// ICMP echo.
mod echo;
/// Source ports of active opens (RFC 6056).
mod ephemeral;
/// What an application is told: `Event`, `Token`.
mod event;
/// `Flow`: what the application sees.
mod flow;
/// How a flow is named: `Ends`, `FlowKey`, `FlowId`.
mod flow_id;
/// Flows in a row.
mod flow_list;
/// Which connections' answers came to another core.
mod homes;
/// What flows have learned of hosts: `Hosts`.
mod hosts;
/// Errors of ICMP.
mod icmp;
/// ICMPv6 answers and errors.
mod icmpv6;
/// IPv4 options, taken off before anything else is read.
mod ip_options;
/// IPv6 headers in place of IPv4 ones.
mod ipv6;
/// RFC 6528 initial sequence numbers, delivered through smoltcp.
mod isn;
/// Ethernet and 802.1Q headers.
mod link;
/// Ports listened on.
mod listen;
/// Of what was sent lately, what was lost.
mod loss_share;
/// IPv6 addresses in 32 bits.
mod names;
/// Neighbour discovery, read and written.
mod ndp;
/// ARP and the neighbour table.
mod neighbor;
/// `NetStack`: the turn.
mod net_stack;
/// What window the peer is told.
mod offer;
/// smoltcp's device of one frame.
mod one_frame;
/// The options of a SYN.
mod options;
/// `OwnAddress`; our own IPv6 addresses.
mod own_addresses;
/// Ways that take no packets as long as the link does.
mod path_mtu;
/// How far a flow has come.
mod phase;
/// `Poll`: a core's network, told in events.
mod poll;
/// `Port`: a queue and the frames of the turn.
mod port;
/// A token bucket.
mod rate;
/// The ready list: `Interest`.
mod ready;
/// Datagrams that came in fragments.
mod reassembly;
/// A connection is a value: out of one socket, into another.
mod replay;
/// Neighbours asked for by ARP, and the flows that wait.
mod resolve;
/// A connection that rests, in a cache line.
mod resting;
/// What of a segment is rewritten before smoltcp reads it.
mod rewrite;
/// Larger rings, in one bounded memory.
mod ring_pool;
/// Sizes of a flow's rings.
mod rings;
/// How long round trips take.
mod round_trip;
/// By whom packets for hosts beyond the link are handed on.
mod routes;
/// What is told of data behind a hole.
mod sack;
/// What a peer has of what is in flight, behind what it lacks.
mod scoreboard;
/// TCP segments written by hand.
mod segment;
/// Datagrams that answer none: `SendTo`, `SendToError`.
mod send_to;
/// How much may be under way, and when what is under way is looked after.
mod sending;
/// What is decided before smoltcp sees a segment.
mod shim;
/// Segments behind more holes than smoltcp keeps islands.
mod stash;
/// Counters, work, census.
mod stats;
/// Segments to be offered to other cores.
mod stray;
/// Strays on their way round the cores.
mod stray_ring;
/// Connections in SYN-RECEIVED.
mod syn_queue;
/// From 4-tuple to flow.
mod table;
/// TIME-WAIT records.
mod time_wait;
/// Timer wheel.
mod timer;
/// Many segments written as one.
mod train;
/// What a connection does with the memory that it holds.
mod useless;
/// `Waiter`: how a core waits between two turns.
mod waiter;
/// Lengths and numbers of headers.
mod wire;

pub use clock::Time;
pub use close_reason::CloseReason;
pub use config::{ConfigError, Secrets, StackConfig};
pub use connect::{Connect, ConnectError};
pub use datagram::{DatagramHandler, DatagramPeer, DatagramReplies, NoFrame};
pub use drop_reason::DropReason;
pub use event::{Event, Token};
pub use flow::{Flow, FlowLook};
pub use flow_id::{Ends, FlowId};
pub use isn::RecordedIsns;
pub use link::Mac;
pub use net_stack::NetStack;
pub use nic::Route;
pub use own_addresses::OwnAddress;
pub use poll::Poll;
pub use port::Port;
pub use ready::Interest;
pub use rings::Rings;
pub use routes::Routes;
pub use send_to::{SendTo, SendToError};
pub use stats::{Census, DropCounts, StackStats, UnderWay, Woken, Work};
pub use stray_ring::StrayRing;
pub use waiter::Waiter;

/// The programs in the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
