//! What each part is given, of what the options say.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use cache::{CacheConfig, ServerFacts, ShardConfig};
use nic::QueueId;
use nic::link::Link;
use nic::xdp::{AddressMode, AttachMode, CopyMode, Transport, XdpConfig};
use stack::{Mac, StackConfig};

use super::error::SetupError;
use super::vlan;
use crate::budget;
use crate::options::{ListenPort, Mode, Options, Steering};

/// Where `cache_memlimit` may go at least, in bytes, however small `-m` is.
const CEILING_LEAST_BYTES: usize = 256 << 20;

/// Requests over UDP that a core may have begun and not answered, of about 3 KB each: several bursts that all wait for
/// another core.
const DATAGRAM_PLACES: usize = 512;

/// How long cores may take to end: far longer than one takes (`worker/run.rs`), and less than the supervisor waits for.
pub(crate) const CORES_STOP_LIMIT: Duration = Duration::from_secs(5);

/// The ports that are listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) tcp: Option<u16>,
    pub(crate) udp: Option<u16>,
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tcp, udp) = self.in_words();
        write!(f, "{tcp}{udp}")
    }
}

impl Ports {
    /// The ports that the options name; for -1 one is drawn from the range of ephemeral ports (32768 to 60999).
    pub(crate) fn of(options: &Options) -> Result<Ports, SetupError> {
        Ok(Ports { tcp: port(options.port)?, udp: port(options.udp_port)? })
    }

    /// That for TCP, and what to say behind it of the other.
    pub(crate) fn in_words(self) -> (String, String) {
        let tcp = self.tcp.map_or("no port".to_owned(), |port| port.to_string());
        (tcp, self.udp.map_or(String::new(), |port| format!(" and UDP port {port}")))
    }

    /// Each with its transport.
    pub(crate) fn listed(self) -> impl Iterator<Item = (Transport, u16)> {
        let tcp = self.tcp.map(|port| (Transport::Tcp, port));
        tcp.into_iter().chain(self.udp.map(|port| (Transport::Udp, port)))
    }

    /// What tells a data plane of them, and of the folder in which the server was started.
    pub(crate) fn mark(self, folder: &Path) -> OsString {
        let mut mark = OsString::from(format!("{} {} ", self.tcp.unwrap_or(0), self.udp.unwrap_or(0)));
        mark.push(folder);
        mark
    }

    /// The same back.
    pub(super) fn of_mark(mark: &OsStr) -> Option<(Ports, &Path)> {
        let mut words = mark.as_bytes().splitn(3, |&byte| byte == b' ');
        let mut port = || {
            let port: u16 = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
            Some((port > 0).then_some(port))
        };
        let ports = Ports { tcp: port()?, udp: port()? };
        Some((ports, Path::new(OsStr::from_bytes(words.next()?))))
    }
}

fn port(port: ListenPort) -> Result<Option<u16>, SetupError> {
    Ok(match port {
        ListenPort::Off => None,
        ListenPort::Number(port) => Some(port),
        ListenPort::Any => Some(32_768 + u16::from_le_bytes(random()?) % 28_232),
    })
}

/// What the cache is given.
pub(super) fn cache_config(options: &Options, ports: Ports) -> CacheConfig {
    let shard = ShardConfig {
        memory_bytes: options.memory_bytes,
        // As far as `cache_memlimit` may go; address space only, until it does.
        memory_ceiling_bytes: options.memory_bytes.saturating_mul(4).max(CEILING_LEAST_BYTES),
        // At most 1 GiB, which fits: `Options` has checked it.
        item_size_max: options.item_size_bytes as u32,
        evict: options.evict,
        use_cas: options.use_cas,
        slab_factor: options.slab_factor,
        slab_chunk_min: options.slab_min,
        slab_chunk_max: options.extended.slab_chunk_max,
        ..ShardConfig::default()
    };
    let server = ServerFacts {
        // The supervisor's: it was started, it takes signals, and it stands in the file of `-P`.
        pid: rustix::process::getppid().map_or(0, |parent| parent.as_raw_nonzero().get().unsigned_abs()),
        tcp_port: ports.tcp.unwrap_or(0),
        udp_port: ports.udp.unwrap_or(0),
        max_connections: options.connections,
        interface: Some(options.listen.clone().unwrap_or_else(|| options.interface.clone())),
        backlog: options.backlog,
        listeners: ports.tcp.map(|port| listeners(options, Transport::Tcp, port)).unwrap_or_default(),
        udp_listeners: ports.udp.map(|port| listeners(options, Transport::Udp, port)).unwrap_or_default(),
        locals: options.addresses.iter().map(|own| SocketAddr::new(own.address, ports.tcp.unwrap_or(0))).collect(),
        auth_file: options.auth.as_ref().map(|(path, _)| path.clone()),
        maxconns_fast: options.extended.maxconns_fast,
        idle_timeout_secs: options.extended.idle_timeout_secs,
        lru_maintainer: options.extended.lru_maintainer,
        hashpower: options.extended.hashpower,
        worker_logbuf_bytes: options.extended.worker_logbuf_bytes,
        read_buf_mem_limit_bytes: options.extended.read_buf_mem_limit_bytes,
        verbosity: options.verbose.into(),
    };
    CacheConfig {
        shard,
        cores: options.cores,
        connections_per_core: flows_per_core(options),
        datagram_places: if ports.udp.is_some() { DATAGRAM_PLACES } else { 0 },
        protocol: options.protocol,
        server,
        requests_per_take: options.requests_per_take,
        reply_limit: options.extended.reply_limit(options.cores),
        commands: options.commands,
        prefix_delimiter: options.prefix_delimiter.unwrap_or(b':'),
        detail: options.prefix_delimiter.is_some(),
        users: options.auth.as_ref().map(|(_, users)| users.clone()).unwrap_or_default(),
        cluster: options.cluster.as_ref().map(|(_, cluster)| cluster.clone()),
        watch_lines: (options.extended.worker_logbuf_bytes / cache::WATCH_LINE_BYTES).max(1),
        ..CacheConfig::default()
    }
}

