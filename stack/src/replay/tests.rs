//! Connections that are moved, beside twins that are not: whatever is said to both, both say the same.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use smoltcp::iface::SocketStorage;
use smoltcp::socket::tcp::{CongestionControl, SocketBuffer};

use super::*;

const KEY: FlowKey = FlowKey::OF_TESTS;

/// A segment that was sent: flags, sequence number, ACK number, window, data.
type Segment = (u8, u32, u32, u16, Vec<u8>);

/// The segments of one moment as one: the first sequence number, all data, and how the last ends.
fn joined(segments: &[Segment]) -> Option<Segment> {
    let (first, last) = (segments.first()?, segments.last()?);
    let data = segments.iter().flat_map(|segment| segment.4.iter().copied()).collect();
    Some((last.0, first.1, last.2, last.3, data))
}

/// A socket of its own, in a set of its own.
struct Side {
    set: SocketSet<'static>,
    handle: SocketHandle,
}

impl Side {
    fn new(rx: usize, tx: usize) -> Self {
        let storage: &'static mut [SocketStorage<'static>; 1] = Box::leak(Box::new([SocketStorage::EMPTY]));
        let mut set = SocketSet::new(&mut storage[..]);
        let handle = set.add(Socket::new(SocketBuffer::new(vec![0; rx]), SocketBuffer::new(vec![0; tx])));
        let mut side = Self { set, handle };
        side.listen();
        side
    }

    fn listen(&mut self) {
        let socket = self.socket();
        socket.abort();
        socket.listen(KEY.local_port).expect("a closed socket");
        socket.set_congestion_control(CongestionControl::None);
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }
}

/// What both are told, and what the one who tells it knows.
struct Talk {
    rng: Xoshiro256PlusPlus,
    twins: [Side; 2],
    interfaces: [Interface; 2],
    record: Record,
    /// The peer's next sequence number, and how far it may send.
    seq: u32,
    edge: u32,
    said: u8,
    written: u8,
    now: Time,
}

/// What `twin` sends now: what each segment says, and its packet.
fn all_sent(twin: &mut Side, interface: &mut Interface, now: Time) -> Vec<(Sent, Vec<u8>)> {
    let mut all = Vec::new();
    loop {
        let mut out = Vec::new();
        let mut device = Desk { packet: None, out: &mut out, written: false };
        interface.poll_egress(FlowClock::instant(now), &mut device, &mut twin.set);
        if !device.written {
            return all;
        }
        all.push((Sent::of(&out).expect("a TCP segment"), out));
    }
}

/// What a TCP segment over IPv4 carries.
fn payload(packet: &[u8]) -> &[u8] {
    &packet[IPV4_BYTES + usize::from(packet[IPV4_BYTES + 12] >> 4) * 4..]
}

