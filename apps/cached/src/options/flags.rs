//! What was typed: memcached's letters, and the names that are ours, each value read and checked for itself.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use cache::{Commands, Protocol};
use clap::Parser;
use nic::DeviceName;
use nic::wait_mode::WaitMode;
use stack::OwnAddress;

use super::error::OptionError;
use super::number::Noted;
use super::read::{
    self, BACKLOG, CONNECTIONS, CORES, Cpus, ListenPort, MEMORY, Mode, REQUESTS, SLAB_MIN, Steering, Trusted,
};

/// What was typed.
#[derive(Debug, Parser)]
#[command(name = "sidestep-cached", version, about = "A memcached-compatible cache server on AF_XDP sockets")]
// As getopt_long(3): of an option given twice the last wins, and a long name may be cut as long as it is unambiguous.
#[command(args_override_self = true, infer_long_args = true)]
pub(super) struct Flags {
    /// Network interface to serve on, such as eth1; short for --device xdp:eth1
    #[arg(long, value_name = "NAME", value_parser = read::name, required_unless_present = "device", conflicts_with = "device")]
    pub(super) interface: Option<String>,
    /// What to serve on: xdp:NAME, an interface over AF_XDP, or tap:NAME, a TAP interface, which is made if there is none of
    /// that name
    #[arg(long, value_name = "KIND:NAME", value_parser = read::device)]
    pub(super) device: Option<DeviceName>,
    /// The stack's own address and prefix, of IPv4 or IPv6, such as 10.77.0.2/24 or 2001:db8::2/64; may be given up to 64
    /// times, and is served at each. It must not be the kernel's, unless it is shared
    #[arg(long, value_name = "ADDRESS/PREFIX", value_parser = read::host_address, required = true)]
    pub(super) address: Vec<OwnAddress>,
    /// Router to other networks, on the network of an --address, or of IPv6 by its address on the link (fe80::1); once for each
    /// family. Default: as the kernel's routes of the interface say, and go on saying
    #[arg(long, value_name = "ADDRESS", value_parser = read::gateway)]
    pub(super) gateway: Vec<IpAddr>,
    /// VLAN whose frames are the server's, by the number of their 802.1Q tag, 1 to 4094; those of others and without a tag are
    /// the kernel's. An interface of a VLAN, such as eth0.100, says the same; default: frames without a tag
    #[arg(long, value_name = "NUMBER", value_parser = read::vlan)]
    pub(super) vlan: Option<u16>,
    /// Which frames are the server's: own (all for --address), shared (those for its ports; --address is the kernel's
    /// too, which keeps ARP, ping and every other port) or dedicated (every frame of the queues)
    #[arg(long, value_name = "WAY", default_value = "own", value_parser = read::steering)]
    pub(super) steering: Steering,
    /// Sources that are served, such as 10.77.0.0/16 or 2001:db8::/32; may be given more than once. Packets of others are
    /// dropped, before they cost anything; default: all are served
    #[arg(long, value_name = "ADDRESS/PREFIX", value_parser = read::allowed)]
    pub(super) allow: Vec<(IpAddr, u8)>,
    /// TCP port to listen on, 1 to 65535; 0: none, -1: any free one [default: 11211]
    #[arg(short = 'p', long = "port", value_name = "PORT", value_parser = read::tcp_port, allow_negative_numbers = true)]
    pub(super) port: Option<Noted<ListenPort>>,
    /// UDP port to listen on, 1 to 65535, also the TCP port unless -p is given; 0: none, -1: any free one
    #[arg(short = 'U', long = "udp-port", aliases = ["ud", "udp", "udp-"], value_name = "PORT", default_value = "0", value_parser = read::udp_port, allow_negative_numbers = true)]
    pub(super) udp_port: Noted<ListenPort>,
    /// Sources whose requests over UDP are answered in full, such as 10.77.0.0/16 or 2001:db8::/32; may be given more than
    /// once. Others, loopback too, are sent no more than three times what they send
    #[arg(long = "udp-trust", value_name = "ADDRESS/PREFIX", value_parser = read::trusted)]
    pub(super) udp_trust: Vec<Trusted>,
    /// Addresses to listen on, by commas or by more than one -l: those of --address, or * for all, 0.0.0.0 for all of IPv4, ::
    /// for all of IPv6; with :PORT (of IPv6 [ADDRESS]:PORT) if it is not that of -p and -U. None may be left out
    #[arg(short = 'l', long = "listen", value_name = "ADDRESS", value_parser = read::name)]
    pub(super) listen: Vec<String>,
    /// Threads, one core and one shard of the cache each, 1 to 64 [default: 4, fewer if -m is too small for them]
    #[arg(short = 't', long = "threads", value_name = "NUMBER", value_parser = |text: &str| CORES.read(text), allow_negative_numbers = true)]
    pub(super) threads: Option<Noted<u64>>,
    /// Memory for items, index and what is in flight, in megabytes
    #[arg(short = 'm', long = "memory-limit", value_name = "MB", default_value = "64", value_parser = |text: &str| MEMORY.read(text), allow_negative_numbers = true)]
    pub(super) memory: Noted<u64>,
    /// Answer an error when memory is full instead of evicting the oldest items
    #[arg(short = 'M', long = "disable-evictions")]
    pub(super) no_evict: bool,
    /// Most connections at a time, over all cores
    #[arg(
        short = 'c',
        long = "conn-limit",
        aliases = ["c", "co", "con"],
        value_name = "NUMBER",
        default_value = "1024",
        value_parser = |text: &str| CONNECTIONS.read(text),
        allow_negative_numbers = true
    )]
    pub(super) connections: Noted<u64>,
    /// Most half-open connections of a core
    #[arg(
        short = 'b',
        long = "listen-backlog",
        value_name = "NUMBER",
        default_value = "1024",
        value_parser = |text: &str| BACKLOG.read(text),
        allow_negative_numbers = true
    )]
    pub(super) backlog: Noted<u64>,
    /// Most requests of a connection before others have their turn
    #[arg(
        short = 'R',
        long = "max-reqs-per-event",
        value_name = "NUMBER",
        default_value = "64",
        value_parser = |text: &str| REQUESTS.read(text),
        allow_negative_numbers = true
    )]
    pub(super) requests: Noted<u64>,
    /// Largest item, such as 512k or 1m
    #[arg(short = 'I', long = "max-item-size", value_name = "SIZE", value_parser = read::item_size)]
    pub(super) item_size: Option<usize>,
    /// Growth factor of the slab classes by which items are reported
    #[arg(short = 'f', long = "slab-growth-factor", value_name = "FACTOR", default_value = "1.25", value_parser = read::slab_factor)]
    pub(super) slab_factor: f64,
    /// Least space for key, value and flags in those classes, in bytes
    #[arg(
        short = 'n',
        long = "slab-min-size",
        value_name = "BYTES",
        default_value = "48",
        value_parser = |text: &str| SLAB_MIN.read(text),
        allow_negative_numbers = true
    )]
    pub(super) slab_min: Noted<u64>,
    /// Protocol: auto (by a connection's first byte), ascii or binary
    #[arg(short = 'B', long = "protocol", value_name = "NAME", default_value = "auto", value_parser = read::protocol)]
    pub(super) protocol: Protocol,
    /// Disable cas uniques: gets answers 0
    #[arg(short = 'C', long = "disable-cas")]
    pub(super) no_cas: bool,
    /// Disable flush_all
    #[arg(short = 'F', long = "disable-flush-all")]
    pub(super) no_flush: bool,
    /// Disable stats cachedump, lru_crawler metadump and mgdump
    #[arg(short = 'X', long = "disable-dumping")]
    pub(super) no_dump: bool,
    /// Disable watch
    #[arg(short = 'W', long = "disable-watch")]
    pub(super) no_watch: bool,
    /// Enable the command shutdown
    #[arg(short = 'A', long = "enable-shutdown")]
    pub(super) shutdown: bool,
    /// Count by key prefix, which CHAR ends; also turned on by `stats detail on` [default: off, and a colon]
    #[arg(short = 'D', value_name = "CHAR", value_parser = read::delimiter)]
    pub(super) prefix_delimiter: Option<u8>,
    /// Only who says name and password may speak; a file of lines name:password
    #[arg(short = 'Y', long = "auth-file", alias = "a", value_name = "FILE")]
    pub(super) auth_file: Option<PathBuf>,
    /// Tell clients that ask (`config get cluster`, as in Amazon ElastiCache) of the nodes in FILE, a line
    /// HOST|ADDRESS|PORT each; read again at SIGHUP
    #[arg(long, value_name = "FILE")]
    pub(super) cluster: Option<PathBuf>,
    /// Run in the background; the command returns once requests are answered
    #[arg(short = 'd', long = "daemon")]
    pub(super) daemon: bool,
    /// Write the process's number to FILE
    #[arg(short = 'P', long = "pidfile", value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,
    /// Go on as USER once everything is open
    #[arg(short = 'u', long = "user", value_name = "USER", value_parser = read::name)]
    pub(super) user: Option<String>,
    /// Extended options, separated by commas: maxconns_fast, no_maxconns_fast, idle_timeout=SECONDS, keepalive=SECONDS,
    /// conn_memory=MEGABYTES, awake_flows=NUMBER, lru_crawler, no_lru_crawler, slab_chunk_max=KILOBYTES, worker_logbuf_size=KILOBYTES,
    /// hashpower=N, modern, no_modern; what only tunes memcached's own machinery is taken with a note
    #[arg(short = 'o', long = "extended", value_name = "LIST")]
    pub(super) extended: Vec<String>,
    /// How frames come: auto (the best there is), zero-copy, native (with zero copy or without), copy (native without), or
    /// generic
    #[arg(long, value_name = "MODE", default_value = "auto", value_parser = read::mode)]
    pub(super) mode: Mode,
    /// Most queues to open; default: all that the interface has
    #[arg(long, value_name = "NUMBER", value_parser = read::queues)]
    pub(super) queues: Option<usize>,
    /// Descriptors of each queue's receive and transmit ring, a power of two: how many frames may wait, and how much memory
    /// they take [default: 2048]
    #[arg(long, value_name = "NUMBER", value_parser = read::ring_size)]
    pub(super) ring_size: Option<u32>,
    /// CPUs to pin the threads to, such as 0,2,4; default: the CPUs this process may use, in order
    #[arg(long, value_name = "LIST", value_parser = read::cpus)]
    pub(super) cpus: Option<Cpus>,
    /// How a thread without work waits: auto (looks for --spin microseconds, then sleeps), spin (never sleeps, and asks the
    /// NIC's driver for frames itself) or irq (sleeps at once; interrupts are suspended while frames keep coming)
    #[arg(long, value_name = "WAY", default_value = "auto", value_parser = read::wait)]
    pub(super) wait: WaitMode,
    /// Microseconds that an idle thread looks for work before it sleeps, with --wait auto [default: 50]
    #[arg(long, value_name = "MICROSECONDS", value_parser = read::spin)]
    pub(super) spin: Option<Duration>,
    /// Record every frame in and out to DIR/queue-N.pcap
    #[arg(long, value_name = "DIR")]
    pub(super) capture: Option<PathBuf>,
    /// Socket by which `sidestep ctl` governs the server [default: /run/sidestep/INTERFACE.NAMESPACE.sock]
    #[arg(long, value_name = "PATH")]
    pub(super) control: Option<PathBuf>,
    /// Obey debugtime, which moves the cache's clock: for tests
    #[arg(long)]
    pub(super) debug_commands: bool,
    /// Say more (twice: more still); RUST_LOG overrides
    #[arg(short = 'v', long = "verbose", action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    #[command(flatten)]
    pub(super) foreign: Foreign,
    /// What is no option: memcached takes no notice of it.
    #[arg(hide = true)]
    pub(super) operands: Vec<String>,
}

