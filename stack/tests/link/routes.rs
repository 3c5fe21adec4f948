//! By which router a flow's frames go when the table of routes changes, and that nobody else has a say in it.

use std::net::Ipv4Addr;
use std::time::Duration;

use sidestep_stack::{DropReason, Mac, OwnAddress, Route, Routes};

use crate::lab::arp::{Asked, REPLY, arp, asked};
use crate::lab::bench::Bench;
use crate::lab::odd::{sum, sum_ip};
use crate::lab::raw::{ACK, PSH, SYN, Tcp};
use crate::lab::{App, PEER, THEM, US, config};

/// Hosts that are not on the link.
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Two routers; the station of the first is `PEER`.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 253);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);
const SECOND_MAC: Mac = Mac([2, 0, 0, 0, 0, 254]);

fn routes(routes: impl IntoIterator<Item = Route>) -> Routes {
    Routes::new([OwnAddress::new(US, 24)], routes)
}

fn by(router: Ipv4Addr) -> Routes {
    routes([Route::default_by(router)])
}

/// A stack whose default route is the first router's, with a connection of each host at port 5,000; what each is to send and
/// to acknowledge next.
fn open(hosts: &[Ipv4Addr]) -> (Bench, Vec<Flow>) {
    let mut bench = Bench::new(App::Echo);
    bench.server.poll.stack_mut().set_routes(&by(FIRST));
    let open = |&host: &Ipv4Addr| {
        let syn_ack = bench.frame(&Tcp::new(5_000, SYN, 100, 0).frame_from(host.octets()));
        let ack = Tcp::read(&syn_ack[0]).seq.wrapping_add(1);
        bench.frame(&Tcp::new(5_000, ACK, 101, ack).frame_from(host.octets()));
        Flow { host, seq: 101, ack }
    };
    let flows = hosts.iter().map(open).collect();
    (bench, flows)
}

struct Flow {
    host: Ipv4Addr,
    seq: u32,
    ack: u32,
}

impl Flow {
    /// Sends a request by the first router. Returns the station that the answer went to.
    fn ask(&mut self, bench: &mut Bench) -> Mac {
        let request = Tcp::new(5_000, ACK | PSH, self.seq, self.ack).with(b"get k\r\n");
        let frames = bench.frame(&request.frame_from(self.host.octets()));
        (self.seq, self.ack) = (self.seq.wrapping_add(7), self.ack.wrapping_add(7));
        let answer = frames.iter().find(|frame| frame[12..14] == [8, 0]).expect("it is answered");
        Mac(answer[..6].try_into().expect("six bytes"))
    }
}

fn answer(bench: &mut Bench) {
    bench.frame(&arp(REPLY, (SECOND, SECOND_MAC), US));
    // Flows are looked at in the turns that follow.
    for _ in 0..20 {
        bench.turn();
    }
}

fn wait(bench: &mut Bench, millis: u64) -> Vec<Asked> {
    let mut frames = Vec::new();
    for _ in 0..millis {
        bench.wire.clock().advance(Duration::from_millis(1));
        frames.extend(bench.turn());
    }
    asked(&frames)
}

#[test]
fn flows_go_by_the_router_that_takes_anothers_place_once_it_has_answered() {
    let (mut bench, mut flows) = open(&[FAR, ELSEWHERE, THEM]);
    bench.server.poll.stack_mut().set_routes(&by(SECOND));
    let question = asked(&bench.turn());
    assert_eq!(question, [Asked { to: Mac::BROADCAST, target: SECOND }], "once for both flows");
    let stations =
        |bench: &mut Bench, flows: &mut [Flow]| -> Vec<_> { flows.iter_mut().map(|flow| flow.ask(bench)).collect() };
    assert_eq!(stations(&mut bench, &mut flows), [PEER; 3], "it has not answered yet");
    answer(&mut bench);
    assert_eq!(stations(&mut bench, &mut flows), [SECOND_MAC, SECOND_MAC, PEER]);
    assert_eq!(bench.server.poll.stack().stats().flows_moved, 2);
    assert!(!bench.server.poll.stack().has_work());
    // Frames that still come from the first router move nothing back: the second answers for itself.
    wait(&mut bench, 2_000);
    answer(&mut bench);
    assert_eq!(flows[0].ask(&mut bench), SECOND_MAC);
    assert_eq!(bench.server.poll.stack().stats().flows_moved, 2);
}

