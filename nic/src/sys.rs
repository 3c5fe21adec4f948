//! The only unsafe code of the workspace besides `sidestep-cpu`; SAFETY.md lists the invariants that its notes cite.
#![allow(unsafe_code)]

/// BPF links.
pub(crate) mod bpf;
/// Channels, hashing and offloads of interfaces, by ethtool's ioctl.
pub(crate) mod ethtool;
/// A thread that finds no files.
pub(crate) mod hidden;
/// Memory cut into chunks, each the only right to its bytes.
pub mod memory;
/// Interfaces, by ioctl and `getifaddrs`.
pub(crate) mod netdev;
/// Packet sockets (`AF_PACKET`).
pub(crate) mod packet;
/// Waiting for any of several descriptors.
pub(crate) mod poll;
/// The four rings of an AF_XDP socket.
pub(crate) mod rings;
/// Socket options that xsk-rs does not offer.
pub(crate) mod sockopt;
/// Where each chunk of an AF_XDP queue is.
pub(crate) mod stock;
/// TAP interfaces, by `/dev/net/tun`.
pub(crate) mod tun;
/// A UMEM and the descriptors of its chunks.
pub(crate) mod umem;
