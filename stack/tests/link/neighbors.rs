//! To which station a flow's frames go: where its handshake came from, until the link, asked by ARP, says otherwise.

use std::net::Ipv4Addr;
use std::time::Duration;

use sidestep_stack::{DropReason, Mac};

use crate::lab::arp::{Asked, REPLY, REQUEST, arp, asked};
use crate::lab::bench::{Bench, segments};
use crate::lab::raw::{ACK, FIN, PSH, SYN, Tcp};
use crate::lab::{App, OWN, PEER, THEM, US, config};

/// Another station of the link.
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 66]);
/// A host that is not on the link, and the router's address.
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);

const EVERYBODY: Asked = Asked { to: Mac::BROADCAST, target: THEM };
const HOLDER: Asked = Asked { to: PEER, target: THEM };

/// One connection of `peer`, and where it has got to.
struct Conversation {
    bench: Bench,
    peer: Ipv4Addr,
    seq: u32,
    ack: u32,
}

impl Conversation {
    fn open(peer: Ipv4Addr) -> Self {
        Self::open_with(Bench::new(App::Echo), peer)
    }

    fn open_with(mut bench: Bench, peer: Ipv4Addr) -> Self {
        let syn_ack = bench.frame(&Tcp::new(5_000, SYN, 100, 0).frame_from(peer.octets()));
        let ack = Tcp::read(&syn_ack[0]).seq.wrapping_add(1);
        bench.frame(&Tcp::new(5_000, ACK, 101, ack).frame_from(peer.octets()));
        assert_eq!(bench.server.opened, 1);
        Self { bench, peer, seq: 101, ack }
    }

    /// The next request, from the station `mac`.
    fn request(&self, mac: Mac) -> Vec<u8> {
        let mut frame =
            Tcp::new(5_000, ACK | PSH, self.seq, self.ack).with(b"get k\r\n").frame_from(self.peer.octets());
        frame[6..12].copy_from_slice(&mac.0);
        frame
    }

    /// Asks from the station `mac`, and returns the stations that the answer went to and what was asked by ARP. The
    /// answer counts as received wherever it went.
    fn ask(&mut self, mac: Mac) -> (Vec<Mac>, Vec<Asked>) {
        let frames = self.bench.frame(&self.request(mac));
        self.seq = self.seq.wrapping_add(7);
        self.ack = self.ack.wrapping_add(7);
        (stations(&frames), asked(&frames))
    }

    fn wait(&mut self, millis: u64) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for _ in 0..millis {
            self.bench.wire.clock().advance(Duration::from_millis(1));
            frames.extend(self.bench.turn());
        }
        frames
    }

    /// The answer to an ARP request of ours, and what the stack sends at once.
    fn reply(&mut self, sender: Ipv4Addr, mac: Mac) -> Vec<Asked> {
        asked(&self.bench.frame(&arp(REPLY, (sender, mac), US)))
    }

    fn moved(&self) -> u64 {
        self.bench.server.poll.stack().stats().flows_moved
    }
}

/// Where frames of TCP went.
fn stations(frames: &[Vec<u8>]) -> Vec<Mac> {
    let segments = frames.iter().filter(|frame| frame[12..14] == [8, 0]);
    segments.map(|frame| Mac(frame[..6].try_into().expect("six bytes"))).collect()
}

#[test]
fn a_stranger_with_right_numbers_does_not_get_a_quiet_flows_answers() {
    let mut flow = Conversation::open(THEM);
    for round in 0..10 {
        flow.wait(1_100);
        // Everything is right but the station. The stranger answers ARP, as does the peer.
        let (to, questions) = flow.ask(OTHER);
        assert_eq!((to, questions), (vec![PEER], vec![EVERYBODY]), "round {round}");
        assert_eq!(flow.reply(THEM, OTHER), [HOLDER]);
        assert_eq!(flow.reply(THEM, PEER), []);
        assert_eq!(flow.reply(THEM, OTHER), []);
        assert_eq!(flow.ask(OTHER), (vec![PEER], vec![]));
        assert_eq!(flow.ask(PEER), (vec![PEER], vec![]));
    }
    assert_eq!((flow.moved(), flow.bench.server.poll.stack().neighbor(THEM)), (0, Some(PEER)));
}

