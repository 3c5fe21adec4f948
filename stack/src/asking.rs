//! `Asking`: a SYN that waits for its cookie. Read first: `net_stack/cookies.rs`, which gives it.

use crate::flow_id::FlowKey;
use crate::link::LinkHeader;

/// SYNs that wait for cookies: what comes in a few milliseconds.
pub(crate) const MOST_ASKING: usize = 1_024;

/// A SYN that is to be answered with a cookie.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) key: FlowKey,
    /// Its sequence number, and the segment size that it offers.
    pub(crate) seq: u32,
    pub(crate) offered: u16,
    /// The port by which the answer leaves, and its link header.
    pub(crate) port: u16,
    pub(crate) link: LinkHeader,
}
