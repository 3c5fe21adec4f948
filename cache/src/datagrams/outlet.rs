//! `DatagramOutlet`: where datagrams leave.

/// Where datagrams leave.
pub trait DatagramOutlet<P> {
    /// Sends one datagram to `to`. `write` is given exactly `len` bytes, which hold anything, and returns how many of
    /// them it has used; with 0 nothing is sent. Returns `false`, and does not call `write`, when none can be sent now.
    fn send(&mut self, to: &P, len: usize, write: impl FnOnce(&mut [u8]) -> usize) -> bool;
}
