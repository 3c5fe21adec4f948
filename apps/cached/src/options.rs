//! The command line: memcached's letters where memcached has one, checked before anything is opened.
//!
//! clap reads `Flags`: each value by a function of ours that checks it, and says value, unit, limit and next step in
//! one line where it is wrong. [`Options`] is what holds once the options have been checked against each other.

use std::ffi::OsString;
use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use cache::{Cluster, Commands, Network, Protocol, User};
use clap::Parser;
use nic::link::VlanLink;
use nic::wait_mode::WaitMode;
use nic::{DeviceName, IpFamily};
use stack::OwnAddress;

/// The file of `--cluster`.
mod cluster;
/// What the device and the network of the options can do for each other.
mod device;
/// Why a command line is refused.
mod error;
/// `-o`.
mod extended;
/// What was typed.
mod flags;
/// `-l`.
mod listen;
/// Numbers as memcached reads them.
mod number;
/// The values of options.
mod read;
/// The file of `-Y`.
mod users;

pub(crate) use cluster::{cluster_in, cluster_text};
pub use device::Gateways;
pub use error::{OptionError, Refusal};
pub use extended::Extended;
pub use read::{ListenPort, Mode, Steering};
pub(crate) use users::users_in;

use cluster::read_cluster;
use device::{check_addresses, device_of, gateways};
use flags::Flags;
use listen::{listen_list, listen_port};
use number::Noted;
use read::{Cpus, ITEM_SIZE_BYTES, TCP_PORT, THREADS, Trusted, auth, threads_for, time_to_look};

/// What holds: every value within its limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// What to serve on: an interface over AF_XDP, or a TAP.
    pub device: DeviceName,
    /// Its name alone.
    pub interface: String,
    /// The stack's own addresses, or the kernel's that it shares, each with its network: at least one.
    pub addresses: Vec<OwnAddress>,
    /// The routers to other networks.
    pub gateways: Gateways,
    /// The VLAN whose frames are the server's, by the number of its tag; `None`: frames without a tag.
    pub vlan: Option<u16>,
    /// The kernel's interface of that VLAN, if it was named.
    pub vlan_link: Option<VlanLink>,
    /// Which frames are the server's.
    pub steering: Steering,
    /// Networks (address and prefix length) that are served; empty: all.
    pub allow: Vec<(IpAddr, u8)>,
    /// TCP port.
    pub port: ListenPort,
    /// UDP port.
    pub udp_port: ListenPort,
    /// Sources whose requests over UDP are answered in full.
    pub udp_trust: Vec<Network>,
    /// `-l`, as typed.
    pub listen: Option<String>,
    /// Cores, each with its thread and shard.
    pub cores: usize,
    /// Memory for items, index and what is in flight, of all cores together.
    pub memory_bytes: usize,
    /// Whether the oldest items make room for new ones.
    pub evict: bool,
    /// Most connections, over all cores.
    pub connections: usize,
    /// Most half-open connections of a core.
    pub backlog: usize,
    /// Most requests of a connection before others have their turn.
    pub requests_per_take: u32,
    /// Largest item, key and header included.
    pub item_size_bytes: usize,
    /// Growth factor of the slab classes by which items are reported.
    pub slab_factor: f64,
    /// Least space for key, value and flags in those classes, in bytes.
    pub slab_min: u32,
    /// What connections speak.
    pub protocol: Protocol,
    /// Whether items have cas uniques.
    pub use_cas: bool,
    /// Which commands are obeyed.
    pub commands: Commands,
    /// What ends a key's prefix, if prefixes are counted from the start.
    pub prefix_delimiter: Option<u8>,
    /// The file of `-Y`, and who is in it.
    pub auth: Option<(String, Vec<User>)>,
    /// The file of `--cluster`, and what it says.
    pub cluster: Option<(PathBuf, Cluster)>,
    /// Whether to run in the background.
    pub daemon: bool,
    /// Where the process's number goes.
    pub pid_file: Option<PathBuf>,
    /// Who to go on as.
    pub user: Option<String>,
    /// `-o`.
    pub extended: Extended,
    /// How the XDP program is attached.
    pub mode: Mode,
    /// Most queues to open.
    pub queues: Option<usize>,
    /// Descriptors of a queue's receive ring, and of its transmit ring, if that was said.
    pub ring_size: Option<u32>,
    /// CPUs to pin to; empty: those the process may use.
    pub cpus: Vec<usize>,
    /// How a thread without work waits.
    pub wait: WaitMode,
    /// How long an idle thread looks for work before it sleeps.
    pub spin: Duration,
    /// Folder for a capture of every frame.
    pub capture: Option<PathBuf>,
    /// Socket of the control channel, if it is not where it usually is.
    pub control: Option<PathBuf>,
    /// How often -v was given.
    pub verbose: u8,
    /// What was taken and changes nothing, or was changed: said at the start.
    pub notes: Vec<String>,
}

