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
    for wrong in ["10.77.0.2", "10.77.0.0/24", "10.77.0.255/24", "127.0.0.1/8", "224.0.0.1/4", "10.77.0.2/31", "x/24"] {
        assert!(host_address(wrong).is_err(), "{wrong}");
    }
    assert_eq!(host_address("10.77.0.2/24"), Ok(OwnAddress::new([10, 77, 0, 2], 24)));
    for wrong in [
        "2001:db8::2",
        "2001:db8::/64",
        "::1/128",
        "::/64",
        "ff02::1/16",
        "::ffff:10.77.0.2/120",
        "2001:db8::2/0",
        "2001:db8::2/129",
        "[2001:db8::2]/64",
        "fe80::2%eth0/64",
    ] {
        assert!(host_address(wrong).is_err(), "{wrong}");
    }
    for (right, prefix_len) in [("2001:db8::2", 64), ("fe80::2", 64), ("2001:db8::2", 128), ("2001:db8::", 127)] {
        let address: IpAddr = right.parse().expect("an address");
        let read = host_address(&format!("{right}/{prefix_len}"));
        assert_eq!(read, Ok(OwnAddress::new(address, prefix_len)));
    }
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
    for wrong in
        [["-B", "http"], ["-f", "1"], ["-f", "x"], ["-D", ""], ["-D", "\u{e9}"], ["-Y", "/does/not/exist"], ["-U", "x"]]
    {
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
    for wrong in [
        "fooble",
        "127.0.0.1",
        "10.77.0.2:0",
        "10.77.0.2:x",
        "tag:x:10.77.0.2",
        "::1",
        "::",
        "0.0.0.0:1,0.0.0.0:2",
        ",",
    ] {
        assert!(matches!(port(wrong), Err(OptionError::Listen { .. })), "{wrong}");
    }
}

#[test]
fn addresses_to_listen_on_are_written_as_memcached_reads_them_and_none_is_left_out() {
    let both = ["-p", "9", "--address", "2001:db8::2/64", "-l"];
    let port = |listen: &str| options(&[&both[..], &[listen]].concat()).map(|options| options.port);
    for (right, number) in [
        ("*", 9),
        ("*:10", 10),
        ("0.0.0.0,::", 9),
        ("0.0.0.0:10,[::]:10", 10),
        ("10.77.0.2,2001:db8::2", 9),
        ("10.77.0.2,[2001:db8::2]", 9),
        ("tcp:10.77.0.2:10,tcp:[2001:db8:0::2]:10", 10),
        ("2001:db8::2;10.77.0.2", 9),
    ] {
        assert_eq!(port(right), Ok(ListenPort::Number(number)), "{right}");
    }
    for (wrong, said) in [
        ("10.77.0.2", "2001:db8::2 is left out"),
        ("0.0.0.0", "2001:db8::2 is left out"),
        ("::", "10.77.0.2 is left out"),
        ("10.77.0.2,[2001:db8::3]", "another address"),
        ("10.77.0.2,[2001:db8::2", "no closing bracket"),
        ("10.77.0.2,[2001:db8::2]x", "no port"),
        ("10.77.0.2,[2001:db8::2]:0", "no port"),
        ("10.77.0.2:9,[2001:db8::2]:10", "one listener"),
    ] {
        let error = port(wrong).expect_err("it is wrong").to_string();
        assert!(error.starts_with("-l ") && error.contains(said), "{wrong}: {error}");
    }
}

#[test]
fn several_addresses_are_served_each_once() {
    let addresses = |more: &[&str]| options(more).map(|options| options.addresses.len());
    assert_eq!(addresses(&["--address", "10.78.0.2/24", "--address", "2001:db8::2/64"]), Ok(3));
    let twice = addresses(&["--address", "10.77.0.2/16"]).expect_err("it was there").to_string();
    assert_eq!(twice, "--address 10.77.0.2/16: this address is given twice; give each once");
    let shown = |more: &[&str]| options(more).expect("it is right").at(11211);
    assert_eq!(shown(&[]), "10.77.0.2:11211");
    let mut more = vec!["--address", "2001:db8::2/64"];
    assert_eq!(shown(&more), "10.77.0.2:11211, [2001:db8::2]:11211");
    more.extend(["--address", "10.77.0.3/24", "--address", "10.77.0.4/24", "--address", "10.77.0.5/24"]);
    assert_eq!(shown(&more), "10.77.0.2:11211, [2001:db8::2]:11211, 10.77.0.3:11211, 10.77.0.4:11211 and 1 more");
}

/// As memcached's `case 'l'`: no address is dropped because another follows.
#[test]
fn several_addresses_to_listen_on_add_up() {
    let listen = |more: &[&str]| options(more).map(|options| options.listen);
    let twice = listen(&["-l", "10.77.0.2", "-l", "0.0.0.0"]);
    assert_eq!(twice, Ok(Some("10.77.0.2,0.0.0.0".to_owned())));
    assert_eq!(listen(&["-l", "10.77.0.2", "-l", "10.77.0.2"]), Ok(Some("10.77.0.2".to_owned())));
    let alike = ["--address", "10.77.0.22/24", "-l", "10.77.0.22", "-l", "10.77.0.2"];
    assert_eq!(listen(&alike), Ok(Some("10.77.0.22,10.77.0.2".to_owned())));
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
    assert_eq!(trust("2001:db8::9"), trust("2001:db8::9/128"));
    for wrong in ["10.77.0.1/16", "10.77.0.0/33", "x/8", "10.77.0.0/", "", "2001:db8::1/64", "::/129"] {
        assert!(matches!(trust(wrong), Err(OptionError::Network { .. })), "{wrong}");
    }
    let error = options(&["--udp-trust", "10.0.0.0/8"]).expect_err("no UDP").to_string();
    assert!(error.starts_with("--udp-trust 10.0.0.0/8: ") && error.contains("give -U PORT too"), "{error}");
}

#[test]
fn who_is_served_is_a_list_of_networks_and_steering_one_of_three_words() {
    let allow = |words: &[&str]| options(words).map(|options| options.allow);
    let several =
        vec![([10, 77, 0, 0].into(), 16), ([10, 78, 0, 9].into(), 32), ("2001:db8::".parse().expect("an address"), 32)];
    assert_eq!(allow(&["--allow", "10.77.0.0/16", "--allow", "10.78.0.9", "--allow", "2001:db8::/32"]), Ok(several));
    let error = allow(&["--allow", "10.77.0.1/16"]).expect_err("no network").to_string();
    assert!(error.starts_with("--allow 10.77.0.1/16: not a network"), "{error}");
    assert_eq!(options(&["--steering", "shared"]).map(|options| options.steering), Ok(Steering::Shared));
    let error = options(&["--steering", "mine"]).expect_err("no such way").to_string();
    assert_eq!(error, "--steering mine: not one of own, shared, dedicated");
}

#[test]
fn a_store_too_small_for_the_default_threads_gets_fewer_and_says_so() {
    let small = options(&["-m", "3"]).expect("small, but it holds items");
    assert_eq!((small.cores, small.notes.len()), (1, 1));
    assert_eq!(options(&["-m", "8"]).map(|options| (options.cores, options.notes)), Ok((4, Vec::new())));
    assert_eq!(options(&["-m", "3", "-t", "4"]).map(|options| options.cores), Ok(4), "what is typed is not changed");
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
