//! The command line (`Args`, as typed) and the plan it becomes once every value has been checked (`Plan`).

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use nic::xdp::{AttachMode, XskName};

use crate::packet::FRAME_BYTES_MIN;
use crate::station::{AddressError, Endpoint, Mac};

/// Frames of a run without `-n`: no limit.
pub const NO_COUNT: u64 = u64::MAX;
/// Most frames that `-n` may ask for.
pub const COUNT_MAX: u64 = 1 << 48;
/// Most bytes of a frame; the link may allow fewer.
pub const FRAME_BYTES_MAX: u64 = 9_014;
/// Most flows of one run: what a range of source ports times one of destination ports may give.
pub const FLOWS_MAX: usize = 65_536;

/// Sends, reflects and counts frames over AF_XDP, with the letters of netmap's pkt-gen.
///
/// Modes: pong sends every TCP and UDP frame for its address straight back (the null responder); ping drives it and
/// times each trip; tx sends, rx counts. All answer ARP for their address and end after -n frames, after -T seconds or
/// on ^C, with a report. Exit code 0: it ran (and, for ping, something came back); 1: it failed; 2: a wrong command line.
///
///   sidestep-pktgen -f pong -i xsk:eth1 -s 10.77.0.2
///
///   sidestep-pktgen -f ping -i xsk:eth0 -s 10.77.0.4 -d 10.77.0.2 -T 2
#[derive(Debug, Clone, Parser)]
#[command(name = "sidestep-pktgen", version, verbatim_doc_comment)]
pub struct Args {
    /// The port: xsk:INTERFACE or xsk:INTERFACE@FIRST_QUEUE (AF_XDP), or wire: (in memory, the other end played as well)
    #[arg(short = 'i', value_name = "PORT")]
    pub port: String,
    /// What to do: pong, ping, rx or tx
    #[arg(short = 'f', value_name = "MODE")]
    pub mode: String,
    /// Frames to send (ping, tx), reflect (pong) or receive (rx); without it, -T alone ends the run
    #[arg(short = 'n', value_name = "COUNT")]
    pub count: Option<u64>,
    /// Bytes of a frame that is sent, without the check sequence [default: 60]
    #[arg(short = 'l', value_name = "BYTES")]
    pub frame_bytes: Option<u64>,
    /// Most frames a turn, 1 to 64
    #[arg(short = 'b', value_name = "FRAMES", default_value_t = 64)]
    pub batch: u64,
    /// Frames a second of all threads together, for an open loop; without it, as fast as can be
    #[arg(short = 'R', value_name = "PPS")]
    pub rate: Option<u64>,
    /// Seconds to run, such as 0.5
    #[arg(short = 'T', value_name = "SECONDS", default_value_t = 10.0)]
    pub seconds: f64,
    /// Threads, each with a queue of its own
    #[arg(short = 'p', value_name = "THREADS", default_value_t = 1)]
    pub threads: u64,
    /// Pin threads from this CPU on [default: pong and rx from the first, ping and tx up to the last]
    #[arg(short = 'a', value_name = "CPU")]
    pub first_cpu: Option<usize>,
    /// Our address, which the kernel must not have, and ports: ADDRESS[:PORT[-LAST]]
    #[arg(short = 's', value_name = "ENDPOINT")]
    pub source: Option<String>,
    /// Where to send to: ADDRESS[:PORT[-LAST]]
    #[arg(short = 'd', value_name = "ENDPOINT")]
    pub destination: Option<String>,
    /// Our Ethernet address [default: that of the interface]
    #[arg(short = 'S', value_name = "MAC")]
    pub source_mac: Option<String>,
    /// Ethernet address to send to [default: asked for by ARP]
    #[arg(short = 'D', value_name = "MAC")]
    pub destination_mac: Option<String>,
    /// Where the XDP program runs: auto, native or generic
    #[arg(long = "mode", value_name = "ATTACH", default_value = "auto")]
    pub attach: String,
    /// Most frames of a thread that wait for their answer, ping only [default: 64; with -R 4096]
    #[arg(long, value_name = "FRAMES")]
    pub window: Option<u64>,
    /// Milliseconds after which a frame without an answer is lost, ping only [default: 100]
    #[arg(long, value_name = "MS")]
    pub timeout: Option<u64>,
    /// Sleep once nothing has come for so many microseconds, instead of spinning; not with tx nor -R
    #[arg(long, value_name = "US")]
    pub poll: Option<u64>,
    /// Report as one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        f.write_str(match self {
            Self::Pong => "pong",
            Self::Ping => "ping",
            Self::Rx => "rx",
            Self::Tx => "tx",
        })
    }
}