impl Options {
    /// Reads a command line, of which the first word is the program's name.
    ///
    /// # Errors
    /// [`Refusal`]: what to print instead of serving.
    pub fn read<T: Into<OsString> + Clone>(words: impl IntoIterator<Item = T>) -> Result<Options, Refusal> {
        let flags = Flags::try_parse_from(words).map_err(Refusal::of)?;
        Options::of(flags).map_err(Refusal::Option)
    }

    /// The server's addresses with that port, for messages; of many the first and how many more there are.
    pub(crate) fn at(&self, port: impl Display) -> String {
        let show = |address| match address {
            IpAddr::V4(address) => format!("{address}:{port}"),
            IpAddr::V6(address) => format!("[{address}]:{port}"),
        };
        self.shown(show)
    }

    /// The server's addresses, likewise.
    pub(crate) fn shown_addresses(&self) -> String {
        self.shown(|address| address.to_string())
    }

    fn shown(&self, show: impl Fn(IpAddr) -> String) -> String {
        let shown: Vec<_> = self.addresses.iter().take(SHOWN).map(|own| show(own.address)).collect();
        match self.addresses.len() - shown.len() {
            0 => shown.join(", "),
            more => format!("{} and {more} more", shown.join(", ")),
        }
    }

    /// Whether the server has an address of that family.
    pub(crate) fn has(&self, family: IpFamily) -> bool {
        self.addresses.iter().any(|own| IpFamily::of(own.address) == family)
    }

    /// The addresses of `-l`, if it was given.
    pub(crate) fn listen_addresses(&self) -> Option<Vec<IpAddr>> {
        self.listen.as_deref().map(listen::addresses)
    }

    /// Checks what options say of each other.
    fn of(mut flags: Flags) -> Result<Options, OptionError> {
        flags.foreign.check()?;
        let (device, interface) = device_of(&mut flags)?;
        let mut extended = Extended::read(&flags.extended, flags.debug_commands)?;
        let mut notes = std::mem::take(&mut extended.notes);
        notes.extend(flags.operands.iter().filter_map(|word| note_of_operand(word)));
        let commands = flags.commands(extended.lru_crawler);
        let memory_bytes = (flags.memory.take(&mut notes) as usize) << 20;
        let cores = threads(flags.threads, memory_bytes, flags.item_size, &mut notes);
        let udp_port = flags.udp_port.take(&mut notes);
        let tcp_port = flags.port.map(|port| port.take(&mut notes));
        let protocol = protocol(flags.protocol, flags.auth_file.is_some(), udp_port)?;
        check_addresses(&flags.address)?;
        let listen = listen_list(flags.listen);
        let (port, udp_port) = ports(tcp_port, udp_port, listen_port(listen.as_deref(), &flags.address)?);
        Ok(Options {
            device,
            interface,
            gateways: gateways(&flags.gateway, &flags.address, flags.steering)?,
            addresses: flags.address,
            vlan: flags.vlan,
            vlan_link: None,
            steering: flags.steering,
            allow: flags.allow,
            port,
            udp_port,
            udp_trust: udp_trust(flags.udp_trust, udp_port)?,
            listen,
            cores,
            memory_bytes,
            evict: !flags.no_evict,
            connections: flags.connections.take(&mut notes) as usize,
            // A kernel keeps one half-open connection for a backlog of 0 as well.
            backlog: flags.backlog.take(&mut notes).max(1) as usize,
            // Both fit 32 bits: their limits say so.
            requests_per_take: flags.requests.take(&mut notes) as u32,
            item_size_bytes: flags.item_size.unwrap_or(ITEM_SIZE_BYTES),
            slab_factor: flags.slab_factor,
            slab_min: flags.slab_min.take(&mut notes) as u32,
            protocol,
            use_cas: !flags.no_cas,
            commands,
            prefix_delimiter: flags.prefix_delimiter,
            auth: flags.auth_file.as_deref().map(auth).transpose()?,
            cluster: flags.cluster.map(|path| Ok((path.clone(), read_cluster(&path, None)?))).transpose()?,
            daemon: flags.daemon,
            pid_file: flags.pid_file,
            user: flags.user,
            extended,
            mode: flags.mode,
            queues: flags.queues,
            ring_size: flags.ring_size,
            cpus: cpus(flags.cpus, cores)?,
            wait: flags.wait,
            spin: time_to_look(flags.wait, flags.spin)?,
            capture: flags.capture,
            control: flags.control,
            verbose: flags.verbose,
            notes,
        })
    }
}