impl Flags {
    /// Which commands are obeyed; `lru_crawler` is what `-o` says of those.
    pub(super) fn commands(&self, lru_crawler: bool) -> Commands {
        Commands {
            flush: !self.no_flush,
            dump: !self.no_dump,
            watch: !self.no_watch,
            shutdown: self.shutdown,
            debug: self.debug_commands,
            lru_crawler,
        }
    }
}

/// memcached's letters that are not kept here: read so that each is refused with its reason.
#[derive(Debug, clap::Args)]
pub(super) struct Foreign {
    #[arg(short = 's', long = "unix-socket", hide = true)]
    pub(super) socket: Option<String>,
    #[arg(short = 'a', long = "unix-mask", hide = true)]
    pub(super) socket_mask: Option<String>,
    #[arg(short = 'e', long = "memory-file", hide = true)]
    pub(super) memory_file: Option<String>,
    #[arg(short = 'N', long = "napi-ids", hide = true)]
    pub(super) napi_ids: Option<String>,
    #[arg(short = 'S', long = "enable-sasl", hide = true)]
    pub(super) sasl: bool,
    #[arg(short = 'Z', long = "enable-ssl", hide = true)]
    pub(super) tls: bool,
    #[arg(short = 'k', long = "lock-memory", hide = true)]
    pub(super) lock_memory: bool,
    #[arg(short = 'L', long = "enable-largepages", hide = true)]
    pub(super) large_pages: bool,
    #[arg(short = 'r', long = "enable-coredumps", hide = true)]
    pub(super) core_dumps: bool,
    #[arg(short = 'i', long = "license", hide = true)]
    pub(super) license: bool,
}