/// What `-i` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortName {
    /// Queues of an interface, over AF_XDP.
    Xsk {
        /// The interface.
        link: String,
        /// The first queue; each thread has the next.
        first_queue: u16,
    },
    /// The wire in memory.
    Wire,
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xsk { link, first_queue } => write!(f, "xsk:{link}@{first_queue}"),
            Self::Wire => f.write_str("wire:"),
        }
    }
}

/// A run whose every value has been checked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What to do.
    pub mode: Mode,
    /// On which port.
    pub port: PortName,
    /// Frames of all threads together; [`NO_COUNT`] for no limit.
    pub count: u64,
    /// Bytes of a frame that is sent.
    pub frame_bytes: usize,
    /// Most frames a turn.
    pub batch: usize,
    /// Frames a second of all threads together.
    pub rate: Option<u64>,
    /// Longest time to run.
    pub time: Duration,
    /// Threads and queues.
    pub threads: u16,
    /// The first CPU to pin a thread to, if one was given.
    pub first_cpu: Option<usize>,
    /// Our address and ports.
    pub source: Endpoint,
    /// The peer's; also set, and not used, where nothing is sent.
    pub destination: Endpoint,
    /// Our Ethernet address, unless it is the interface's.
    pub source_mac: Option<Mac>,
    /// The peer's, unless it has to be asked for.
    pub destination_mac: Option<Mac>,
    /// Where the XDP program runs.
    pub attach: AttachMode,
    /// Most frames of a thread that wait for their answer.
    pub window: usize,
    /// When a frame is lost.
    pub timeout: Duration,
    /// Sleep after so long without a frame; `None` spins.
    pub poll: Option<Duration>,
    /// Report as JSON.
    pub json: bool,
}

/// What is wrong with a command line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArgsError {
    /// The mode is not one of those there are.
    #[error("-f is '{0}'; the modes are pong, ping, rx and tx")]
    Mode(String),
    /// The port cannot be read.
    #[error("-i is '{0}'; it must be xsk:INTERFACE, xsk:INTERFACE@QUEUE or wire:")]
    Port(String),
    /// The place of the XDP program is not one of those there are.
    #[error("--mode is '{0}'; it must be auto, native or generic")]
    Attach(String),
    /// A number is outside its limits.
    #[error("{option} is {value}; it must be from {least} to {most}")]
    Range {
        /// The option.
        option: &'static str,
        /// As typed.
        value: String,
        /// Smallest value allowed.
        least: f64,
        /// Largest value allowed.
        most: f64,
    },
    /// An address cannot be read.
    #[error("{option}: {source}")]
    Address {
        /// The option.
        option: &'static str,
        /// What is wrong with it.
        #[source]
        source: AddressError,
    },
    /// Something that is needed is missing.
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
    /// An option has no meaning here.
    #[error("{option} has no meaning {with}; leave it out")]
    Useless {
        /// The option.
        option: &'static str,
        /// With what it has none.
        with: String,
    },
    /// Too many flows.
    #[error("{flows} flows from the ranges of -s and -d; there can be {FLOWS_MAX} at most")]
    Flows {
        /// Source ports times destination ports.
        flows: usize,
    },
}

fn within(option: &'static str, value: u64, least: u64, most: u64) -> Result<u64, ArgsError> {
    match (least..=most).contains(&value) {
        true => Ok(value),
        false => Err(ArgsError::Range { option, value: value.to_string(), least: least as f64, most: most as f64 }),
    }
}

fn read<T: FromStr<Err = AddressError>>(option: &'static str, text: Option<&String>) -> Result<Option<T>, ArgsError> {
    text.map(|text| text.parse().map_err(|source| ArgsError::Address { option, source })).transpose()
}

impl FromStr for PortName {
    type Err = ArgsError;

    fn from_str(text: &str) -> Result<Self, ArgsError> {
        let wrong = || ArgsError::Port(text.to_owned());
        if text == "wire:" {
            return Ok(Self::Wire);
        }
        let name: XskName = text.parse().map_err(|_| wrong())?;
        Ok(Self::Xsk { link: name.link, first_queue: name.first_queue })
    }
}