/// Addresses of which messages tell.
const SHOWN: usize = 4;

/// What to say of a word that is no option; `None` of blanks.
fn note_of_operand(word: &str) -> Option<String> {
    let word = word.trim();
    (!word.is_empty()).then(|| format!("{word}: no option begins so; memcached takes no notice of it either"))
}

/// The number of threads: what is asked for, or as many as the store has room for, if the largest item is not given either.
fn threads(asked: Option<Noted<u64>>, memory_bytes: usize, item_size: Option<usize>, notes: &mut Vec<String>) -> usize {
    match asked {
        Some(asked) => asked.take(notes) as usize,
        None if item_size.is_some() => THREADS,
        None => threads_for(memory_bytes, notes),
    }
}

/// The ports for TCP and UDP. As in memcached `-U` alone is both (main, "udp_specified"); a port in `-l` is for both, where
/// they are not off.
fn ports(tcp: Option<ListenPort>, udp: ListenPort, listen: Option<u16>) -> (ListenPort, ListenPort) {
    let tcp = tcp.unwrap_or(if udp == ListenPort::Off { TCP_PORT } else { udp });
    let port = |port| match listen {
        Some(number) if port != ListenPort::Off => ListenPort::Number(number),
        _ => port,
    };
    (port(tcp), port(udp))
}

/// Whose requests over UDP are answered in full, of which there can be none without UDP.
fn udp_trust(trusted: Vec<Trusted>, udp_port: ListenPort) -> Result<Vec<Network>, OptionError> {
    match trusted.first() {
        Some(first) if udp_port == ListenPort::Off => {
            let why = "there is no UDP to trust anybody with; give -U PORT too";
            Err(OptionError::Refused { option: format!("--udp-trust {}", first.text), why })
        }
        _ => Ok(trusted.into_iter().map(|trusted| trusted.network).collect()),
    }
}

/// The CPUs to pin to, of which there is one for each core if there are any.
fn cpus(named: Option<Cpus>, cores: usize) -> Result<Vec<usize>, OptionError> {
    let cpus = named.map_or(Vec::new(), |cpus| cpus.0);
    if !cpus.is_empty() && cpus.len() < cores {
        return Err(OptionError::Cpus { named: cpus.len(), threads: cores });
    }
    Ok(cpus)
}

/// The protocol that connections speak: the text protocol alone where names are asked for, and then no datagrams.
fn protocol(asked: Protocol, names: bool, udp_port: ListenPort) -> Result<Protocol, OptionError> {
    if !names {
        return Ok(asked);
    }
    if asked == Protocol::Binary {
        let why = "names and passwords are only of the text protocol; give -B ascii, or leave -Y out";
        return Err(OptionError::Refused { option: "-B binary -Y".to_owned(), why });
    }
    if udp_port != ListenPort::Off {
        let why = "a datagram has no connection on which names and passwords could be asked for; give -U 0";
        return Err(OptionError::Refused { option: format!("-U {udp_port} -Y"), why });
    }
    Ok(Protocol::Ascii)
}

#[cfg(test)]
mod tests;
