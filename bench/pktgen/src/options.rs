//! The command line: a run as it was asked for, every value checked.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum, value_parser};
use nic::DeviceName;
use nic::Mac;
use nic::xdp::{AttachMode, XskName};

use crate::packet::{FRAME_BYTES_MIN, frame_bytes_min};
use crate::station::{Endpoint, read_mac};

/// Most frames that `-n` may ask for.
pub const COUNT_MAX: u64 = 1 << 48;
/// Most bytes of a frame; the link may allow fewer.
pub const FRAME_BYTES_MAX: i64 = 9_014;
/// Most flows of one run: what a range of source ports times one of destination ports may give.
pub const FLOWS_MAX: usize = 65_536;

/// Sends, reflects and counts frames over AF_XDP, with the letters of netmap's pkt-gen.
///
/// Modes: pong sends every TCP and UDP frame for its address straight back (the null responder); ping drives it and
/// times each trip; tx sends, rx counts. All answer ARP or neighbour solicitations for their address and end after -n
/// frames, after -T seconds or on ^C, with a report. Exit code 0: it ran (and, for ping, something came back); 1: it
/// failed; 2: a wrong command line.
///
///   sidestep-pktgen -f pong -i xsk:eth1 -s 10.77.0.2
///
///   sidestep-pktgen -f ping -i xsk:eth0 -s 10.77.0.4 -d 10.77.0.2 -T 2
///
///   sidestep-pktgen -f ping -i tap:t0 -s fd77::4 -d fd77::2
#[derive(Debug, Clone, Parser)]
#[command(name = "sidestep-pktgen", version, verbatim_doc_comment)]
pub struct Plan {
    /// The port: xdp:INTERFACE or xdp:INTERFACE@FIRST_QUEUE (AF_XDP), tap:INTERFACE (a TAP, made if there is none of that
    /// name), or wire: (in memory, the other end played as well)
    #[arg(short = 'i', long = "device", value_name = "PORT")]
    pub port: PortName,
    /// What to do
    #[arg(short = 'f', value_name = "MODE", value_enum)]
    pub mode: Mode,
    /// Frames to send (ping, tx), reflect (pong) or receive (rx); without it, -T alone ends the run
    #[arg(short = 'n', value_name = "COUNT", value_parser = value_parser!(u64).range(1..=COUNT_MAX))]
    pub count: Option<u64>,
    /// Bytes of a frame that is sent, without the check sequence [default: 60, over IPv6 80, which are the least]
    #[arg(short = 'l', value_name = "BYTES", value_parser = value_parser!(u16).range(FRAME_BYTES_MIN as i64..=FRAME_BYTES_MAX))]
    frame_bytes: Option<u16>,
    /// Most frames a turn, 1 to 64
    #[arg(short = 'b', value_name = "FRAMES", default_value_t = 64, value_parser = value_parser!(u16).range(1..=nic::BURST as i64))]
    pub batch: u16,
    /// Frames a second of all threads together, for an open loop; without it, as fast as can be
    #[arg(short = 'R', value_name = "PPS", value_parser = value_parser!(u64).range(1..=1_000_000_000))]
    pub rate: Option<u64>,
    /// Seconds to run, such as 0.5
    #[arg(short = 'T', value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub time: Duration,
    /// Threads, each with a queue of its own
    #[arg(short = 'p', value_name = "THREADS", default_value_t = 1, value_parser = value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// Pin threads from this CPU on [default: pong and rx from the first, ping and tx up to the last]
    #[arg(short = 'a', value_name = "CPU")]
    pub first_cpu: Option<usize>,
    /// Our address, which the kernel must not have, and ports: ADDRESS[:PORT[-LAST]]; IPv6 with ports in brackets
    #[arg(short = 's', value_name = "ENDPOINT")]
    source: Option<Endpoint>,
    /// Where to send to: ADDRESS[:PORT[-LAST]]
    #[arg(short = 'd', value_name = "ENDPOINT")]
    destination: Option<Endpoint>,
    /// Our Ethernet address [default: that of the interface]
    #[arg(short = 'S', value_name = "MAC", value_parser = read_mac)]
    pub source_mac: Option<Mac>,
    /// Ethernet address to send to [default: asked for by ARP or neighbour solicitation]
    #[arg(short = 'D', value_name = "MAC", value_parser = read_mac)]
    pub destination_mac: Option<Mac>,
    /// Where the XDP program runs: auto, native or generic
    #[arg(long = "mode", value_name = "ATTACH", default_value = "auto")]
    pub attach: AttachMode,
    /// Most frames of a thread that wait for their answer, ping only [default: 64; with -R 4096]
    #[arg(long, value_name = "FRAMES", value_parser = value_parser!(u32).range(1..=65_536))]
    window: Option<u32>,
    /// Milliseconds after which a frame without an answer is lost, ping only [default: 100]
    #[arg(long, value_name = "MS", value_parser = value_parser!(u64).range(1..=60_000).map(Duration::from_millis))]
    timeout: Option<Duration>,
    /// Sleep once nothing has come for so many microseconds, instead of spinning; not with tx nor -R
    #[arg(long, value_name = "US", value_parser = value_parser!(u64).range(..=1_000_000).map(Duration::from_micros))]
    pub poll: Option<Duration>,
    /// Report as one line of JSON
    #[arg(long)]
    pub json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    let wrong = || "it must be from 0.01 to 86400".to_owned();
    (0.01..=86_400.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds)).ok_or_else(wrong)
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Send back what arrives.
    Pong,
    /// Send, and time what comes back.
    Ping,
    /// Count what arrives.
    Rx,
    /// Send.
    Tx,
}