/// A stranger connects as the peer, so that the flow's station is the stranger's, which has its last word.
#[test]
fn a_stranger_who_connects_as_the_peer_does_not_get_the_peers_other_flows() {
    let mut flow = Conversation::open(THEM);
    flow.wait(2_000);
    for round in 0..3u8 {
        let station = Mac([2, 0, 0, 0, 1, round]);
        let port = 6_000 + u16::from(round);
        let from = |mac: Mac, flags, seq, ack| {
            let mut frame = Tcp::new(port, flags, seq, ack).frame();
            frame[6..12].copy_from_slice(&mac.0);
            frame
        };
        let syn_ack = flow.bench.frame(&from(station, SYN, 100, 0));
        assert_eq!(stations(&syn_ack), [station]);
        let ack = Tcp::read(&syn_ack[0]).seq.wrapping_add(1);
        flow.bench.frame(&from(station, ACK, 101, ack));
        // The stranger's flow is in doubt, and the stranger confirms that the peer is at the stranger's station.
        assert_eq!(asked(&flow.bench.frame(&from(OTHER, ACK, 101, ack))), [EVERYBODY]);
        flow.reply(THEM, PEER);
        flow.reply(THEM, station);
        // The peer misses an answer. Whatever is asked, both reply, the stranger first.
        let request = flow.request(PEER);
        flow.bench.frame(&request);
        let mut sent = Vec::new();
        for _ in 0..4_000 {
            let frames = flow.wait(1);
            sent.extend(stations(&frames));
            let mut questions = asked(&frames);
            while let Some(question) = questions.pop() {
                questions.extend(flow.reply(THEM, station));
                if question.to != station {
                    questions.extend(flow.reply(THEM, PEER));
                }
            }
        }
        assert!(!sent.is_empty() && sent.iter().all(|&to| to == PEER), "{round}: {sent:?}");
        flow.seq = flow.seq.wrapping_add(7);
        flow.ack = flow.ack.wrapping_add(7);
        flow.bench.frame(&Tcp::new(5_000, ACK, flow.seq, flow.ack).frame());
        // An answer that arrives, so that the next is sent again as soon.
        assert_eq!(flow.ask(PEER).0, [PEER]);
        flow.bench.frame(&Tcp::new(5_000, ACK, flow.seq, flow.ack).frame());
        flow.wait(4_000);
    }
    assert_eq!(flow.ask(PEER).0, [PEER]);
}

#[test]
fn a_stranger_whom_nobody_confirms_gets_nothing_and_the_link_is_asked_once_a_second() {
    let mut flow = Conversation::open(THEM);
    let mut questions = Vec::new();
    for _ in 0..100 {
        let (to, at_once) = flow.ask(OTHER);
        assert_eq!(to, [PEER]);
        questions.extend(at_once);
        let meanwhile = flow.wait(100);
        assert!(stations(&meanwhile).is_empty());
        questions.extend(asked(&meanwhile));
    }
    assert!((10..=11).contains(&questions.len()), "{} in ten seconds", questions.len());
    assert!(questions.iter().all(|&question| question == EVERYBODY));
}

#[test]
fn a_peer_at_another_station_is_answered_there_once_it_answers_and_the_old_one_does_not() {
    let mut flow = Conversation::open(THEM);
    assert_eq!(flow.ask(PEER), (vec![PEER], vec![]));
    // In the middle of the conversation.
    assert_eq!(flow.ask(OTHER), (vec![PEER], vec![EVERYBODY]));
    assert_eq!(flow.reply(THEM, OTHER), [HOLDER]);
    assert_eq!(asked(&flow.wait(99)), [HOLDER]);
    assert_eq!(flow.ask(OTHER).0, [PEER]);
    flow.wait(1);
    assert_eq!(flow.ask(OTHER), (vec![OTHER], vec![]));
    assert_eq!((flow.moved(), flow.bench.server.poll.stack().neighbor(THEM)), (1, Some(OTHER)));
    // And back, no less than a second later.
    flow.wait(1_000);
    assert_eq!(flow.ask(PEER).1, [EVERYBODY]);
    assert_eq!(flow.reply(THEM, PEER).len(), 1);
    flow.wait(100);
    assert_eq!(flow.ask(PEER).0, [PEER]);
    flow.bench.wait(Duration::from_secs(5));
    assert_eq!(flow.bench.server.poll.stack().census().resolving, 0);
}

