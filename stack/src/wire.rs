//! Lengths and numbers of IP, TCP and UDP headers.

/// Flags of a TCP header.
pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;

/// Length of an IPv4 header without options, in bytes.
pub(crate) const IPV4_BYTES: usize = 20;
/// Length of an IPv6 header, in bytes.
pub(crate) const IPV6_BYTES: usize = 40;
/// By how much an IPv6 header is longer than an IPv4 one.
pub(crate) const LONGER_BYTES: usize = IPV6_BYTES - IPV4_BYTES;
/// Length of a TCP header without options, in bytes.
pub(crate) const TCP_BYTES: usize = 20;
/// Length of a UDP header, in bytes.
pub(crate) const UDP_BYTES: usize = 8;
/// IP's number for TCP.
pub(crate) const PROTOCOL_TCP: u8 = 6;
/// IP's number for UDP.
pub(crate) const PROTOCOL_UDP: u8 = 17;
/// IPv4's number for ICMP.
pub(crate) const PROTOCOL_ICMP: u8 = 1;
/// IPv6's number for ICMPv6.
pub(crate) const PROTOCOL_ICMPV6: u8 = 58;

/// By how many bits our windows are shifted where the peer takes that: 8 MiB is the most that can be told.
pub(crate) const SCALE: u8 = 7;
