//! What supervisor and data plane say to each other, over one socket pair, in whole messages.
//!
//! ```text
//!  plane ──── descriptors: the XDP program's counters, the control channel's socket;
//!             then Opened, Ready ──────────────────────────────────────────────►  supervisor
//!  plane  ◄──── Go, Counts, Users, Cluster, Stop ────────────────────────────────  supervisor
//! ```
//! A message is its length (four bytes), its kind (one) and its body, numbers in little endian. Whoever finds the other
//! end closed knows that the other process has ended.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nic::xdp::SteerCounters;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

use crate::losses::LinkLosses;

/// More than the longest body, a file of `--cluster` of 1 MiB.
const BODY_MAX_BYTES: u32 = 2 << 20;

/// Numbers of [`LinkLosses`].
const COUNTS: usize = 17;

/// What was read of a file, or why it could not be.
pub(crate) type FileText = Result<Vec<u8>, String>;

/// From the supervisor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ToPlane {
    /// What is outside is ready: serve.
    Go,
    /// What link and program have counted.
    Counts(Box<[u64; COUNTS]>),
    /// What the file of `-Y` says now.
    Users(FileText),
    /// What the file of `--cluster` says now, and the second at which it was written.
    Cluster(u64, FileText),
    /// Answer what has come, and end.
    Stop,
}

/// From the data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FromPlane {
    /// The link is open, with sockets on its first so many queues.
    Opened { index: u32, queues: u32 },
    /// Requests are answered.
    Ready,
}

impl ToPlane {
    /// Writes it whole.
    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Go => write_message(to, 0, &[]),
            Self::Counts(counts) => {
                let bytes: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
                write_message(to, 1, &bytes)
            }
            Self::Users(text) => write_message(to, 2, &file_bytes(0, text)),
            Self::Cluster(written, text) => write_message(to, 3, &file_bytes(*written, text)),
            Self::Stop => write_message(to, 4, &[]),
        }
    }

    /// Reads the next one.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Self> {
        let (kind, body) = read_message(from)?;
        Ok(match kind {
            0 => Self::Go,
            1 => {
                let mut counts = Box::new([0; COUNTS]);
                for (count, bytes) in counts.iter_mut().zip(body.as_chunks::<8>().0) {
                    *count = u64::from_le_bytes(*bytes);
                }
                Self::Counts(counts)
            }
            2 => Self::Users(file_of(&body)?.1),
            3 => file_of(&body).map(|(written, text)| Self::Cluster(written, text))?,
            4 => Self::Stop,
            _ => return Err(nonsense()),
        })
    }
}

impl FromPlane {
    /// Writes it whole.
    pub(crate) fn write(self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Opened { index, queues } => {
                write_message(to, 0, &[index.to_le_bytes(), queues.to_le_bytes()].concat())
            }
            Self::Ready => write_message(to, 1, &[]),
        }
    }

    /// Reads the next one.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Self> {
        let (kind, body) = read_message(from)?;
        match (kind, body.as_chunks::<4>().0) {
            (0, &[index, queues]) => {
                Ok(Self::Opened { index: u32::from_le_bytes(index), queues: u32::from_le_bytes(queues) })
            }
            (1, []) => Ok(Self::Ready),
            _ => Err(nonsense()),
        }
    }
}

/// Link and program, as numbers.
pub(crate) fn counts_of(losses: &LinkLosses) -> Box<[u64; COUNTS]> {
    let LinkLosses { program, queues_without_socket, connections_elsewhere: _, plane_restarts, .. } = *losses;
    let SteerCounters { passed, redirected, arp, no_socket, denied, icmp_errors, fragments, dedicated } = program;
    let LinkLosses { link_down, link_changes, rx_errors, rx_dropped, rx_missed, tx_errors, tx_dropped, .. } = *losses;
    Box::new([
        passed,
        redirected,
        arp,
        no_socket,
        denied,
        icmp_errors,
        fragments,
        dedicated,
        queues_without_socket,
        plane_restarts,
        link_down,
        link_changes,
        rx_errors,
        rx_dropped,
        rx_missed,
        tx_errors,
        tx_dropped,
    ])
}

/// The same back; connections that came elsewhere are the data plane's own to count.
pub(crate) fn losses_of(counts: &[u64; COUNTS]) -> LinkLosses {
    let &[passed, redirected, arp, no_socket, denied, icmp_errors, fragments, dedicated, ref rest @ ..] = counts;
    let &[queues_without_socket, plane_restarts, link_down, link_changes, ref rest @ ..] = rest;
    let &[rx_errors, rx_dropped, rx_missed, tx_errors, tx_dropped] = rest;
    LinkLosses {
        program: SteerCounters { passed, redirected, arp, no_socket, denied, icmp_errors, fragments, dedicated },
        queues_without_socket,
        link_down,
        link_changes,
        connections_elsewhere: 0,
        plane_restarts,
        rx_errors,
        rx_dropped,
        rx_missed,
        tx_errors,
        tx_dropped,
    }
}