#[test]
fn what_was_sent_to_the_old_station_is_sent_again_to_the_new_one() {
    let mut flow = Conversation::open(THEM);
    // The answer goes where the peer was; it will not come, and the peer says nothing until it does.
    flow.ask(OTHER);
    flow.reply(THEM, OTHER);
    assert_eq!(stations(&flow.wait(700)), [OTHER, OTHER]);
}

#[test]
fn a_flow_whose_peer_falls_silent_asks_where_it_is() {
    let mut flow = Conversation::open(THEM);
    flow.bench.frame(&flow.request(PEER));
    // No ACK comes. Sent again at 0.2, 0.6 and 1.4 seconds.
    assert_eq!(asked(&flow.wait(1_000)), []);
    assert_eq!(asked(&flow.wait(500)), [EVERYBODY]);
    flow.reply(THEM, OTHER);
    assert_eq!(stations(&flow.wait(2_000)), [OTHER]);
}

#[test]
fn an_announcement_of_a_known_neighbour_is_verified_and_believed() {
    let mut flow = Conversation::open(THEM);
    flow.bench.frame(&arp(REQUEST, (THEM, PEER), US));
    for operation in [REQUEST, REPLY] {
        let questions = asked(&flow.bench.frame(&arp(operation, (THEM, OTHER), THEM)));
        // The second announcement is the answer to what the first has had us ask.
        assert_eq!(questions, if operation == REQUEST { [EVERYBODY] } else { [HOLDER] });
    }
    assert_eq!(flow.bench.server.poll.stack().neighbor(THEM), Some(PEER));
    flow.wait(100);
    assert_eq!(flow.bench.server.poll.stack().neighbor(THEM), Some(OTHER));
    assert_eq!(flow.ask(OTHER), (vec![OTHER], vec![]));
}

#[test]
fn what_is_said_unasked_is_neither_learned_nor_does_it_overwrite() {
    let mut bench = Bench::new(App::Echo);
    // Announcements and answers for nobody that we know.
    for target in [THEM, US] {
        assert_eq!(bench.frame(&arp(REPLY, (THEM, OTHER), target)), Vec::<Vec<u8>>::new());
    }
    assert_eq!((bench.server.poll.stack().neighbor(THEM), bench.drops(DropReason::ArpNotOurs)), (None, 1));
    // Who asks for us wants to send us something.
    bench.frame(&arp(REQUEST, (THEM, PEER), US));
    assert_eq!(bench.server.poll.stack().neighbor(THEM), Some(PEER));
    // A host that cannot be on the link is answered and not learned.
    assert_eq!(bench.frame(&arp(REQUEST, (FAR, OTHER), US)).len(), 1);
    assert_eq!(bench.server.poll.stack().neighbor(FAR), None);
    for _ in 0..100 {
        bench.frame(&arp(REQUEST, (THEM, OTHER), US));
    }
    assert_eq!(bench.server.poll.stack().neighbor(THEM), Some(PEER));
    // All were asked, and, as somebody answered, the one who was there first.
    assert_eq!(bench.server.poll.stack().stats().arp_requests, 2);
    bench.wait(Duration::from_secs(5));
    bench.server.assert_nothing_left();
}

