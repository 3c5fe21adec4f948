//! The nodes of a cluster, as clients of Amazon ElastiCache ask for them: on every core, over every protocol.

use sidestep_cache::{CacheConfig, Cluster, ClusterNode};

use crate::loopback::{self, Loopback, Pace};

const TEXT: &str = "3\na.example|10.0.0.1|11211 b.example||11212\n";

fn node(host: &str, address: Option<[u8; 4]>, port: u16) -> ClusterNode {
    ClusterNode { host: host.into(), address: address.map(Into::into), port }
}

fn two_nodes() -> Cluster {
    let nodes = vec![node("a.example", Some([10, 0, 0, 1]), 11211), node("b.example", None, 11212)];
    Cluster { version: 3, nodes }
}

/// A cache of two nodes, on every number of cores, and each core that a client may be on.
fn everywhere(mut test: impl FnMut(Loopback, usize)) {
    for cores in 1..=3 {
        for core in 0..cores {
            let config =
                CacheConfig { cores, datagram_places: 32, cluster: Some(two_nodes()), ..CacheConfig::default() };
            test(Loopback::new(&config, Pace::Even, 0), core);
        }
    }
}

fn config_reply(text: &str) -> String {
    format!("CONFIG cluster 0 {}\r\n{text}\r\nEND\r\n", text.len())
}

#[test]
fn every_core_tells_of_the_nodes_and_of_their_change() {
    everywhere(|mut server, core| {
        let client = server.connect(core);
        assert_eq!(server.ask(client, "config get cluster\r\n"), config_reply(TEXT));
        let changed = Cluster { version: 4, nodes: vec![node("c", None, 1)] };
        server.cores[0].shared().control.set_cluster(changed);
        let pipelined = "mn\r\nconfig get cluster\r\nconfig get cluster\r\nmn\r\n";
        let reply = config_reply("4\nc||1\n");
        assert_eq!(server.ask(client, pipelined), format!("MN\r\n{reply}{reply}MN\r\n"));
        server.end();
    });
}

#[test]
fn nothing_else_can_be_asked_for_or_set() {
    everywhere(|mut server, core| {
        let client = server.connect(core);
        for (line, reply) in [
            ("config get clusters", "END"),
            ("config set cluster 0 3", "ERROR"),
            ("config delete cluster", "ERROR"),
            ("config get", "CLIENT_ERROR bad command line format"),
            ("config", "CLIENT_ERROR bad command line format"),
        ] {
            assert_eq!(server.ask(client, format!("{line}\r\n")), format!("{reply}\r\n"), "{line}");
        }
        server.end();
    });
}

#[test]
fn old_clients_find_the_list_under_a_key_in_the_order_asked() {
    everywhere(|mut server, core| {
        let client = server.connect(core);
        let item = |unique: &str| format!("VALUE AmazonElastiCache:cluster 0 {}{unique}\r\n{TEXT}\r\n", TEXT.len());
        assert_eq!(server.ask(client, "get AmazonElastiCache:cluster\r\n"), item("") + "END\r\n");
        assert_eq!(server.ask(client, "gets AmazonElastiCache:cluster\r\n"), item(" 3") + "END\r\n");
        let mut expected = String::new();
        let mut line = "get".to_owned();
        for number in 0..8 {
            server.ask(client, format!("set k{number} 0 0 1\r\n{number}\r\n"));
            line += &format!(" k{number} AmazonElastiCache:cluster missing");
            expected += &format!("VALUE k{number} 0 1\r\n{number}\r\n{}", item(""));
        }
        assert_eq!(server.ask(client, line + "\r\n"), expected + "END\r\n");
        // What is stored there is not seen.
        assert_eq!(server.ask(client, "set AmazonElastiCache:cluster 0 0 1\r\nx\r\n"), "STORED\r\n");
        assert_eq!(server.ask(client, "get AmazonElastiCache:cluster\r\n"), item("") + "END\r\n");
        server.end();
    });
}

