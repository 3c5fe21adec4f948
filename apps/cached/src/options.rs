//! The command line: memcached's letters where memcached has one, checked before anything is opened.
//!
//! clap reads `Flags`: each value by a function of ours that checks it, and says value, unit, limit and next step in
//! one line where it is wrong. [`Options`] is what holds once the options have been checked against each other.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use cache::{Cluster, Commands, Network, Protocol, User};
use clap::Parser;
use nic::DeviceName;
use nic::link::VlanLink;
use nic::wait_mode::WaitMode;

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
/// Numbers as memcached reads them.
mod number;
/// The values of options.
mod read;
/// The file of `-Y`.
mod users;

pub(crate) use cluster::{cluster_in, cluster_text};
pub use error::{OptionError, Refusal};
pub use extended::Extended;
pub use read::{ListenPort, Mode, Steering};
pub(crate) use users::users_in;

use cluster::read_cluster;
use device::{device_of, gateway};
use flags::Flags;
use number::Noted;
use read::{
    Cpus, ITEM_SIZE_BYTES, TCP_PORT, THREADS, Trusted, auth, listen_list, listen_port, threads_for, time_to_look,
};

/// What holds: every value within its limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// What to serve on: an interface over AF_XDP, or a TAP.
    pub device: DeviceName,
    /// Its name alone.
    pub interface: String,
    /// The stack's own address, or the kernel's that it shares.
    pub address: Ipv4Addr,
    /// Bits of the network part of `address`.
    pub prefix: u8,
    /// The router to other networks; `None`: as the kernel's routes say.
    pub gateway: Option<Ipv4Addr>,
    /// The VLAN whose frames are the server's, by the number of its tag; `None`: frames without a tag.
    pub vlan: Option<u16>,
    /// The kernel's interface of that VLAN, if it was named.
    pub vlan_link: Option<VlanLink>,
    /// Which frames are the server's.
    pub steering: Steering,
    /// Networks (address and prefix length) that are served; empty: all.
    pub allow: Vec<(Ipv4Addr, u8)>,
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
        let listen = listen_list(flags.listen);
        let (port, udp_port) = ports(tcp_port, udp_port, listen_port(listen.as_deref(), flags.address.0)?);
        Ok(Options {
            device,
            interface,
            address: flags.address.0,
            prefix: flags.address.1,
            vlan: flags.vlan,
            vlan_link: None,
            gateway: gateway(flags.gateway, flags.address, flags.steering)?,
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
mod tests {
    use super::read::{host_address, item_size};
    use super::*;

    fn options(more: &[&str]) -> Result<Options, OptionError> {
        let always = ["sidestep-cached", "--interface", "ss0", "--address", "10.77.0.2/24"];
        Options::read(always.iter().chain(more)).map_err(|refusal| match refusal {
            Refusal::Option(error) => error,
            Refusal::Message(message) => panic!("clap takes every one of these: {message}"),
        })
    }

    #[test]
    fn the_defaults_are_memcacheds() {
        let options = options(&[]).expect("defaults are within their limits");
        assert_eq!((options.port, options.cores, options.connections), (ListenPort::Number(11211), 4, 1024));
        assert_eq!((options.memory_bytes, options.item_size_bytes), (64 << 20, 1 << 20));
        assert!(options.evict && options.use_cas);
    }

    #[test]
    fn a_way_to_wait_says_how_long_a_thread_looks_for_work() {
        let spin = |more: &[&str]| options(more).map(|options| options.spin).map_err(|error| error.to_string());
        assert_eq!(spin(&[]), Ok(Duration::from_micros(50)));
        assert_eq!(spin(&["--wait", "auto", "--spin", "7"]), Ok(Duration::from_micros(7)));
        assert_eq!(spin(&["--wait", "spin"]), Ok(Duration::MAX));
        assert_eq!(spin(&["--wait", "irq"]), Ok(Duration::ZERO));
        assert!(spin(&["--wait", "irq", "--spin", "7"]).is_err_and(|why| why.contains("leave --spin out")));
        assert!(spin(&["--wait", "poll"]).is_err_and(|why| why.contains("spin, irq or auto")));
    }

    #[test]
    fn a_device_is_an_interface_or_a_tap_and_the_others_say_what_to_do() {
        let device = |more: &[&str]| {
            let always = ["sidestep-cached", "--address", "10.77.0.2/24"];
            Options::read(always.iter().chain(more)).map(|options| (options.device.to_string(), options.interface))
        };
        let same = |kind: &str, name: &str| (kind.to_owned(), name.to_owned());
        assert_eq!(device(&["--interface", "ss0"]).ok(), Some(same("xdp:ss0", "ss0")));
        assert_eq!(device(&["--device", "xdp:ss0"]).ok(), Some(same("xdp:ss0", "ss0")));
        assert_eq!(device(&["--device", "tap:t0", "--queues", "2"]).ok(), Some(same("tap:t0", "t0")));
        for (words, said) in [
            (&["--device", "wire:"][..], "give tap:NAME"),
            (&["--device", "pcap:x"], "sidestep replay"),
            (&["--device", "ss0"], "write xdp:INTERFACE or tap:INTERFACE"),
            (&["--device", "xdp:ss0@1"], "give --queues"),
            (&["--device", "tap:t0", "--steering", "shared"], "leave --steering out"),
            (&["--device", "tap:t0", "--allow", "10.0.0.0/8"], "filter on the kernel's side"),
            (&["--device", "tap:t0", "--mode", "native"], "leave --mode out"),
            (&["--device", "tap:t0", "--queues", "300"], "256 queues"),
            (&["--device", "tap:t0", "--ring-size", "64"], "leave --ring-size out"),
            (&["--device", "xdp:ss0", "--ring-size", "100"], "--ring-size 100: not a power of two from 64 to 32768"),
            (&["--device", "xdp:ss0", "--ring-size", "32"], "--ring-size 32: not a power of two from 64 to 32768"),
            (&["--device", "tap:t0", "--interface", "ss0"], "cannot be used with"),
            (&[], "--interface"),
        ] {
            let refusal = match device(words).expect_err("it has no sense") {
                Refusal::Option(error) => error.to_string(),
                Refusal::Message(message) => message.to_string(),
            };
            assert!(refusal.contains(said), "{words:?}: {refusal}");
        }
    }

    #[test]
    fn a_port_out_of_range_names_value_and_limit() {
        let error = options(&["-p", "70000"]).expect_err("no such port").to_string();
        assert_eq!(error, "-p 70000: not a TCP port from 1 to 65535, or 0 for none, or -1 for any");
        assert_eq!(options(&["-p", "0"]).map(|options| options.port), Ok(ListenPort::Off));
        assert_eq!(options(&["-p", "-1"]).map(|options| options.port), Ok(ListenPort::Any));
    }

    #[test]
    fn an_address_that_no_host_can_have_is_refused() {
        for wrong in
            ["10.77.0.2", "10.77.0.0/24", "10.77.0.255/24", "127.0.0.1/8", "224.0.0.1/4", "10.77.0.2/31", "x/24"]
        {
            assert!(host_address(wrong).is_err(), "{wrong}");
        }
        assert_eq!(host_address("10.77.0.2/24"), Ok((Ipv4Addr::new(10, 77, 0, 2), 24)));
    }

    #[test]
    fn item_sizes_are_read_as_memcached_reads_them() {
        assert_eq!(item_size("512k"), Ok(512 << 10));
        assert_eq!(item_size("2M"), Ok(2 << 20));
        assert_eq!(item_size("2048"), Ok(2048));
        assert_eq!(item_size(" 5m "), Ok(5 << 20));
        assert_eq!(item_size("2048x"), Ok(2048), "atoi does not read the x");
        for wrong in ["", "k", "1023", "2g", "1x", "5mb", "99999999999999999999m"] {
            assert!(item_size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_not_kept_is_refused_with_a_reason() {
        for letters in [
            &["-s", "x"][..],
            &["-S"],
            &["-Z"],
            &["-e", "x"],
            &["-k"],
            &["-L"],
            &["-r"],
            &["-i"],
            &["-N", "1"],
            &["-a", "7"],
        ] {
            assert!(matches!(options(letters), Err(OptionError::Refused { .. })), "{letters:?}");
        }
        for numbers in [["-c", "0"], ["-c", "-1"], ["-t", "0"], ["-b", "-1"], ["-R", "0"], ["-n", "0"], ["-R", "x"]] {
            assert!(matches!(options(&numbers), Err(OptionError::Number { .. })), "{numbers:?}");
        }
        for wrong in [
            ["-B", "http"],
            ["-f", "1"],
            ["-f", "x"],
            ["-D", ""],
            ["-D", "\u{e9}"],
            ["-Y", "/does/not/exist"],
            ["-U", "x"],
        ] {
            assert!(options(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_the_stacks_own_address_is_listened_on() {
        let port = |listen: &str| options(&["-p", "9", "-l", listen]).map(|options| options.port);
        for own in ["0.0.0.0", "10.77.0.2", "tcp:10.77.0.2"] {
            assert_eq!(port(own), Ok(ListenPort::Number(9)), "{own}");
        }
        assert_eq!(port("10.77.0.2:10"), Ok(ListenPort::Number(10)));
        assert_eq!(port("10.77.0.2:10,,0.0.0.0:10"), Ok(ListenPort::Number(10)));
        for wrong in
            ["fooble", "127.0.0.1", "10.77.0.2:0", "10.77.0.2:x", "tag:x:10.77.0.2", "::1", "0.0.0.0:1,0.0.0.0:2", ","]
        {
            assert!(matches!(port(wrong), Err(OptionError::Listen { .. })), "{wrong}");
        }
    }

    /// As memcached's `case 'l'`: no address is dropped because another follows.
    #[test]
    fn several_addresses_to_listen_on_add_up() {
        let listen = |more: &[&str]| options(more).map(|options| options.listen);
        let twice = listen(&["-l", "10.77.0.2", "-l", "0.0.0.0"]);
        assert_eq!(twice, Ok(Some("10.77.0.2,0.0.0.0".to_owned())));
        assert_eq!(listen(&["-l", "10.77.0.2", "-l", "10.77.0.2"]), Ok(Some("10.77.0.2".to_owned())));
        let other = listen(&["-l", "127.0.0.1", "-l", "10.77.0.2"]);
        assert!(matches!(other, Err(OptionError::Listen { .. })), "the first counts too: {other:?}");
    }

    #[test]
    fn ports_follow_memcacheds_rules() {
        use ListenPort::{Any, Number, Off};
        let ports = |more: &[&str]| options(more).map(|options| (options.port, options.udp_port));
        for (typed, expected) in [
            (&[][..], (Number(11211), Off)),
            (&["-p", "11212"], (Number(11212), Off)),
            (&["-U", "11222"], (Number(11222), Number(11222))),
            (&["-U", "-1"], (Any, Any)),
            (&["-p", "0"], (Off, Off)),
            (&["-p", "0", "-U", "9"], (Off, Number(9))),
            (&["-p", "11232", "-U", "11233"], (Number(11232), Number(11233))),
            (&["-p", "-1", "-U", "11252"], (Any, Number(11252))),
            (&["-p", "11262", "-U", "-1"], (Number(11262), Any)),
            (&["-p", "1", "-U", "2", "-l", "10.77.0.2:3"], (Number(3), Number(3))),
            (&["-p", "1", "-U", "0", "-l", "0.0.0.0:3"], (Number(3), Off)),
        ] {
            assert_eq!(ports(typed), Ok(expected), "{typed:?}");
        }
        let error = options(&["-U", "70000"]).expect_err("no such port").to_string();
        assert_eq!(error, "-U 70000: not a UDP port from 1 to 65535, or 0 for none, or -1 for any");
    }

    #[test]
    fn who_is_trusted_over_udp_is_a_network() {
        let trust = |text: &str| options(&["-U", "9", "--udp-trust", text]).map(|options| options.udp_trust);
        assert_eq!(trust("10.77.0.0/16"), Ok(vec![Network::new([10, 77, 0, 0], 16).expect("a network")]));
        assert_eq!(trust("10.77.0.9"), trust("10.77.0.9/32"));
        for wrong in ["10.77.0.1/16", "10.77.0.0/33", "x/8", "10.77.0.0/", "", "::1"] {
            assert!(matches!(trust(wrong), Err(OptionError::Network { .. })), "{wrong}");
        }
        let error = options(&["--udp-trust", "10.0.0.0/8"]).expect_err("no UDP").to_string();
        assert!(error.starts_with("--udp-trust 10.0.0.0/8: ") && error.contains("give -U PORT too"), "{error}");
    }

    #[test]
    fn who_is_served_is_a_list_of_networks_and_steering_one_of_three_words() {
        let allow = |words: &[&str]| options(words).map(|options| options.allow);
        let two = vec![(Ipv4Addr::new(10, 77, 0, 0), 16), (Ipv4Addr::new(10, 78, 0, 9), 32)];
        assert_eq!(allow(&["--allow", "10.77.0.0/16", "--allow", "10.78.0.9"]), Ok(two));
        let error = allow(&["--allow", "10.77.0.1/16"]).expect_err("no network").to_string();
        assert!(error.starts_with("--allow 10.77.0.1/16: not an IPv4 network"), "{error}");
        assert_eq!(options(&["--steering", "shared"]).map(|options| options.steering), Ok(Steering::Shared));
        let error = options(&["--steering", "mine"]).expect_err("no such way").to_string();
        assert_eq!(error, "--steering mine: not one of own, shared, dedicated");
    }

    #[test]
    fn a_store_too_small_for_the_default_threads_gets_fewer_and_says_so() {
        let small = options(&["-m", "3"]).expect("small, but it holds items");
        assert_eq!((small.cores, small.notes.len()), (1, 1));
        assert_eq!(options(&["-m", "8"]).map(|options| (options.cores, options.notes)), Ok((4, Vec::new())));
        assert_eq!(
            options(&["-m", "3", "-t", "4"]).map(|options| options.cores),
            Ok(4),
            "what is typed is not changed"
        );
    }

    #[test]
    fn a_protocol_is_one_of_memcacheds() {
        assert_eq!(options(&["-B", "binary"]).map(|options| options.protocol), Ok(Protocol::Binary));
        assert_eq!(options(&[]).map(|options| options.protocol), Ok(Protocol::Auto));
        let error = options(&["-B", "text"]).expect_err("no such protocol").to_string();
        assert_eq!(error, "-B text: not one of auto, ascii, binary");
    }

    #[test]
    fn flags_are_clustered_and_repeated_as_getopt_takes_them() {
        let clustered = options(&["-vvAFm128", "-MCXWMv", "-m", "64", "-vm 256 "]).expect("memcached takes it");
        assert_eq!((clustered.verbose, clustered.memory_bytes), (4, 256 << 20), "of -m the last wins");
        assert!(!clustered.evict && !clustered.use_cas);
        let commands = clustered.commands;
        assert!(commands.shutdown && !commands.flush && !commands.dump && !commands.watch);
        let lists = options(&["-o", "idle_timeout=1,hashpower=20", "-o", "no_lru_crawler,idle_timeout= 9s"]);
        let extended = lists.expect("memcached takes them").extended;
        assert_eq!((extended.idle_timeout_secs, extended.hashpower, extended.lru_crawler), (9, 20, false));
        let trusted = options(&["-U", "9", "--udp-trust", "10.0.0.0/8", "--udp-trust", "11.0.0.0/8"]);
        assert_eq!(trusted.map(|options| options.udp_trust.len()), Ok(2), "each network counts, not only the last");
    }

    /// Our own long names must not take from memcached's: getopt_long takes each as long as it is unambiguous.
    #[test]
    fn a_long_name_may_be_cut_where_memcacheds_may() {
        const LONG: &[&str] = &[
            "unix-mask",
            "enable-shutdown",
            "port",
            "unix-socket",
            "udp-port",
            "memory-limit",
            "disable-evictions",
            "conn-limit",
            "lock-memory",
            "help",
            "license",
            "version",
            "enable-coredumps",
            "verbose",
            "daemon",
            "listen",
            "max-reqs-per-event",
            "user",
            "memory-file",
            "pidfile",
            "slab-growth-factor",
            "slab-min-size",
            "threads",
            "enable-largepages",
            "disable-cas",
            "listen-backlog",
            "protocol",
            "max-item-size",
            "enable-sasl",
            "disable-flush-all",
            "disable-dumping",
            "disable-watch",
            "auth-file",
            "enable-ssl",
            "napi-ids",
            "extended",
        ];
        for name in LONG {
            for end in 1..=name.len() {
                let cut = &name[..end];
                if *name != cut && LONG.iter().filter(|other| other.starts_with(cut)).count() > 1 {
                    continue;
                }
                let words = ["sidestep-cached".to_owned(), format!("--{cut}"), "1".to_owned()];
                let error = Flags::try_parse_from(words).expect_err("--interface is missing").to_string();
                assert!(!error.contains("unexpected argument") && !error.contains("similar"), "--{cut}: {error}");
            }
        }
    }

    #[test]
    fn fewer_cpus_than_threads_are_refused() {
        assert_eq!(options(&["-t", "2", "--cpus", "1"]), Err(OptionError::Cpus { named: 1, threads: 2 }));
    }
}