impl Talk {
    fn new(seed: u64, rings: (usize, usize)) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let (seq, isn) = (rng.next_u32(), rng.next_u32());
        let options = SynOptions {
            mss: [None, Some(536), Some(1_000), Some(1_460)][rng.next_u32() as usize % 4],
            window_scale: [None, Some(0), Some(7)][rng.next_u32() as usize % 3],
            sack_permitted: rng.next_u32() % 2 == 0,
            ..SynOptions::default()
        };
        let record = Record {
            key: KEY,
            snd_una: isn.wrapping_add(1),
            snd_nxt: isn.wrapping_add(1),
            rcv_base: seq.wrapping_add(1),
            last_ack: seq.wrapping_add(1),
            fin_received: false,
            options,
            window: 60_000,
            round_trip: Duration::ZERO,
        };
        let now = Time::from_millis(5_000);
        let interface = || {
            let mut config = Config::new(HardwareAddress::Ip);
            config.random_seed = seed_for(isn);
            let mut device = Desk { packet: None, out: &mut Vec::new(), written: false };
            let mut interface = Interface::new(config, &mut device, FlowClock::instant(now));
            interface.set_any_ip(true);
            interface
        };
        let twins = [Side::new(rings.0, rings.1), Side::new(rings.0, rings.1)];
        let interfaces = [interface(), interface()];
        let mut talk =
            Self { rng, twins, interfaces, record, seq: seq.wrapping_add(1), edge: 0, said: 0, written: 0, now };
        let syn = Said { flags: SYN, seq, ack: 0, window: 60_000 };
        talk.say(syn, &syn_options(&options), &[]);
        assert_eq!(talk.hear().len(), 1, "a SYN-ACK");
        talk.say(Said { flags: ACK, seq: talk.seq, ack: talk.record.snd_una, window: 60_000 }, &[], &[]);
        assert_eq!(talk.hear(), []);
        talk
    }

    fn below(&mut self, limit: usize) -> usize {
        self.rng.next_u32() as usize % limit.max(1)
    }

    fn say(&mut self, said: Said, options: &[u8], data: &[u8]) {
        let mut packet = Vec::new();
        write_head(&mut packet, &KEY, said, options, data.len());
        packet.extend_from_slice(data);
        for (twin, interface) in self.twins.iter_mut().zip(&mut self.interfaces) {
            let mut out = Vec::new();
            let mut device = Desk { packet: Some(&packet), out: &mut out, written: false };
            interface.poll_ingress_single(FlowClock::instant(self.now), &mut device, &mut twin.set);
            assert!(!device.written, "nothing odd is said");
        }
    }

    /// What both send: the same.
    fn hear(&mut self) -> Vec<Segment> {
        let mut heard = [Vec::new(), Vec::new()];
        for ((twin, interface), heard) in self.twins.iter_mut().zip(&mut self.interfaces).zip(&mut heard) {
            for (sent, packet) in all_sent(twin, interface, self.now) {
                let seq = u32::from_be_bytes(packet[IPV4_BYTES + 4..IPV4_BYTES + 8].try_into().expect("four"));
                heard.push((sent.flags, seq, sent.ack, sent.window, payload(&packet).to_vec()));
            }
        }
        let [one, other] = heard;
        // Where a ring ends, smoltcp cuts a segment: what is sent is compared as one.
        let (whole, same) = (joined(&one), joined(&other));
        let heads = |segments: &[Segment]| -> Vec<_> {
            segments.iter().map(|(flags, seq, ack, window, data)| (*flags, *seq, *ack, *window, data.len())).collect()
        };
        // A new socket has told of its whole ring: it is for who moves the connection to tell of a window that opened.
        let update = |segment: &Segment| segment.4.is_empty() && segment.2 == self.record.last_ack;
        let update = same.is_none() && whole.as_ref().is_some_and(update);
        assert!(update || whole == same, "{:?}: {:?} and {:?}", self.record, heads(&one), heads(&other));
        for (flags, seq, ack, window, data) in &one {
            let end = seq.wrapping_add(data.len() as u32);
            if flags & SYN == 0 && end.wrapping_sub(self.record.snd_nxt) as i32 > 0 {
                self.record.snd_nxt = end;
            }
            self.record.last_ack = *ack;
            self.edge = ack.wrapping_add(u32::from(*window));
        }
        one
    }

    /// The application takes from both, and sends on both.
    fn apply(&mut self) {
        let take = self.below(3_000);
        let write = if self.below(2) == 0 { self.below(6_000) } else { 0 };
        let data: Vec<u8> = (0..write).map(|i| self.written.wrapping_add(i as u8)).collect();
        let did = self.twins.each_mut().map(|twin| {
            let socket = twin.socket();
            let mut bytes = vec![0; take.min(socket.recv_queue())];
            let taken = if bytes.is_empty() { 0 } else { socket.recv_slice(&mut bytes).expect("bytes wait") };
            (taken, bytes, socket.send_slice(&data).expect("it can send"))
        });
        assert_eq!(did[0], did[1], "{:?}", self.record);
        self.record.rcv_base = self.record.rcv_base.wrapping_add(did[0].0 as u32);
        self.written = self.written.wrapping_add(did[0].2 as u8);
    }

    /// The peer acknowledges some of what it got, with another window than before, and may send data.
    fn peer(&mut self, fin: bool) {
        let in_flight = self.record.snd_nxt.wrapping_sub(self.record.snd_una) as usize;
        let acknowledged = self.below(in_flight + 1);
        self.record.snd_una = self.record.snd_una.wrapping_add(acknowledged as u32);
        let before = self.record.window;
        while self.record.window == before {
            self.record.window = [60_000, 9_000, 5_000, 65_535, 12_345][self.below(5)];
        }
        let told = self.edge.wrapping_sub(self.seq) as usize;
        let len = if fin { 0 } else { self.below(1_400).min(told) };
        let data: Vec<u8> = (0..len).map(|i| self.said.wrapping_add(i as u8)).collect();
        self.said = self.said.wrapping_add(len as u8);
        let flags = if fin { ACK | FIN } else { ACK };
        self.say(Said { flags, seq: self.seq, ack: self.record.snd_una, window: self.record.window }, &[], &data);
        self.seq = self.seq.wrapping_add(len as u32 + u32::from(fin));
        self.record.fin_received |= fin;
    }

    /// Moves the second of the twins.
    fn relocate(&mut self, replay: &mut Replay, rings: (usize, usize)) {
        let mut new = Side::new(rings.0, rings.1);
        let old = &mut self.twins[1];
        if !Replay::can_take(old.socket()) {
            // The peer's FIN came behind a full ring.
            assert!(self.record.fin_received);
            return;
        }
        assert!(replay.take_out(self.now, &self.record, &mut old.set, old.handle), "{:?}", self.record);
        assert!(replay.put_in(self.now, &self.record, &mut new.set, new.handle, Duration::ZERO), "{:?}", self.record);
        new.socket().set_ack_delay(None);
        self.twins[1] = new;
    }
}

