//! What a line of a script says: times, segments, calls. Sequence numbers are counted from the first of their sender.

use std::fmt;
use std::time::Duration;

use super::v6::layers::Packet;
use super::v6::told::Told;

/// When something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// So long after the script began.
    At(Duration),
    /// So long after what the line before says.
    After(Duration),
    /// Between two moments, both so long after what the line before says.
    Within(Duration, Duration),
    /// Whenever; for what the host sends.
    AnyTime,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// The peer sends a segment.
    In(Segment),
    /// The host sends a segment.
    Out(Segment),
    /// A router says something about a segment of the host's.
    Icmp(Icmp),
    /// The peer, or a neighbour of its, sends a packet of IPv6 that is no plain segment.
    Packet(Packet),
    /// The host sends a packet of IPv6 that is no segment, or whose header is looked at.
    Told(Told),
    /// The host's application does or sees something.
    Call(Call),
    /// The host sends nothing until then.
    Quiet,
}

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Which of the peer's ports; the first is 1.
    pub peer: u8,
    pub flags: u8,
    pub seq: i64,
    pub len: usize,
    pub ack: Option<i64>,
    pub win: Option<u16>,
    /// `None`: whichever there are.
    pub options: Option<Vec<TcpOption>>,
}

/// A TCP option. A value that is `None` is written `*`: any, or, in an `ecr` of the peer's, the host's last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TcpOption {
    End,
    Nop,
    Mss(Option<u16>),
    WindowScale(Option<u8>),
    SackPermitted,
    /// Counted as the segment's own ACK number is.
    Sack(Vec<(i64, i64)>),
    Timestamps {
        value: Option<u32>,
        echo: Option<u32>,
    },
    /// As it stands, kind and length included.
    Bytes(Vec<u8>),
}

/// An ICMP "destination unreachable" from a router, about a segment of the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Icmp {
    pub peer: u8,
    /// The first sequence number and the length of the segment that it quotes.
    pub seq: i64,
    pub len: usize,
    pub code: u8,
    pub mtu: u16,
}

/// What the application does, and what it must see. All are about one of the peer's ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub peer: u8,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The host begins to use its address.
    Up,
    /// Connections are accepted from now on.
    Listen,
    /// Takes a connection; `false`: there is none to be taken.
    Accept(bool),
    /// Asks for a connection; `false`: there is no way to the peer.
    Connect(bool),
    /// The connection that was asked for is open.
    Opened,
    /// Writes so many bytes, of which so many must find room.
    Send(usize, usize),
    /// Reads at most so many bytes.
    Recv(usize, Received),
    Shutdown,
    Close,
    Abort,
    /// There is something to read: bytes, or the end.
    Readable(bool),
    /// There is room to write to.
    Writable(bool),
    /// The connection has ended for this reason, and the application was told.
    Closed(Reason),
    State(State),
}

/// What a read must give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    Bytes(usize),
    /// Nothing waits.
    None,
    /// The peer has closed, and all was read.
    End,
}

/// Why a connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Finished,
    Reset,
    TimedOut,
    Refused,
    Unreachable,
}

impl Reason {
    pub const ALL: [(&'static str, Self); 5] = [
        ("finished", Self::Finished),
        ("reset", Self::Reset),
        ("timed-out", Self::TimedOut),
        ("refused", Self::Refused),
        ("unreachable", Self::Unreachable),
    ];
}

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is none, or nothing is left of it.
    None,
    Connecting,
    HalfOpen,
    /// The application has it.
    Open,
    /// The application has closed it, and it is not over.
    Closing,
    TimeWait,
}

impl State {
    pub const ALL: [(&'static str, Self); 6] = [
        ("none", Self::None),
        ("connecting", Self::Connecting),
        ("half-open", Self::HalfOpen),
        ("open", Self::Open),
        ("closing", Self::Closing),
        ("time-wait", Self::TimeWait),
    ];
}

/// The letters of the flags, as packetdrill and tcpdump write them.
pub const FLAGS: [(char, u8); 8] =
    [('F', 1), ('S', 2), ('R', 4), ('P', 8), ('.', 16), ('U', 32), ('E', 64), ('W', 128)];

/// The flags as letters.
pub fn letters(flags: u8) -> String {
    let letters: String = FLAGS.iter().rev().filter(|(_, flag)| flags & flag != 0).map(|&(letter, _)| letter).collect();
    // "S." and "P.", not ".S".
    let (dots, rest): (String, String) = letters.chars().partition(|&letter| letter == '.');
    if rest.is_empty() && dots.is_empty() { "-".to_owned() } else { rest + &dots }
}

impl fmt::Display for TcpOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = |value: Option<u32>| value.map_or("*".to_owned(), |value| value.to_string());
        match self {
            Self::End => f.write_str("eol"),
            Self::Nop => f.write_str("nop"),
            Self::Mss(mss) => write!(f, "mss {}", star(mss.map(u32::from))),
            Self::WindowScale(bits) => write!(f, "wscale {}", star(bits.map(u32::from))),
            Self::SackPermitted => f.write_str("sackOK"),
            Self::Sack(blocks) => {
                f.write_str("sack")?;
                blocks.iter().try_for_each(|(from, to)| write!(f, " {from}:{to}"))
            }
            Self::Timestamps { value, echo } => write!(f, "TS val {} ecr {}", star(*value), star(*echo)),
            Self::Bytes(bytes) => {
                f.write_str("bytes")?;
                bytes.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
            }
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.peer != 1 {
            write!(f, "@{} ", self.peer)?;
        }
        write!(f, "{} {}:{}({})", letters(self.flags), self.seq, self.seq + self.len as i64, self.len)?;
        if let Some(ack) = self.ack {
            write!(f, " ack {ack}")?;
        }
        if let Some(win) = self.win {
            write!(f, " win {win}")?;
        }
        match self.options.as_deref() {
            None => f.write_str(" <...>"),
            Some([]) => Ok(()),
            Some(options) => {
                let words: Vec<_> = options.iter().map(TcpOption::to_string).collect();
                write!(f, " <{}>", words.join(","))
            }
        }
    }
}
