//! AF_XDP over a veth pair with less than is needed: a fill ring that runs dry, a transmit ring that stays full, a UMEM of
//! the smallest size. Frames are lost, or wait; each loss is counted by its cause, no frame of the pool goes astray, and
//! once there is enough again everything passes. Needs root; without it each test says so and passes.

#[path = "xdp_veth/lab.rs"]
#[allow(dead_code)] // The stack's own address and a lab of another process are not needed here.
mod lab;
#[path = "xdp_veth/packet.rs"]
#[allow(dead_code)] // Of ARP nothing is needed here.
mod packet;

use std::net::Ipv4Addr;

use lab::{Lab, Side, eventually};
use packet::{Place, UDP_BYTES, read_udp, write_udp};
use sidestep_nic::xdp::{AttachMode, XdpConfig, XdpDevice, XdpQueue};
use sidestep_nic::{BURST, Burst, Queue};

/// The smallest rings there are: 64 descriptors, and so 128 frames for receiving and 192 for sending.
const RING: u32 = 64;
const RX_FRAMES: usize = 128;
const TX_FRAMES: usize = 192;

const CLIENT: Place = Place { mac: [2, 0, 0, 0, 0, 0xa], address: Ipv4Addr::new(10, 78, 0, 1), port: 1 };
const SERVER: Place = Place { mac: [2, 0, 0, 0, 0, 0xb], address: Ipv4Addr::new(10, 78, 0, 2), port: 2 };

/// Bytes of every frame: a number lies behind the headers.
const FRAME_BYTES: usize = UDP_BYTES + 8;

/// One queue of the veth's end on `side`, with the smallest rings.
fn open(lab: &Lab, side: Side, place: Place) -> (XdpDevice, XdpQueue) {
    let new = XdpConfig::new(side.link(), place.address);
    let config = XdpConfig { attach: AttachMode::Native, rx_ring: RING, tx_ring: RING, ..new };
    let mut device = lab.inside(side, || XdpDevice::open(&config)).expect("the device opens");
    let queue = device.queue_ids()[0];
    let queue = device.take_queue(queue).expect("not taken yet");
    assert_eq!(queue.census().total, RX_FRAMES + TX_FRAMES);
    (device, queue)
}

/// Hands frames with the numbers of `numbers` to the transmit ring; returns those for which there is no frame or no room.
fn send(queue: &mut XdpQueue, (from, to): (Place, Place), numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let (mut burst, mut left) = (Burst::default(), Vec::new());
    for number in numbers {
        let frame = if burst.room() > 0 { queue.tx_alloc() } else { None };
        let Some(mut frame) = frame else {
            left.push(number);
            continue;
        };
        frame.resize(FRAME_BYTES).expect("room");
        frame.bytes_mut()[UDP_BYTES..].copy_from_slice(&number.to_be_bytes());
        write_udp(frame.bytes_mut(), from, to);
        burst.push(frame).expect("there is room");
    }
    queue.tx_burst(&mut burst);
    // What the ring has no room for.
    let mut unsent = Vec::new();
    while let Some(frame) = burst.pop() {
        unsent.push(number_of(frame.bytes()).expect("it was just written"));
        queue.free(frame);
    }
    unsent.extend(left);
    unsent
}

fn number_of(frame: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(read_udp(frame)?.2.try_into().ok()?))
}

/// Receives the numbers that have come, and gives their frames back.
fn receive(queue: &mut XdpQueue) -> Vec<u64> {
    let (mut burst, mut numbers) = (Burst::default(), Vec::new());
    queue.rx_burst(&mut burst);
    while let Some(frame) = burst.pop() {
        numbers.extend(number_of(frame.bytes()));
        queue.free(frame);
    }
    queue.flush().expect("the link is there");
    numbers
}

#[test]
fn frames_that_find_the_fill_ring_empty_are_counted_by_that_and_those_after_it_arrive() {
    let Some(lab) = Lab::up(1) else { return };
    let (_server, mut server) = open(&lab, Side::Server, SERVER);
    let (_client, mut client) = open(&lab, Side::Client, CLIENT);
    let before = server.census();
    // The receiver holds what comes, until the kernel has no frame to fill.
    let (mut burst, mut held) = (Burst::default(), Vec::new());
    for first in (0..RX_FRAMES as u64).step_by(BURST) {
        assert!(send(&mut client, (CLIENT, SERVER), first..first + BURST as u64).is_empty());
        client.flush().expect("the link is there");
        eventually("a burst", || {
            server.rx_burst(&mut burst);
            while let Some(frame) = burst.pop() {
                match number_of(frame.bytes()) {
                    Some(_) => held.push(frame),
                    None => server.free(frame),
                }
            }
            server.flush().expect("the link is there");
            (held.len() as u64 == first + BURST as u64).then_some(())
        });
    }
    assert_eq!((server.census().held, server.census().fill), (RX_FRAMES, 0));
    let drops = server.stats().drops;
    assert_eq!((drops.rx_fill_ring_empty, drops.rx_ring_full), (0, 0));
    assert!(send(&mut client, (CLIENT, SERVER), 1000..1040).is_empty());
    client.flush().expect("the link is there");
    eventually("the losses are counted", || (server.stats().drops.rx_fill_ring_empty == 40).then_some(()));
    let drops = server.stats().drops;
    assert_eq!((drops.rx_ring_full, drops.rx_too_long, drops.rx_invalid_descriptors), (0, 0, 0), "{drops:?}");
    assert_eq!(server.stats().rx_dropped, 40);

    for frame in held {
        server.free(frame);
    }
    server.flush().expect("the link is there");
    assert_eq!(server.census(), before);
    let mut arrived = Vec::new();
    for first in (2000..2640).step_by(32) {
        assert!(send(&mut client, (CLIENT, SERVER), first..first + 32).is_empty());
        client.flush().expect("the link is there");
        eventually("the frames after it", || {
            arrived.extend(receive(&mut server));
            (arrived.len() as u64 == first + 32 - 2000).then_some(())
        });
    }
    assert_eq!(arrived, (2000..2640).collect::<Vec<_>>());
    assert_eq!((server.stats().drops.rx_fill_ring_empty, server.census()), (40, before));
}