/// Where is listened on, as `stats conns` shows it: at the addresses of `-l`, or else at the stack's own.
fn listeners(options: &Options, transport: Transport, port: u16) -> Vec<String> {
    let protocol = match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    let show = |address: IpAddr| match address {
        IpAddr::V4(address) => format!("{protocol}:{address}:{port}"),
        IpAddr::V6(address) => format!("{protocol}6:[{address}]:{port}"),
    };
    match options.listen_addresses() {
        Some(addresses) => addresses.into_iter().map(show).collect(),
        None => options.addresses.iter().map(|own| show(own.address)).collect(),
    }
}

/// Flows a core may have: all connections may come to one core, and those above the limit are told so.
pub(super) fn flows_per_core(options: &Options) -> usize {
    options.connections + options.backlog.min(options.connections.max(64))
}

/// What the link is opened with.
pub(super) fn xdp_config(options: &Options, ports: Ports) -> XdpConfig {
    let shared = options.steering == Steering::Shared;
    let mode = if shared { AddressMode::Shared } else { AddressMode::Own };
    let mut config = XdpConfig::new(options.interface.clone(), Ipv4Addr::UNSPECIFIED);
    config.addresses = options.addresses.iter().map(|own| (own.address, mode)).collect();
    if shared {
        config.ports = ports.listed().collect();
    }
    config.dedicated = options.steering == Steering::Dedicated;
    config.allow.clone_from(&options.allow);
    config.vlan = options.vlan;
    if let Some(size) = options.ring_size {
        (config.rx_ring, config.tx_ring) = (size, size);
    }
    (config.attach, config.copy) = match options.mode {
        Mode::Auto => (AttachMode::Auto, CopyMode::Auto),
        Mode::ZeroCopy => (AttachMode::Native, CopyMode::ZeroCopy),
        Mode::Native => (AttachMode::Native, CopyMode::Auto),
        Mode::Copy => (AttachMode::Native, CopyMode::Copy),
        Mode::Generic => (AttachMode::Generic, CopyMode::Auto),
    };
    if let Some(queues) = options.queues {
        // At most 1024, which fits: `Options` has checked it.
        config.queues = Some((0..queues as u16).map(QueueId).collect());
    }
    config
}

/// What the stack of each core is given; `peers` is the number of the other cores.
pub(super) fn stack_config(options: &Options, ports: Ports, link: &Link, peers: usize) -> StackConfig {
    // An IPv4 address first: the stack tells that apart quickest.
    let (v4, v6): (Vec<_>, Vec<_>) = options.addresses.iter().partition(|own| own.address.is_ipv4());
    let mut own = v4.into_iter().chain(v6).copied();
    let Some(first) = own.next() else { unreachable!("`Options` has checked that there is an address") };
    let mut config = StackConfig::new(first.address, first.prefix_len, Mac(link.mac.0));
    config.others.extend(own);
    config.ip_mtu = vlan::mtu(options, link) as usize;
    // What the XDP program leaves to the kernel; a TAP has none.
    config.vlan = Some(options.vlan.unwrap_or(0));
    config.arp = options.steering != Steering::Shared;
    (config.gateway, config.gateway6) = (options.gateways.v4, options.gateways.v6);
    config.partial_checksums = link.leaves_checksums();
    config.ports = ports.tcp.into_iter().collect();
    config.udp_ports = ports.udp.into_iter().collect();
    config.max_flows = flows_per_core(options);
    config.awake_flows = budget::awake_flows(options, budget::machine_bytes());
    config.syn_queue = options.backlog;
    let seconds = u64::from(options.extended.keepalive_secs);
    config.keep_alive = (seconds > 0).then(|| Duration::from_secs(seconds));
    config.conn_memory = options.extended.conn_memory(options.cores);
    // At most 63: `Options` has checked it.
    config.peers = peers as u8;
    config
}

/// Random bytes of the system's.
pub(super) fn random<const N: usize>() -> Result<[u8; N], SetupError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(SetupError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_plane_is_told_ports_and_folder() {
        for ports in [Ports { tcp: Some(11_211), udp: None }, Ports { tcp: None, udp: Some(5) }] {
            let mark = ports.mark(Path::new("/a folder/b"));
            assert_eq!(Ports::of_mark(&mark), Some((ports, Path::new("/a folder/b"))));
        }
        assert_eq!(Ports::of_mark(OsStr::new("1 x /")), None);
    }
}