impl Args {
    /// Checks every value.
    ///
    /// # Errors
    /// [`ArgsError`], naming the option, its value and its limits.
    pub fn plan(&self) -> Result<Plan, ArgsError> {
        let mode = match self.mode.as_str() {
            "pong" => Mode::Pong,
            "ping" => Mode::Ping,
            "rx" => Mode::Rx,
            "tx" => Mode::Tx,
            other => return Err(ArgsError::Mode(other.to_owned())),
        };
        let port: PortName = self.port.parse()?;
        let attach: AttachMode = self.attach.parse().map_err(|_| ArgsError::Attach(self.attach.clone()))?;
        self.refuse_useless(mode, &port, attach)?;
        let threads = within("-p", self.threads, 1, 64)? as u16;
        if !(0.01..=86_400.0).contains(&self.seconds) {
            let value = self.seconds.to_string();
            return Err(ArgsError::Range { option: "-T", value, least: 0.01, most: 86_400.0 });
        }
        let window = self.window.unwrap_or(if self.rate.is_some() { 4096 } else { 64 });
        let (source, destination) = self.endpoints(mode, &port, threads)?;
        Ok(Plan {
            mode,
            count: self.count.map_or(Ok(NO_COUNT), |count| within("-n", count, 1, COUNT_MAX))?,
            frame_bytes: within("-l", self.frame_bytes.unwrap_or(60), FRAME_BYTES_MIN as u64, FRAME_BYTES_MAX)?
                as usize,
            batch: within("-b", self.batch, 1, nic::BURST as u64)? as usize,
            rate: self.rate.map(|rate| within("-R", rate, 1, 1_000_000_000)).transpose()?,
            time: Duration::from_secs_f64(self.seconds),
            threads,
            first_cpu: self.first_cpu,
            source,
            destination,
            source_mac: read("-S", self.source_mac.as_ref())?,
            destination_mac: read("-D", self.destination_mac.as_ref())?,
            attach,
            window: within("--window", window, 1, 65_536)? as usize,
            timeout: Duration::from_millis(within("--timeout", self.timeout.unwrap_or(100), 1, 60_000)?),
            poll: self.poll.map(|us| within("--poll", us, 0, 1_000_000).map(Duration::from_micros)).transpose()?,
            json: self.json,
            port,
        })
    }

    fn refuse_useless(&self, mode: Mode, port: &PortName, attach: AttachMode) -> Result<(), ArgsError> {
        let wire = *port == PortName::Wire;
        // Over the wire the other end is played too, so that what it needs has a meaning.
        let (sends, pings) = (mode.sends() || wire, mode == Mode::Ping || wire);
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
            ("--mode", attach != AttachMode::Auto && wire, &over_wire),
        ];
        match useless.into_iter().find(|(_, useless, _)| *useless) {
            Some((option, _, with)) => Err(ArgsError::Useless { option, with: with.clone() }),
            None => Ok(()),
        }
    }

    fn endpoints(&self, mode: Mode, port: &PortName, threads: u16) -> Result<(Endpoint, Endpoint), ArgsError> {
        let missing = |option, what| ArgsError::Missing { mode, port: port.clone(), option, what };
        // Documentation addresses (RFC 5737) where there is no network; and where nothing is sent, for want of a peer.
        let stand_in = |last| Endpoint { address: Ipv4Addr::new(192, 0, 2, last), ports: None };
        let wire = *port == PortName::Wire;
        let mut source = match read("-s", self.source.as_ref())? {
            Some(source) => source,
            None if wire => stand_in(1),
            None => return Err(missing("-s", "an address of its own, which the kernel does not have")),
        };
        let mut destination = match read("-d", self.destination.as_ref())? {
            Some(destination) => destination,
            None if wire || !mode.sends() => stand_in(2),
            None => return Err(missing("-d", "the address to send to")),
        };
        if mode.sends() {
            // Enough flows that every queue has one, where flows are spread by a hash.
            source.ports.get_or_insert((7000, if threads == 1 { 7000 } else { 7000 + 64 * threads }));
            destination.ports.get_or_insert((7, 7));
            let ports = |endpoint: Endpoint| endpoint.ports.map_or(1, |(first, last)| usize::from(last - first) + 1);
            let flows = ports(source) * ports(destination);
            if flows > FLOWS_MAX {
                return Err(ArgsError::Flows { flows });
            }
        }
        Ok((source, destination))
    }
}

#[cfg(test)]
mod tests;