#[test]
fn a_transmit_ring_that_nobody_empties_holds_its_frames_and_sends_them_once_it_can() {
    let Some(lab) = Lab::up(1) else { return };
    let (_server, mut server) = open(&lab, Side::Server, SERVER);
    let (_client, mut client) = open(&lab, Side::Client, CLIENT);
    let before = server.census();
    // The kernel takes nothing from the ring of an interface that is down (ENETDOWN).
    lab.ip(Side::Server, &["link", "set", "s0", "down"]);
    let mut waiting: Vec<u64> = (0..400).collect();
    for _ in 0..20 {
        waiting = send(&mut server, (SERVER, CLIENT), waiting);
        server.flush().expect("an interface that is down is no fault");
    }
    assert_eq!(waiting, (u64::from(RING)..400).collect::<Vec<_>>(), "as many as the ring holds were taken, in order");
    assert_eq!((server.census().tx, server.census().held), (RING as usize, 0));
    // Whoever goes on making frames finds none before long, which is counted; nothing else is lost by it.
    let mut written = Vec::new();
    while let Some(frame) = server.tx_alloc() {
        written.push(frame);
        assert!(written.len() <= TX_FRAMES, "there are no more");
    }
    assert_eq!((written.len(), server.stats().tx_exhausted), (TX_FRAMES - RING as usize, 1));
    for frame in written {
        server.free(frame);
    }

    lab.ip(Side::Server, &["link", "set", "s0", "up"]);
    let mut arrived = Vec::new();
    eventually("all frames", || {
        server.flush().expect("the link is there");
        arrived.extend(receive(&mut client));
        waiting = send(&mut server, (SERVER, CLIENT), std::mem::take(&mut waiting));
        (arrived.len() == 400).then_some(())
    });
    assert_eq!(arrived, (0..400).collect::<Vec<_>>());
    eventually("the last frames are free again", || {
        server.flush().expect("the link is there");
        (server.census() == before).then_some(())
    });
}

#[test]
fn an_echo_with_the_smallest_rings_answers_all_but_what_is_counted_as_lost() {
    let Some(lab) = Lab::up(1) else { return };
    let (_server, mut server) = open(&lab, Side::Server, SERVER);
    let (_client, mut client) = open(&lab, Side::Client, CLIENT);
    let mut answers = 0;
    let mut sent = 0;
    for round in 0..500_u64 {
        // Two rounds in three find an echo that does not come round in time.
        let unsent = send(&mut client, (CLIENT, SERVER), round * 64..round * 64 + 64);
        sent += 64 - unsent.len() as u64;
        client.flush().expect("the link is there");
        if round % 3 != 0 {
            continue;
        }
        echo(&mut server);
        answers += receive(&mut client).len() as u64;
    }
    let lost = |queue: &XdpQueue| queue.stats().rx_dropped;
    eventually("what is left", || {
        echo(&mut server);
        answers += receive(&mut client).len() as u64;
        (answers + lost(&server) + lost(&client) == sent).then_some(())
    });
    let drops = server.stats().drops;
    assert!(drops.rx_ring_full > 0 && answers > 0, "{answers} of {sent}: {drops:?}");
    // And now that it keeps up, each is answered.
    let before = lost(&server);
    for round in 1000..1020_u64 {
        let mut back = Vec::new();
        assert!(send(&mut client, (CLIENT, SERVER), round * 32..round * 32 + 32).is_empty());
        client.flush().expect("the link is there");
        eventually("a round", || {
            echo(&mut server);
            back.extend(receive(&mut client));
            (back.len() == 32).then_some(())
        });
        assert_eq!(back, (round * 32..round * 32 + 32).collect::<Vec<_>>());
    }
    assert_eq!(lost(&server), before);
}

/// Sends back what has come.
fn echo(queue: &mut XdpQueue) {
    let (mut burst, mut numbers) = (Burst::default(), Vec::new());
    queue.rx_burst(&mut burst);
    while let Some(frame) = burst.pop() {
        numbers.extend(number_of(frame.bytes()));
        queue.free(frame);
    }
    let unsent = send(queue, (SERVER, CLIENT), numbers);
    assert!(unsent.is_empty(), "a burst of answers always has frames: {unsent:?}");
    queue.flush().expect("the link is there");
}