/// Else what is sent to it would go to everyone on the link, or come back to us.
#[test]
fn nobody_is_believed_to_be_at_a_group_address_or_at_ours() {
    for mac in [Mac::BROADCAST, Mac([1, 0, 0x5e, 0, 0, 1]), OWN] {
        let mut bench = Bench::new(App::Echo);
        let now = bench.now();
        assert!(bench.server.poll.stack_mut().ask_neighbor(now, THEM, 0));
        assert_eq!(asked(&bench.turn()), [EVERYBODY]);
        for operation in [REPLY, REQUEST] {
            let mut claim = arp(operation, (THEM, mac), US);
            bench.frame(&claim);
            claim[6..12].copy_from_slice(&OTHER.0);
            bench.frame(&claim);
            assert_eq!(bench.server.poll.stack().neighbor(THEM), None, "{mac:?}");
        }
        bench.frame(&arp(REPLY, (THEM, PEER), US));
        assert_eq!(bench.server.poll.stack().neighbor(THEM), Some(PEER));
    }
}

#[test]
fn a_flood_of_claims_moves_nobody_and_asks_little() {
    let mut flow = Conversation::open(THEM);
    flow.bench.frame(&arp(REQUEST, (THEM, PEER), US));
    for number in 0..20_000u32 {
        let [.., a, b] = number.to_be_bytes();
        let liar = Mac([2, 0, 0, 1, a, b]);
        let sender = Ipv4Addr::from_bits(THEM.to_bits() & !0xff | (number % 253 + 3));
        flow.bench.send(&arp(REQUEST, (sender, liar), US));
        flow.bench.send(&arp(REPLY, (THEM, liar), US));
        for frame in flow.bench.turn() {
            if asked(&[frame]).iter().any(|question| question.target == THEM) {
                flow.bench.frame(&arp(REPLY, (THEM, PEER), US));
            }
        }
        if number % 100 == 0 {
            assert_eq!(flow.ask(PEER).0, [PEER]);
            flow.bench.wire.clock().advance(Duration::from_millis(10));
        }
    }
    let stats = *flow.bench.server.poll.stack().stats();
    // Two seconds: sixteen neighbours at a time, each three times before a tenth of a second decides.
    assert!(stats.flows_moved == 0 && stats.arp_requests < 1_000, "{}", stats.arp_requests);
    assert!(flow.bench.server.poll.stack().census().resolving <= 16);
    assert_eq!(flow.bench.server.poll.stack().neighbor(THEM), Some(PEER));
}

#[test]
fn a_flow_from_beyond_the_link_follows_its_router() {
    let mut bench = Bench::new(App::Echo);
    // The router finds us by ARP, as one does.
    bench.frame(&arp(REQUEST, (ROUTER, PEER), US));
    let mut flow = Conversation::open_with(bench, FAR);
    let router = Asked { to: Mac::BROADCAST, target: ROUTER };
    assert_eq!(flow.ask(OTHER), (vec![PEER], vec![router]));
    flow.reply(ROUTER, OTHER);
    flow.wait(100);
    assert_eq!(flow.ask(OTHER), (vec![OTHER], vec![]));
    assert_eq!(flow.moved(), 1);
}

/// Else the stranger would be asked for when the way is in doubt, and the router could not contradict: the address is not its
/// own.
#[test]
fn who_claims_to_be_at_the_routers_station_does_not_get_its_flows() {
    let mut bench = Bench::new(App::Echo);
    let stranger = Ipv4Addr::new(10, 77, 0, 66);
    let mut claim = arp(REQUEST, (stranger, PEER), US);
    claim[6..12].copy_from_slice(&OTHER.0);
    assert_eq!(bench.frame(&claim).len(), 1);
    let mut flow = Conversation::open_with(bench, FAR);
    let request = flow.request(PEER);
    flow.bench.frame(&request);
    let mut sent = Vec::new();
    for _ in 0..4_000 {
        let frames = flow.wait(1);
        sent.extend(stations(&frames));
        if !asked(&frames).is_empty() {
            flow.reply(stranger, OTHER);
        }
    }
    assert!(sent.len() >= 4 && sent.iter().all(|&to| to == PEER), "{sent:?}");
}