impl Mode {
    /// Whether it sends of its own accord.
    pub fn sends(self) -> bool {
        matches!(self, Self::Ping | Self::Tx)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

/// What `-i` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortName {
    /// Queues of an interface, over AF_XDP: each thread has the next, from the first on.
    Xsk(XskName),
    /// A TAP interface, a queue of it for each thread.
    Tap(String),
    /// The wire in memory.
    Wire,
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xsk(name) => name.fmt(f),
            Self::Tap(name) => write!(f, "tap:{name}"),
            Self::Wire => f.write_str("wire:"),
        }
    }
}

impl FromStr for PortName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(DeviceName::Xdp(name)) => Ok(Self::Xsk(name)),
            Ok(DeviceName::Wire) => Ok(Self::Wire),
            Ok(DeviceName::Tap(name)) => Ok(Self::Tap(name)),
            Ok(DeviceName::Pcap(_)) => Err("packets are made, not played; `sidestep replay FILE` plays a capture"),
            Err(_) => Err("it must be xdp:INTERFACE, xdp:INTERFACE@QUEUE, tap:INTERFACE or wire:"),
        }
    }
}

/// Options that do not go together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// An option without which this mode cannot run.
    #[error("{mode} on {port} needs {option}: {what}")]
    Missing {
        /// The mode.
        mode: Mode,
        /// The port.
        port: PortName,
        /// The option.
        option: &'static str,
        /// What it says.
        what: &'static str,
    },
    /// An option that would be ignored.
    #[error("{option} has no meaning {with}; leave it out")]
    Useless {
        /// The option.
        option: &'static str,
        /// With which other.
        with: String,
    },
    /// Two families of addresses.
    #[error("-s is {source_address} and -d is {destination}; give two addresses of IPv4, or two of IPv6")]
    Families {
        /// As given, or its stand-in.
        source_address: IpAddr,
        /// As given, or its stand-in.
        destination: IpAddr,
    },
    /// Too short for the headers.
    #[error("-l is {asked}; over IPv6 a frame has at least {least} bytes")]
    Short {
        /// As asked.
        asked: usize,
        /// The least there can be.
        least: usize,
    },
    /// Too many flows.
    #[error("{flows} flows from the ranges of -s and -d; there can be {FLOWS_MAX} at most")]
    Flows {
        /// Flows asked for.
        flows: usize,
    },
}

impl Plan {
    /// Reads the program's command line; ends the program where that is wrong.
    pub fn read() -> Self {
        let stop = |error: PlanError| Self::command().error(ErrorKind::ArgumentConflict, error).exit();
        Self::parse().checked().unwrap_or_else(stop)
    }

