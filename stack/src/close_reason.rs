//! `CloseReason`: how a flow ended.

/// Why a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both ends closed in order.
    Finished,
    /// The peer reset it (RFC 9293 §3.10.7.4, after the check of RFC 5961 §3.2).
    Reset,
    /// The peer no longer answers, never did, or idled longer than the configured time.
    TimedOut,
    /// Nobody takes connections there: our SYN was answered with RST (RFC 9293 §3.10.7.3), or by ICMP that there is no
    /// such port.
    Refused,
    /// There is no way to the peer: nobody answers ARP for it or for the gateway, or a router said so by ICMP.
    Unreachable,
    /// Memory for rings was short, and it held some for a peer that took next to nothing (`useless.rs`).
    GaveWay,
    /// The protocol code panicked over it; the flow was dropped, the others go on.
    Contained,
}