/// dalli-elasticache reads the digits and dots of `STAT version`, and asks for the key where that is below 1.4.14.
#[test]
fn a_client_that_looks_at_the_version_in_stats_asks_by_config() {
    everywhere(|mut server, core| {
        let client = server.connect(core);
        let stats = server.ask(client, "stats\r\n");
        let version = stats.lines().find_map(|line| line.strip_prefix("STAT version ")).expect("stats has the version");
        let digits = version.split(|letter: char| !letter.is_ascii_digit() && letter != '.').next().unwrap_or("");
        let numbers: Vec<u32> = digits.split('.').map(|part| part.parse().expect("a number")).collect();
        assert!(numbers >= vec![1, 4, 14], "{version}");
        assert!(stats.ends_with("END\r\n"), "that is where it stops to read");
        assert_eq!(server.ask(client, "config get cluster\r\n"), config_reply(TEXT));
        server.end();
    });
}

#[test]
fn a_packet_asks_for_the_nodes_too() {
    everywhere(|mut server, core| {
        let client = server.connect(core);
        let packet = |key: &[u8]| {
            let mut bytes = vec![0x80, 0x60, 0, key.len() as u8, 0, 0, 0, 0, 0, 0, 0, key.len() as u8];
            bytes.extend([0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 0, 0, 0, 0, 0]);
            bytes.extend(key);
            bytes
        };
        server.send(client, &packet(b"cluster"));
        server.run();
        let told = server.take_received(client);
        assert_eq!(told[..8], [0x81, 0x60, 0, 0, 4, 0, 0, 0]);
        assert_eq!((&told[12..16], &told[24..28]), (&[0xca, 0xfe, 0xba, 0xbe][..], &[0; 4][..]));
        assert_eq!((u32::from(told[11]) as usize, &told[28..]), (4 + TEXT.len(), TEXT.as_bytes()));
        server.send(client, &packet(b"other"));
        server.run();
        assert_eq!(server.take_received(client)[..8], [0x81, 0x60, 0, 0, 0, 0, 0, 1], "not found");
        // A body that is longer than its key is passed over, and the next packet is read where it begins.
        let mut longer = packet(b"cluster");
        longer[11] += 3;
        longer.extend(b"xyz");
        longer.extend(packet(b"other"));
        server.send(client, &longer);
        server.run();
        let told = server.take_received(client);
        let second = 24 + told[11] as usize;
        assert_eq!((told[7], told[second + 7]), (4, 1), "invalid arguments, then not found");
        server.end();
    });
}

#[test]
fn a_datagram_asks_for_the_nodes_too() {
    everywhere(|mut server, _| {
        server.trust(&[sidestep_cache::Network::new(loopback::SENDER, 32).expect("one address")]);
        for (request, reply) in [
            ("config get cluster\r\n", config_reply(TEXT)),
            (
                "get AmazonElastiCache:cluster\r\n",
                format!("VALUE AmazonElastiCache:cluster 0 {}\r\n{TEXT}\r\nEND\r\n", TEXT.len()),
            ),
        ] {
            server.datagram(0, 7, request.as_bytes());
            server.run();
            let sent = std::mem::take(&mut server.mailbox.sent);
            assert_eq!(sent.iter().map(|(_, datagram)| &datagram[8..]).collect::<Vec<_>>(), [reply.as_bytes()]);
        }
        server.end();
    });
}

#[test]
fn without_a_cluster_the_answers_are_memcacheds() {
    for cores in 1..=3 {
        let mut server = Loopback::new(&CacheConfig { cores, ..CacheConfig::default() }, Pace::Even, 0);
        let client = server.connect(0);
        assert_eq!(server.ask(client, "config get cluster\r\n"), "ERROR\r\n");
        assert_eq!(server.ask(client, "config get cluster noreply\r\nmn\r\n"), "MN\r\n");
        assert_eq!(server.ask(client, "get AmazonElastiCache:cluster\r\n"), "END\r\n");
        server.end();
    }
}
