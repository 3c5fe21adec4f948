//! Nothing is allocated on the path of a hit, on one core or across two, nor on that of a small store.

use differential::packet::Packet;
use sidestep_cache::{CacheConfig, ConnId, Core, DatagramOutlet, Datagrams, Network, Now, Session};
use stats_alloc::Region;

use crate::ALLOCATOR;

const NOW: Now = Now { secs: 100, unix_epoch: 1_700_000_000 };

/// Sends `input` over core 0, runs both cores until all is answered, and returns the bytes of the replies. Up to `room`
/// bytes may be answered at once.
fn exchange(cores: &mut [Core], session: &mut Session, input: &[u8], room: usize, out: &mut [u8]) -> usize {
    let (mut taken, mut given) = (0, 0);
    while taken < input.len() || session.pending() > 0 {
        for index in 0..cores.len() {
            cores[index].collect(NOW);
            if index == 0 {
                while cores[0].next_resumable().is_some() {}
                let at_once = session.take(&mut cores[0], &input[taken..], &mut out[given..][..room], NOW);
                (taken, given) = (taken + at_once.consumed, given + at_once.written);
                given += session.give(&mut cores[0], &mut out[given..]).written;
            }
            let _ = cores[index].post();
        }
    }
    given
}

pub fn hits_and_small_stores_allocate_nothing_after_start() {
    let mut out = vec![0; 1 << 20];
    for count in [1, 2] {
        let config = CacheConfig { cores: count, datagram_places: 64, ..CacheConfig::default() };
        let mut cores = Core::mesh(&config, [9; 16]).expect("a cache");
        let mut session = Session::new(ConnId(0));
        let (mut store, mut gets, mut streamed) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..200 {
            store.extend_from_slice(format!("set key{number} 0 0 100\r\n{}\r\n", "x".repeat(100)).as_bytes());
            gets.extend_from_slice(format!("get key{number}\r\n").as_bytes());
            gets.extend_from_slice(format!("get key{number} key{} none\r\n", number / 2).as_bytes());
        }
        for number in 0..4 {
            store.extend_from_slice(format!("set big{number} 0 0 50000\r\n{}\r\n", "y".repeat(50_000)).as_bytes());
            streamed.extend_from_slice(format!("get big{number}\r\n").as_bytes());
        }
        exchange(&mut cores, &mut session, &store, 0, &mut out);
        exchange(&mut cores, &mut session, &store, 8192, &mut out);
        let crossed = cores[0].counters().cross_core_requests.value();
        assert_eq!(crossed > 0, count > 1);
        for (what, input, replies) in [
            ("gets", &gets, 200 * 117 + 400 * 117 + 400 * 5),
            ("streamed gets", &streamed, 4 * 50_000),
            ("stores", &store, 204 * 8),
        ] {
            for room in [0, 8192] {
                let region = Region::new(ALLOCATOR);
                let bytes = exchange(&mut cores, &mut session, input, room, &mut out);
                let change = region.change();
                assert!(bytes >= replies, "{what}: {bytes} bytes of replies");
                let allocated = (change.allocations, change.reallocations);
                assert_eq!(allocated, (0, 0), "{what}, {count} cores, room {room}: {change:?}");
            }
        }
        session.end(&mut cores[0]);
        meta_commands_and_packets(count, &mut cores, &mut out);
        datagrams(count, &mut cores);
    }
}

