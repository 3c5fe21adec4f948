//! `Asking`: a SYN that waits for its cookie. Read first: `cookies.rs`, which gives it.

use crate::flow_id::FlowKey;
use crate::link::LinkHeader;

/// SYNs that wait for cookies: what comes in a few milliseconds.
pub(super) const MOST_ASKING: usize = 1_024;

/// A SYN that is to be answered with a cookie.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) key: FlowKey,
    /// Its sequence number, and the segment size that it offers.
    pub(super) seq: u32,
    pub(super) offered: u16,
    /// The port by which the answer leaves, and its link header.
    pub(super) port: u16,
    pub(super) link: LinkHeader,
}
