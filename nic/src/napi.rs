//! `NapiValues`: when the interrupts of a queue come, read and set for one queue by netdev genetlink.
//!
//! A queue's NAPI instance is what the kernel polls its driver by; since Linux 6.13 its settings are its own, and stay
//! where the interface goes down and up. Control side only, in the network namespace of the calling thread. Read first:
//! kernel `Documentation/netlink/specs/netdev.yaml`, "queue-get", "napi-get", "napi-set".

use std::fmt;
use std::io;
use std::str::FromStr;

use netlink_packet_core::{
    DecodeError, ErrorBuffer, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

/// The family by which families are found, and how (`linux/genetlink.h`).
const CONTROL_FAMILY: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// Commands of `netdev` (`linux/netdev.h`).
const QUEUE_GET: u8 = 10;
const NAPI_GET: u8 = 11;
const NAPI_SET: u8 = 14;

/// Attributes of a queue: its number, interface and kind, and its NAPI instance.
const QUEUE_ID: u16 = 1;
const QUEUE_IFINDEX: u16 = 2;
const QUEUE_TYPE: u16 = 3;
const QUEUE_NAPI_ID: u16 = 4;
const RECEIVES: u32 = 0;
const SENDS: u32 = 1;

/// Attributes of a NAPI instance.
const NAPI_ID: u16 = 2;
const NAPI_DEFER_HARD_IRQS: u16 = 5;
const NAPI_GRO_FLUSH_TIMEOUT: u16 = 6;
const NAPI_IRQ_SUSPEND_TIMEOUT: u16 = 7;

/// Bytes of `struct nlmsghdr` and `struct genlmsghdr`.
const MESSAGE_HEADER_BYTES: usize = 16;
const GENERIC_HEADER_BYTES: usize = 4;

/// When the interrupts of a queue come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NapiValues {
    defer_hard_irqs: u32,
    gro_flush_timeout: u64,
    /// `None` where the kernel does not tell, and so has none.
    irq_suspend_timeout: Option<u64>,
}

impl NapiValues {
    pub(crate) fn new(defer_hard_irqs: u32, gro_flush_timeout: u64, irq_suspend_timeout: Option<u64>) -> Self {
        Self { defer_hard_irqs, gro_flush_timeout, irq_suspend_timeout }
    }
}

impl fmt::Display for NapiValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "defer-hard-irqs {} gro-flush-timeout {}", self.defer_hard_irqs, self.gro_flush_timeout)?;
        self.irq_suspend_timeout.map_or(Ok(()), |timeout| write!(f, " irq-suspend-timeout {timeout}"))
    }
}

impl FromStr for NapiValues {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |word: &str| word.parse::<u64>().map_err(drop);
        let irqs = |word: &str| word.parse::<u32>().map_err(drop);
        match words[..] {
            ["defer-hard-irqs", a, "gro-flush-timeout", b] => Ok(Self::new(irqs(a)?, number(b)?, None)),
            ["defer-hard-irqs", a, "gro-flush-timeout", b, "irq-suspend-timeout", c] => {
                Ok(Self::new(irqs(a)?, number(b)?, Some(number(c)?)))
            }
            _ => Err(()),
        }
    }
}

/// What holds for receive queue `queue` of the interface of that index.
///
/// # Errors
/// `EOPNOTSUPP`: the kernel has no such settings for each queue, or the driver does not tell which NAPI instance is whose.
pub(crate) fn read(index: u32, queue: u16) -> io::Result<NapiValues> {
    let netdev = Netdev::open()?;
    let napi = netdev.napi_of(index, queue, RECEIVES)?;
    let answer = netdev.ask(NAPI_GET, 0, &[(NAPI_ID, napi)])?;
    let value = |kind| attribute(&answer, kind);
    match (value(NAPI_DEFER_HARD_IRQS)?, value(NAPI_GRO_FLUSH_TIMEOUT)?) {
        (Some(irqs), Some(timeout)) => {
            let irqs = u32::try_from(irqs).map_err(io::Error::other)?;
            Ok(NapiValues::new(irqs, timeout, value(NAPI_IRQ_SUSPEND_TIMEOUT)?))
        }
        _ => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
    }
}

/// Sets it.
///
/// # Errors
/// As of [`read`]; also where a time is asked for that the kernel does not have.
pub(crate) fn write(index: u32, queue: u16, values: NapiValues) -> io::Result<()> {
    let netdev = Netdev::open()?;
    let napi = netdev.napi_of(index, queue, RECEIVES)?;
    let narrow = |value: u64| u32::try_from(value).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL));
    let mut wanted = vec![
        (NAPI_ID, napi),
        (NAPI_DEFER_HARD_IRQS, values.defer_hard_irqs),
        (NAPI_GRO_FLUSH_TIMEOUT, narrow(values.gro_flush_timeout)?),
    ];
    if let Some(timeout) = values.irq_suspend_timeout {
        wanted.push((NAPI_IRQ_SUSPEND_TIMEOUT, narrow(timeout)?));
    }
    netdev.ask(NAPI_SET, NLM_F_ACK, &wanted).map(drop)
}

/// Whether receive queue `queue` of the interface of that index and the transmit queue of that number have one NAPI
/// instance, so that who polls the one polls the other.
///
/// # Errors
/// `EOPNOTSUPP`: the kernel or the driver does not tell.
pub(crate) fn is_of_both_directions(index: u32, queue: u16) -> io::Result<bool> {
    let netdev = Netdev::open()?;
    Ok(netdev.napi_of(index, queue, RECEIVES)? == netdev.napi_of(index, queue, SENDS)?)
}