/// Every kind of meta command, and packets that mean the same.
fn meta_commands_and_packets(count: usize, cores: &mut [Core], out: &mut [u8]) {
    let (mut lines, mut packets) = (Vec::new(), Vec::new());
    for number in 0..200 {
        lines.extend_from_slice(format!("ms key{number} 100 c k O{number} T90\r\n{}\r\n", "x".repeat(100)).as_bytes());
        lines.extend_from_slice(
            format!("mg key{number} v f s t c k h l O7\r\nmg none k q\r\nmg viv{number} N30 v\r\n").as_bytes(),
        );
        lines.extend_from_slice(
            format!("md key{number} I T50 k\r\nma n{number} N0 J5 v\r\nme key{number}\r\nmn\r\n").as_bytes(),
        );
        lines.extend_from_slice(format!("ms a2V5{:04} 3 b k\r\nabc\r\n", number).as_bytes());
        for words in [
            format!("01 key=key{number} extras=0000000700000064 value={}", "x".repeat(100)),
            format!("0c key=key{number}"),
            format!("09 key=none{number}"),
            format!("05 key=count{number} extras=0000000000000001000000000000000500000000"),
            format!("23 key=key{number} extras=00000064"),
            format!("0e key=key{number} value=y"),
            format!("14 key=key{}", number / 2),
            "0a".to_owned(),
        ] {
            packets.extend(Packet::read(&words).expect("a packet").encode());
        }
    }
    lines.extend_from_slice(format!("ms large 50000\r\n{}\r\nmg large v k\r\n", "y".repeat(50_000)).as_bytes());
    let large = format!("01 key=large extras=0000000000000000 value={}", "z".repeat(50_000));
    packets.extend(Packet::read(&large).expect("a packet").encode());
    packets.extend(Packet::read("0c key=large").expect("a packet").encode());
    for (what, input, replies) in
        [("meta commands", &lines, 200 * 250 + 50_000), ("packets", &packets, 200 * 250 + 50_000)]
    {
        let mut session = Session::new(ConnId(1));
        exchange(cores, &mut session, input, 0, out);
        for room in [0, 8192] {
            let region = Region::new(ALLOCATOR);
            let bytes = exchange(cores, &mut session, input, room, out);
            let change = region.change();
            assert!(bytes >= replies, "{what}: {bytes} bytes of replies");
            let allocated = (change.allocations, change.reallocations);
            assert_eq!(allocated, (0, 0), "{what}, {count} cores, room {room}: {change:?}");
        }
        session.end(&mut cores[0]);
    }
}

/// Counts what is sent, and keeps the last of it.
struct Outlet {
    frame: [u8; 1472],
    len: usize,
    bytes: usize,
}

impl DatagramOutlet<()> for Outlet {
    fn send(&mut self, _to: &(), len: usize, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        self.len = write(&mut self.frame[..len]);
        self.bytes += self.len;
        true
    }
}

/// Sends a datagram over core 0 and runs all cores until it is answered.
fn ask(cores: &mut [Core], udp: &mut Datagrams<()>, datagram: &[u8], out: &mut Outlet) {
    let foreseen = udp.foresee(&cores[0], datagram);
    udp.receive(&mut cores[0], (), [192, 0, 2, 1].into(), datagram, foreseen, NOW, out);
    while udp.pending() > 0 {
        for core in cores.iter_mut() {
            let _ = core.post();
            core.collect(NOW);
        }
        while let Some(conn) = cores[0].next_resumable() {
            assert!(udp.wake(conn));
        }
        udp.serve(&mut cores[0], 64, NOW, out);
    }
}

/// Hits, misses, stores and values of several datagrams, of this shard and of others, to whoever is trusted and is not.
fn datagrams(count: usize, cores: &mut [Core]) {
    let requests: Vec<Vec<u8>> = (0..300)
        .map(|number| {
            let line = match number % 6 {
                0 => format!("get key{number}\r\n"),
                1 => format!("gets key{number}\r\n"),
                2 => format!("set key{} 0 0 100\r\n{}\r\n", number - 1, "x".repeat(100)),
                3 => format!("get key{number} none key{}\r\n", number / 2),
                4 => "get big1\r\nget big2\r\n".to_owned(),
                _ => format!("mg key{number} v k\r\nincr n{number} 1\r\n"),
            };
            [&b"\0\x07\0\0\0\x01\0\0"[..], line.as_bytes()].concat()
        })
        .collect();
    let everybody = Network::new([0, 0, 0, 0], 0).expect("a network");
    for (trusted, least) in [(&[everybody][..], 50 * 2 * 50_000), (&[], 50 * 100)] {
        let mut udp = Datagrams::new(&cores[0], 1472, trusted);
        let mut out = Outlet { frame: [0; 1472], len: 0, bytes: 0 };
        for round in 0..2 {
            let region = Region::new(ALLOCATOR);
            out.bytes = 0;
            for request in &requests {
                ask(cores, &mut udp, request, &mut out);
            }
            let change = region.change();
            assert!(out.bytes >= least, "{} bytes of replies", out.bytes);
            let allocated = (change.allocations, change.reallocations);
            assert_eq!(allocated, (0, 0), "datagrams, {count} cores, round {round}: {change:?}");
        }
    }
}