#[test]
fn only_flows_whose_route_has_changed_go_elsewhere() {
    let (mut bench, mut flows) = open(&[FAR, ELSEWHERE]);
    let special = Route { network: ELSEWHERE.into(), prefix_len: 24, gateway: Some(SECOND.into()) };
    bench.server.poll.stack_mut().set_routes(&routes([Route::default_by(FIRST), special]));
    bench.turn();
    answer(&mut bench);
    assert_eq!([flows[0].ask(&mut bench), flows[1].ask(&mut bench)], [PEER, SECOND_MAC]);
}

#[test]
fn a_router_that_does_not_answer_takes_no_flow_and_is_asked_three_times() {
    let (mut bench, mut flows) = open(&[FAR, ELSEWHERE]);
    bench.server.poll.stack_mut().set_routes(&by(SECOND));
    let questions = wait(&mut bench, 20_000).into_iter().filter(|asked| asked.target == SECOND).count();
    assert_eq!(questions, 3);
    assert_eq!([flows[0].ask(&mut bench), flows[1].ask(&mut bench)], [PEER; 2]);
    assert!(!bench.server.poll.stack().has_work() && bench.server.poll.stack().census().resolving == 0);
}

#[test]
fn a_table_that_changes_twice_at_once_moves_flows_to_the_last() {
    let (mut bench, mut flows) = open(&[FAR]);
    bench.server.poll.stack_mut().set_routes(&by(Ipv4Addr::new(10, 77, 0, 99)));
    bench.turn();
    bench.server.poll.stack_mut().set_routes(&by(SECOND));
    bench.turn();
    answer(&mut bench);
    assert_eq!(flows[0].ask(&mut bench), SECOND_MAC);
    // And one that is as it was before moves none.
    let (mut bench, mut flows) = open(&[FAR]);
    bench.server.poll.stack_mut().set_routes(&by(SECOND));
    bench.server.poll.stack_mut().set_routes(&by(FIRST));
    assert_eq!(asked(&bench.turn()), []);
    assert_eq!(flows[0].ask(&mut bench), PEER);
}

#[test]
fn a_flow_that_had_no_route_goes_on_answering_where_its_frames_come_from() {
    let (mut bench, mut flows) = open(&[FAR]);
    for table in [routes([]), by(SECOND)] {
        bench.server.poll.stack_mut().set_routes(&table);
        assert_eq!(asked(&bench.turn()), []);
        assert_eq!(flows[0].ask(&mut bench), PEER);
    }
    assert_eq!(bench.server.poll.stack().next_hop(FAR), Some(SECOND.into()));
}

#[test]
fn where_arp_is_the_kernels_no_router_is_asked_for() {
    let mut settings = config();
    settings.arp = false;
    let mut bench = Bench::with(settings, App::Echo);
    for router in [FIRST, SECOND] {
        bench.server.poll.stack_mut().set_routes(&by(router));
        assert_eq!(asked(&bench.turn()), []);
    }
}

/// RFC 1122 §3.2.2.2: a host should believe a redirect of the flow's present router. Whoever sends one can say that it is.
#[test]
fn a_redirect_is_counted_and_moves_nothing() {
    let (mut bench, mut flows) = open(&[FAR]);
    let quoted = Tcp::new(5_000, ACK, flows[0].seq, flows[0].ack).frame_from(FAR.octets());
    let mut redirect = Tcp::new(5_000, ACK, 0, 0).with(&[0; 16]).frame_from(FIRST.octets());
    redirect[23] = 1;
    let (ip, message) = redirect[14..].split_at_mut(20);
    // For the host; the better router; the header of a packet that is said to be ours.
    message[..8].copy_from_slice(&[5, 1, 0, 0, 10, 77, 0, 254]);
    message[8..36].copy_from_slice(&quoted[14..42]);
    message[20..24].copy_from_slice(&US.octets());
    message[24..28].copy_from_slice(&FAR.octets());
    let right = sum(&[&*message]);
    message[2..4].copy_from_slice(&right);
    sum_ip(ip);
    assert_eq!(bench.frame(&redirect), Vec::<Vec<u8>>::new());
    assert_eq!(bench.drops(DropReason::IcmpRedirect), 1);
    assert_eq!((flows[0].ask(&mut bench), bench.server.poll.stack().stats().flows_moved), (PEER, 0));
    assert_eq!(bench.server.poll.stack().next_hop(FAR), Some(FIRST.into()));
}