/// If this fails, smoltcp is not the version that `replay.rs` was written for: read its `socket/tcp.rs` anew.
#[test]
fn whenever_a_connection_is_moved_it_goes_on_as_if_nothing_had_happened() {
    let mut replay = Replay::new();
    let seeds = if cfg!(debug_assertions) { 300 } else { 3_000 };
    for seed in 0..seeds {
        println!("seed {seed}");
        let mut talk = Talk::new(seed, (4_096, 8_192));
        for step in 0..60 {
            match talk.below(4) {
                0 => talk.apply(),
                1 => talk.peer(step > 55 && !talk.record.fin_received && seed % 2 == 0),
                2 => drop(talk.hear()),
                _ if talk.record.fin_received && talk.seq == talk.record.last_ack => {}
                _ => talk.relocate(&mut replay, (4_096, 8_192)),
            }
            if talk.record.fin_received {
                talk.relocate(&mut replay, (4_096, 8_192));
                talk.apply();
                talk.hear();
                break;
            }
        }
    }
}

#[test]
fn between_rings_of_any_two_sizes_every_byte_comes_along() {
    let sizes = [(4_096, 8_192), (65_535, 65_536), (1_114_112, 1_114_112), (4_096, 8_192), (1_114_112, 65_536)];
    let mut replay = Replay::new();
    for seed in 0..50 {
        println!("seed {seed}");
        let mut talk = Talk::new(seed, sizes[0]);
        for step in 0..40 {
            let twin = &mut talk.twins[1];
            let (received, waiting) = (twin.socket().recv_queue(), twin.socket().send_queue());
            // Only as much as fits the small ring is in any.
            talk.relocate(&mut replay, sizes[step % sizes.len()]);
            let twin = &mut talk.twins[1];
            assert_eq!((twin.socket().recv_queue(), twin.socket().send_queue()), (received, waiting));
            let mut bytes = [vec![0; received], vec![0; received]];
            for (twin, bytes) in talk.twins.iter_mut().zip(&mut bytes) {
                twin.socket().peek_slice(bytes).expect("they wait");
            }
            assert_eq!(bytes[0], bytes[1]);
            // Windows differ, and so what is told: only bytes and numbers are compared.
            let write: Vec<u8> = (0..talk.below(3_000)).map(|i| i as u8).collect();
            let free = 8_192 - talk.twins[0].socket().send_queue();
            for twin in &mut talk.twins {
                assert_eq!(twin.socket().send_slice(&write[..write.len().min(free)]), Ok(write.len().min(free)));
            }
            let sent = talk.both_send();
            talk.record.snd_una = talk.record.snd_nxt;
            talk.record.window = if talk.record.window == 60_000 { 50_000 } else { 60_000 };
            let data: Vec<u8> = (0..talk.below(1_000)).map(|i| (i + step) as u8).collect();
            let window = talk.record.window;
            talk.say(Said { flags: ACK, seq: talk.seq, ack: talk.record.snd_una, window }, &[], &data);
            talk.seq = talk.seq.wrapping_add(data.len() as u32);
            assert!(sent || write.is_empty());
            if talk.below(2) == 0 {
                let taken = talk.twins[0].socket().recv_queue();
                for twin in &mut talk.twins {
                    twin.socket().recv_slice(&mut vec![0; taken]).expect("they wait");
                }
                talk.record.rcv_base = talk.record.rcv_base.wrapping_add(taken as u32);
            } else if talk.twins[0].socket().recv_queue() > 3_000 {
                break;
            }
        }
    }
}

#[test]
fn a_connection_with_the_largest_unscaled_window_in_flight_is_moved() {
    let mut replay = Replay::new();
    for mut talk in (0..30).map(|seed| Talk::new(seed, (4_096, 70_000))) {
        talk.record.window = u16::MAX;
        talk.say(Said { flags: ACK, seq: talk.seq, ack: talk.record.snd_una, window: u16::MAX }, &[], &[]);
        for twin in &mut talk.twins {
            assert_eq!(twin.socket().send_slice(&[b'x'; 65_535]), Ok(65_535));
        }
        talk.hear();
        assert_eq!(talk.record.snd_nxt.wrapping_sub(talk.record.snd_una), 65_535);
        talk.relocate(&mut replay, (4_096, 100_000));
        talk.peer(false);
        talk.hear();
        assert_eq!(talk.twins[0].socket().send_queue(), talk.twins[1].socket().send_queue());
    }
}

impl Talk {
    /// What both send, windows apart: the same. Returns whether that was data.
    fn both_send(&mut self) -> bool {
        let mut data = [Vec::new(), Vec::new()];
        let mut next = [0, 0];
        for (((twin, interface), data), next) in
            self.twins.iter_mut().zip(&mut self.interfaces).zip(&mut data).zip(&mut next)
        {
            for (sent, packet) in all_sent(twin, interface, self.now) {
                if !payload(&packet).is_empty() {
                    data.extend_from_slice(payload(&packet));
                    *next = sent.end;
                    self.record.snd_nxt = sent.end;
                }
                self.record.last_ack = sent.ack;
            }
        }
        assert!(data[0] == data[1] && next[0] == next[1], "{:?}", self.record);
        !data[0].is_empty()
    }
}