/// A socket to the kernel's family `netdev`.
struct Netdev {
    socket: Socket,
    family: u16,
}

impl Netdev {
    fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_GENERIC)?;
        // To the kernel: its port is 0.
        socket.connect(&SocketAddr::new(0, 0))?;
        let name = attribute_bytes(FAMILY_NAME, b"netdev\0");
        let answer = exchange(&socket, CONTROL_FAMILY, GET_FAMILY, 0, &name).map_err(unsupported)?;
        let family = attribute(&answer, FAMILY_ID)?.and_then(|id| u16::try_from(id).ok());
        Ok(Self { socket, family: family.ok_or_else(|| io::Error::from_raw_os_error(libc::EOPNOTSUPP))? })
    }

    /// The NAPI instance of a queue of that kind.
    fn napi_of(&self, index: u32, queue: u16, kind: u32) -> io::Result<u32> {
        let asked = [(QUEUE_ID, u32::from(queue)), (QUEUE_IFINDEX, index), (QUEUE_TYPE, kind)];
        let answer = self.ask(QUEUE_GET, 0, &asked)?;
        let napi = attribute(&answer, QUEUE_NAPI_ID)?.and_then(|id| u32::try_from(id).ok());
        napi.ok_or_else(|| io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    }

    fn ask(&self, command: u8, flags: u16, attributes: &[(u16, u32)]) -> io::Result<Vec<u8>> {
        let attributes: Vec<u8> =
            attributes.iter().flat_map(|(kind, value)| attribute_bytes(*kind, &value.to_ne_bytes())).collect();
        exchange(&self.socket, self.family, command, flags, &attributes).map_err(unsupported)
    }
}

/// A kernel without the family, the command or the attribute says so in several ways.
fn unsupported(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EINVAL) => io::Error::from_raw_os_error(libc::EOPNOTSUPP),
        _ => error,
    }
}

/// Sends one request and returns the attributes of the answer.
fn exchange(socket: &Socket, family: u16, command: u8, flags: u16, attributes: &[u8]) -> io::Result<Vec<u8>> {
    let length = MESSAGE_HEADER_BYTES + GENERIC_HEADER_BYTES + attributes.len();
    let mut request = Vec::with_capacity(length);
    request.extend(u32::try_from(length).map_err(io::Error::other)?.to_ne_bytes());
    request.extend(family.to_ne_bytes());
    request.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    // Number and sender: the kernel answers the socket that has asked.
    request.extend([0; 8]);
    request.extend([command, 1, 0, 0]);
    request.extend(attributes);
    socket.send(&request, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkBuffer::new_checked(&answer).map_err(invalid)?;
    if answer.message_type() == NLMSG_ERROR {
        let error = ErrorBuffer::new_checked(answer.payload()).map_err(invalid)?;
        // The kernel gives the error number negated, and 0 for an acknowledgment.
        return match error.code() {
            Some(code) => Err(io::Error::from_raw_os_error(-code.get())),
            None => Ok(Vec::new()),
        };
    }
    Ok(answer.payload().get(GENERIC_HEADER_BYTES..).unwrap_or_default().to_vec())
}

fn attribute_bytes(kind: u16, value: &[u8]) -> Vec<u8> {
    // A length of 4 bytes of header and the value, which is short.
    let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The number that an attribute holds, of two, four or eight bytes; `None` without it.
fn attribute(answer: &[u8], kind: u16) -> io::Result<Option<u64>> {
    for attribute in NlasIterator::new(answer) {
        let attribute = attribute.map_err(invalid)?;
        if attribute.kind() == kind {
            let value = attribute.value();
            let number = match value.len() {
                2 => value.try_into().map(u16::from_ne_bytes).map(u64::from).ok(),
                4 => value.try_into().map(u32::from_ne_bytes).map(u64::from).ok(),
                8 => value.try_into().map(u64::from_ne_bytes).ok(),
                _ => None,
            };
            return Ok(number);
        }
    }
    Ok(None)
}

fn invalid(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are_written() {
        for values in [NapiValues::new(2, 200_000, None), NapiValues::new(100, 20_000, Some(20_000_000))] {
            assert_eq!(values.to_string().parse(), Ok(values));
        }
        for wrong in ["", "defer-hard-irqs 2", "defer-hard-irqs x gro-flush-timeout 2", "2 200000"] {
            assert!(wrong.parse::<NapiValues>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_attribute_is_padded_and_read_back_whatever_its_length() {
        let mut bytes = attribute_bytes(1, &7_u16.to_ne_bytes());
        assert_eq!(bytes.len(), 8);
        bytes.extend(attribute_bytes(2, &8_u32.to_ne_bytes()));
        bytes.extend(attribute_bytes(3, &9_u64.to_ne_bytes()));
        bytes.extend(attribute_bytes(4, b"netdev\0"));
        let read = |kind| attribute(&bytes, kind).expect("whole attributes");
        assert_eq!([read(1), read(2), read(3), read(4), read(5)], [Some(7), Some(8), Some(9), None, None]);
    }

    #[test]
    fn an_interface_without_interrupts_is_told_by_its_error_number() {
        // The loopback interface has no queue with a NAPI instance, and an old kernel no such family.
        let error = read(1, 0).expect_err("there is none");
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
        let error = write(1, 0, NapiValues::new(0, 0, None)).expect_err("there is none");
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
        let error = is_of_both_directions(1, 0).expect_err("there is none");
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
    }
}