impl Foreign {
    pub(super) fn check(&self) -> Result<(), OptionError> {
        let refused = [
            ("-s", self.socket.is_some(), "there is no UNIX socket, clients come over the interface; leave it out"),
            ("-a", self.socket_mask.is_some(), "there is no UNIX socket; leave it out"),
            ("-e", self.memory_file.is_some(), "items do not outlive the process; leave it out"),
            ("-N", self.napi_ids.is_some(), "each core polls queues of its own already; see --queues and -t"),
            ("-S", self.sasl, "there is no SASL; -Y FILE asks for name and password in the text protocol"),
            ("-Z", self.tls, "there is no TLS; put a TLS proxy in front, or leave it out"),
            ("-k", self.lock_memory, "memory is not locked; run without swap, or leave it out"),
            (
                "-L",
                self.large_pages,
                "huge pages are taken where enough are free (sysctl vm.nr_hugepages); leave it out",
            ),
            ("-r", self.core_dumps, "set the limit of core dumps where the server is started (ulimit -c)"),
            ("-i", self.license, "the licences are in Cargo.toml: MIT or Apache-2.0"),
        ];
        match refused.iter().find(|(_, given, _)| *given) {
            Some(&(option, _, why)) => Err(OptionError::Refused { option: option.to_owned(), why }),
            None => Ok(()),
        }
    }
}