    /// This plan, when its options go together.
    ///
    /// # Errors
    /// [`PlanError`], naming the option.
    pub fn checked(self) -> Result<Self, PlanError> {
        let wire = self.port == PortName::Wire;
        self.refuse_useless(wire)?;
        let missing = |option, what| PlanError::Missing { mode: self.mode, port: self.port.clone(), option, what };
        if self.source.is_none() && !wire {
            return Err(missing("-s", "an address of its own, which the kernel does not have"));
        }
        if self.destination.is_none() && !wire && self.mode.sends() {
            return Err(missing("-d", "the address to send to"));
        }
        let (source, destination) = (self.source().address, self.destination().address);
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(PlanError::Families { source_address: source, destination });
        }
        let (asked, least) = (self.frame_bytes(), frame_bytes_min(source));
        if asked < least {
            return Err(PlanError::Short { asked, least });
        }
        let ports = |endpoint: Endpoint| endpoint.ports.map_or(1, |(first, last)| usize::from(last - first) + 1);
        let flows = ports(self.source()) * ports(self.destination());
        if self.mode.sends() && flows > FLOWS_MAX { Err(PlanError::Flows { flows }) } else { Ok(self) }
    }

    fn refuse_useless(&self, wire: bool) -> Result<(), PlanError> {
        let mode = self.mode;
        let (sends, pings) = (mode.sends() || wire, mode == Mode::Ping || wire);
        let tap = matches!(self.port, PortName::Tap(_));
        let (of_mode, over_wire) = (format!("with -f {mode}"), "over wire:".to_owned());
        let useless = [
            ("-d", self.destination.is_some() && !sends, &of_mode),
            ("-D", self.destination_mac.is_some() && !sends, &of_mode),
            ("-l", self.frame_bytes.is_some() && !sends, &of_mode),
            ("-R", self.rate.is_some() && !sends, &of_mode),
            ("--window", self.window.is_some() && !pings, &of_mode),
            ("--timeout", self.timeout.is_some() && !pings, &of_mode),
            ("--poll", self.poll.is_some() && mode == Mode::Tx, &of_mode),
            ("--poll", self.poll.is_some() && self.rate.is_some(), &"with -R, which a sleeper cannot keep".to_owned()),
            ("--poll", self.poll.is_some() && wire, &over_wire),
            ("-a", self.first_cpu.is_some() && wire, &over_wire),
            ("--mode", self.attach != AttachMode::Auto && wire, &over_wire),
            ("--mode", self.attach != AttachMode::Auto && tap, &"over a TAP, which has no XDP program".to_owned()),
        ];
        match useless.into_iter().find(|(_, useless, _)| *useless) {
            Some((option, _, with)) => Err(PlanError::Useless { option, with: with.clone() }),
            None => Ok(()),
        }
    }

    /// Our address and ports.
    pub fn source(&self) -> Endpoint {
        let last = if self.threads == 1 { 7000 } else { 7000 + 64 * self.threads };
        self.endpoint(self.source, 1, (7000, last))
    }

    /// The peer's; a stand-in where nothing is sent.
    pub fn destination(&self) -> Endpoint {
        self.endpoint(self.destination, 2, (7, 7))
    }

    fn endpoint(&self, given: Option<Endpoint>, stand_in: u16, ports: (u16, u16)) -> Endpoint {
        // One of the family that the other is of, among those for documentation (RFC 5737, RFC 3849).
        let is_v6 = self.source.or(self.destination).is_some_and(|endpoint| endpoint.address.is_ipv6());
        let address = match is_v6 {
            true => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, stand_in)),
            false => IpAddr::V4(Ipv4Addr::new(192, 0, 2, stand_in as u8)),
        };
        let endpoint = given.unwrap_or(Endpoint { address, ports: None });
        Endpoint { ports: endpoint.ports.or(self.mode.sends().then_some(ports)), ..endpoint }
    }

    /// Bytes of a frame that is sent.
    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes.map_or_else(|| frame_bytes_min(self.source().address), usize::from)
    }

    /// Most frames of a thread that wait for their answer.
    pub fn window(&self) -> usize {
        self.window.unwrap_or(if self.rate.is_some() { 4096 } else { 64 }) as usize
    }

    /// How long a frame may be without an answer.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_millis(100))
    }
}

#[cfg(test)]
mod tests;