/// Hands over a descriptor, or says that there is none, with one byte (`unix(7)`, SCM_RIGHTS).
pub(crate) fn send_descriptor(to: &UnixStream, descriptor: Option<&OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptor.iter().map(|descriptor| descriptor.as_fd()).collect();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    rustix::net::sendmsg(to, &[IoSlice::new(b"d")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes the descriptor that the other side hands over, if it has one.
///
/// # Errors
/// `UnexpectedEof`: the other process has ended before.
pub(crate) fn receive_descriptor(from: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let got = rustix::net::recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if got.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

fn file_bytes(written: u64, text: &FileText) -> Vec<u8> {
    let mut bytes = written.to_le_bytes().to_vec();
    bytes.push(text.is_ok().into());
    bytes.extend_from_slice(match text {
        Ok(text) => text,
        Err(why) => why.as_bytes(),
    });
    bytes
}

fn file_of(body: &[u8]) -> io::Result<(u64, FileText)> {
    let (&written, rest) = body.split_first_chunk::<8>().ok_or_else(nonsense)?;
    let (&good, text) = rest.split_first().ok_or_else(nonsense)?;
    let text = text.to_vec();
    let text = if good == 1 { Ok(text) } else { Err(String::from_utf8_lossy(&text).into_owned()) };
    Ok((u64::from_le_bytes(written), text))
}

fn write_message(to: &mut impl Write, kind: u8, body: &[u8]) -> io::Result<()> {
    let mut message = (body.len() as u32).to_le_bytes().to_vec();
    message.push(kind);
    message.extend_from_slice(body);
    to.write_all(&message)
}

fn read_message(from: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [length @ .., kind] = head;
    let length = u32::from_le_bytes(length);
    if length > BODY_MAX_BYTES {
        return Err(nonsense());
    }
    let mut body = vec![0; length as usize];
    from.read_exact(&mut body)?;
    Ok((kind, body))
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the other process speaks nonsense")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_cut_message_is_none() {
        let counts = Box::new(std::array::from_fn(|n| n as u64 + (1 << 40)));
        let all = [
            ToPlane::Go,
            ToPlane::Counts(counts),
            ToPlane::Users(Ok(b"u:p\n".to_vec())),
            ToPlane::Users(Err("why".to_owned())),
            ToPlane::Cluster(7, Ok(vec![b'x'; 1 << 20])),
            ToPlane::Stop,
        ];
        for message in &all {
            let mut bytes = Vec::new();
            message.write(&mut bytes).expect("memory takes it");
            assert_eq!(ToPlane::read(&mut &bytes[..]).expect("it is whole"), *message);
            bytes.pop();
            assert!(ToPlane::read(&mut &bytes[..]).is_err());
        }
        for message in [FromPlane::Opened { index: 3, queues: 4 }, FromPlane::Ready] {
            let mut bytes = Vec::new();
            message.write(&mut bytes).expect("memory takes it");
            assert_eq!(FromPlane::read(&mut &bytes[..]).expect("it is whole"), message);
        }
    }

    #[test]
    fn counts_are_the_same_on_the_other_side() {
        let numbers: [u64; COUNTS] = std::array::from_fn(|n| n as u64);
        assert_eq!(*counts_of(&losses_of(&numbers)), numbers);
    }

    #[test]
    fn a_descriptor_is_handed_over_and_who_has_ended_hands_none() {
        let (ours, theirs) = UnixStream::pair().expect("a pair can be had");
        let (mut left, right) = UnixStream::pair().expect("a pair can be had");
        send_descriptor(&ours, Some(&right.into())).expect("the other end is open");
        send_descriptor(&ours, None).expect("the other end is open");
        let handed = receive_descriptor(&theirs).expect("it was sent").expect("with a descriptor");
        let mut right = UnixStream::from(handed);
        assert!(receive_descriptor(&theirs).expect("it was sent").is_none());
        left.write_all(b"x").expect("it is open");
        let mut byte = [0];
        right.read_exact(&mut byte).expect("it is the same socket");
        drop(ours);
        assert_eq!(receive_descriptor(&theirs).expect_err("nobody is there").kind(), io::ErrorKind::UnexpectedEof);
    }
}