#[test]
fn a_flow_from_beyond_an_unknown_router_leaves_its_way_only_when_that_is_dead() {
    let mut flow = Conversation::open(FAR);
    flow.wait(5_000);
    // Whoever says what, as long as answers are acknowledged the way is good.
    for _ in 0..10 {
        assert_eq!(flow.ask(OTHER), (vec![PEER], vec![]));
        let mut ack = Tcp::new(5_000, ACK, flow.seq, flow.ack).frame_from(FAR.octets());
        ack[6..12].copy_from_slice(&OTHER.0);
        flow.bench.frame(&ack);
        assert_eq!(stations(&flow.wait(1_100)), []);
    }
    // Now they are not: the peer asks again, by the other router, and again.
    let again = flow.request(OTHER);
    flow.bench.frame(&again);
    for _ in 0..5 {
        flow.wait(300);
        assert_eq!(flow.moved(), 0);
        flow.bench.frame(&again);
    }
    assert_eq!(flow.moved(), 1);
    let sent = stations(&flow.wait(2_000));
    assert_eq!(sent.last(), Some(&OTHER), "{sent:?}");
}

/// Where the kernel has the address too, it has the answers to ARP.
#[test]
fn where_arp_is_the_kernels_nobody_is_asked_and_a_flow_follows_its_peer_on_the_link() {
    let mut settings = config();
    settings.arp = false;
    let mut bench = Bench::with(settings, App::Echo);
    let now = bench.now();
    bench.server.poll.stack_mut().announce(now, 0);
    assert_eq!(bench.turn().len(), 0);
    let mut flow = Conversation::open_with(bench, THEM);
    assert_eq!(flow.ask(OTHER), (vec![PEER], vec![]));
    let mut ack = Tcp::new(5_000, ACK, flow.seq, flow.ack).frame();
    ack[6..12].copy_from_slice(&OTHER.0);
    flow.bench.frame(&ack);
    let again = flow.request(OTHER);
    for _ in 0..6 {
        let frames = flow.bench.frame(&again).into_iter().chain(flow.wait(300));
        assert_eq!(asked(&frames.collect::<Vec<_>>()), []);
    }
    assert_eq!(flow.moved(), 1);
}

/// An answer that was lost once says nothing of the way, once it is acknowledged; nor does it hide the next that is.
#[test]
fn a_way_that_has_lost_an_answer_is_left_only_when_it_loses_all_of_them() {
    let mut flow = Conversation::open(FAR);
    let request = flow.request(PEER);
    assert_eq!(stations(&flow.bench.frame(&request)), [PEER]);
    assert_eq!(stations(&flow.wait(300)), [PEER], "sent again");
    (flow.seq, flow.ack) = (flow.seq.wrapping_add(7), flow.ack.wrapping_add(7));
    flow.bench.frame(&Tcp::new(5_000, ACK, flow.seq, flow.ack).frame_from(FAR.octets()));
    flow.wait(2_000);
    assert_eq!((flow.ask(OTHER), flow.moved()), ((vec![PEER], vec![]), 0));
    // Now nothing comes through.
    let again = flow.request(OTHER);
    for _ in 0..10 {
        flow.bench.frame(&again);
        flow.wait(300);
    }
    assert_eq!(flow.moved(), 1);
}

/// Of two answers that are sent again one is acknowledged; then the way dies, with nothing new to be sent.
#[test]
fn a_way_that_dies_amid_what_is_sent_again_is_left() {
    let mut flow = Conversation::open(FAR);
    let first = flow.request(PEER);
    flow.bench.frame(&first);
    flow.seq = flow.seq.wrapping_add(7);
    let second = flow.request(PEER);
    flow.bench.frame(&second);
    assert!(!flow.wait(300).is_empty(), "sent again");
    flow.ack = flow.ack.wrapping_add(7);
    let again = flow.request(OTHER);
    flow.bench.frame(&Tcp::new(5_000, ACK, flow.seq.wrapping_add(7), flow.ack).frame_from(FAR.octets()));
    for _ in 0..10 {
        flow.wait(300);
        flow.bench.frame(&again);
    }
    assert_eq!(flow.moved(), 1);
}

#[test]
fn a_flow_leaves_the_dead_way_of_a_router_that_does_not_answer() {
    let mut settings = config();
    settings.gateway = Some(ROUTER);
    let mut flow = Conversation::open_with(Bench::with(settings, App::Echo), FAR);
    let again = flow.request(OTHER);
    let mut questions = Vec::new();
    for _ in 0..10 {
        questions.extend(asked(&flow.bench.frame(&again)));
        questions.extend(asked(&flow.wait(300)));
    }
    assert!(questions.iter().any(|question| question.target == ROUTER), "{questions:?}");
    assert_eq!(flow.moved(), 1);
}

/// Neither a keep-alive nor a window that is closed has anything to be acknowledged.
#[test]
fn a_way_on_which_nothing_can_be_acknowledged_is_not_dead() {
    let mut settings = config();
    settings.keep_alive = Some(Duration::from_secs(10));
    let mut flow = Conversation::open_with(Bench::with(settings, App::Echo), FAR);
    let far = |window, flow: &Conversation, data: &[u8]| {
        Tcp { window, ..Tcp::new(5_000, ACK | PSH, flow.seq, flow.ack) }.with(data).frame_from(FAR.octets())
    };
    assert_eq!(stations(&flow.wait(10_500)), [PEER], "a keep-alive");
    flow.bench.frame(&far(1_000, &flow, b""));
    flow.wait(2_000);
    assert_eq!(flow.ask(OTHER), (vec![PEER], vec![]));
    assert_eq!(flow.moved(), 0);
    // The answer to this waits for the window. The peer answers each probe of it.
    let closing = far(0, &flow, b"get k\r\n");
    flow.bench.frame(&closing);
    flow.seq = flow.seq.wrapping_add(7);
    let mut probes = 0;
    for _ in 0..500 {
        if !stations(&flow.wait(10)).is_empty() {
            probes += 1;
            let closed = far(0, &flow, b"");
            flow.bench.frame(&closed);
        }
    }
    assert!(probes > 2, "{probes}");
    let mut stranger = far(1_000, &flow, b"");
    stranger[6..12].copy_from_slice(&OTHER.0);
    assert!(stations(&flow.bench.frame(&stranger)).iter().all(|&station| station == PEER));
    assert_eq!(flow.moved(), 0);
}

#[test]
fn keep_alives_of_many_flows_of_a_peer_do_not_ask_for_it_each_second() {
    let mut settings = config();
    settings.keep_alive = Some(Duration::from_secs(10));
    let mut bench = Bench::with(settings, App::Deaf);
    let mut next = Vec::new();
    for port in 5_000..5_100 {
        next.push(bench.open(port, 100));
        bench.wire.clock().advance(Duration::from_millis(100));
    }
    let (mut probes, mut questions) = (0, 0);
    for _ in 0..6_000 {
        bench.wire.clock().advance(Duration::from_millis(10));
        let frames = bench.turn();
        questions += asked(&frames).len();
        for _ in asked(&frames) {
            bench.send(&arp(REPLY, (THEM, PEER), US));
        }
        for probe in segments(&frames) {
            probes += 1;
            bench.send(&Tcp::new(probe.peer_port, ACK, 101, next[usize::from(probe.peer_port - 5_000)]).frame());
        }
    }
    assert!(probes >= 500 && (1..=3).contains(&questions), "{probes} keep-alives in a minute, {questions} questions");
}

#[test]
fn a_flow_from_beyond_the_link_stays_with_a_router_that_answers() {
    let mut settings = config();
    settings.gateway = Some(ROUTER);
    let mut flow = Conversation::open_with(Bench::with(settings, App::Echo), FAR);
    let again = flow.request(OTHER);
    let router = Asked { to: Mac::BROADCAST, target: ROUTER };
    assert!(asked(&flow.bench.frame(&again)).contains(&router));
    flow.reply(ROUTER, PEER);
    for _ in 0..10 {
        flow.wait(300);
        if asked(&flow.bench.frame(&again)).contains(&router) {
            flow.reply(ROUTER, PEER);
        }
    }
    assert_eq!(flow.moved(), 0);
}

#[test]
fn a_request_that_comes_again_from_another_station_has_the_peer_asked_for() {
    let mut flow = Conversation::open(THEM);
    let request = flow.request(PEER);
    flow.ask(PEER);
    // The peer has moved before the answer came.
    let mut again = request.clone();
    again[6..12].copy_from_slice(&OTHER.0);
    let frames = flow.bench.frame(&again);
    assert_eq!((stations(&frames), asked(&frames)), (vec![PEER], vec![EVERYBODY]));
    flow.reply(THEM, OTHER);
    flow.wait(100);
    assert_eq!(stations(&flow.bench.frame(&again)), [OTHER]);
    // So has a keep-alive of a peer that has moved.
    flow.wait(1_100);
    let mut keep_alive = Tcp::new(5_000, ACK, flow.seq.wrapping_sub(1), flow.ack).frame();
    keep_alive[6..12].copy_from_slice(&PEER.0);
    assert_eq!(asked(&flow.bench.frame(&keep_alive)), [EVERYBODY]);
    flow.reply(THEM, OTHER);
    // Old numbers are no repetition.
    flow.wait(1_100);
    let old = Tcp::new(5_000, ACK | PSH, flow.seq.wrapping_sub(1 << 20), flow.ack).with(b"get k\r\n");
    assert_eq!(asked(&flow.bench.frame(&old.frame())), []);
}

#[test]
fn a_peer_that_moves_in_time_wait_is_answered_where_it_is() {
    let mut bench = Bench::new(App::Blast(3));
    let next = bench.one(&Tcp::new(5_000, SYN, 100, 0)).seq.wrapping_add(1);
    bench.one(&Tcp::new(5_000, ACK, 101, next));
    bench.one(&Tcp::new(5_000, ACK | FIN, 101, next.wrapping_add(4)));
    assert_eq!(bench.server.poll.stack().census().time_wait, 1);
    bench.wait(Duration::from_secs(1));
    let now = bench.now();
    bench.server.poll.stack_mut().learn_neighbor(now, THEM, OTHER);
    let again = bench.frame(&Tcp::new(5_000, ACK | FIN, 101, next.wrapping_add(4)).frame());
    assert_eq!(stations(&again), [OTHER]);
}

#[test]
fn a_core_that_arp_does_not_reach_hears_it_from_the_core_that_it_reaches() {
    let mut both = config();
    both.peers = 1;
    let mut flow = Conversation::open_with(Bench::with(both.clone(), App::Echo), THEM);
    let mut other = Bench::with(both, App::Echo);
    assert_eq!(flow.ask(OTHER).1, [EVERYBODY]);
    // The answer comes over the queue of the other core, which knows nothing of the flow.
    assert!(other.frame(&arp(REPLY, (THEM, OTHER), US)).is_empty());
    let mut passed = Vec::new();
    while other.server.poll.stack_mut().next_stray(|frame, hops| passed.push((frame.to_vec(), hops))) {}
    let [(frame, 1)] = &mut passed[..] else { panic!("{passed:?}") };
    let now = flow.bench.now();
    flow.bench.server.take_stray(now, frame, 1);
    flow.wait(101);
    assert_eq!(flow.ask(OTHER), (vec![OTHER], vec![]));
    // It has been round, and was answered by nobody but the first.
    assert_eq!(flow.bench.server.poll.stack().census().strays, 0);
    let request = other.frame(&arp(REQUEST, (THEM, OTHER), US));
    assert_eq!((request.len(), &request[0][..6], &request[0][6..12]), (1, &OTHER.0[..], &OWN.0[..]));
    assert!(other.server.poll.stack_mut().next_stray(|frame, _| passed.push((frame.to_vec(), 1))));
    let before = flow.bench.server.poll.stack().stats().arp_replies;
    flow.bench.server.take_stray(now, &mut passed[1].0, 1);
    assert_eq!(flow.bench.server.poll.stack().stats().arp_replies, before);
}
