//! The packet path of an AF_XDP queue allocates nothing. One test, alone in its process since the counter is global.

#[path = "xdp_veth/lab.rs"]
#[allow(dead_code)] // What the other tests of the lab need.
mod lab;
#[path = "xdp_veth/packet.rs"]
#[allow(dead_code)]
mod packet;

use std::alloc::System;
use std::net::Ipv4Addr;

use lab::{Lab, OURS, Side, eventually};
use packet::{Place, UDP_BYTES, write_udp};
use sidestep_nic::xdp::{XdpConfig, XdpDevice};
use sidestep_nic::{Burst, Queue, QueueId};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);

#[test]
fn receiving_and_sending_allocate_nothing() {
    let Some(lab) = Lab::up(2) else { return };
    let mut devices = [(Side::Server, OURS), (Side::Client, THEIRS)].map(|(side, address)| {
        let config = XdpConfig::new(side.link(), address);
        lab.inside(side, || XdpDevice::open(&config)).expect("the device opens")
    });
    let from = Place { mac: devices[1].link().mac.0, address: THEIRS, port: 7 };
    let to = Place { mac: devices[0].link().mac.0, address: OURS, port: 9 };
    let [mut server, mut client] = devices.each_mut().map(|device| device.take_queue(QueueId(0)).expect("bound"));
    let mut burst = Burst::default();
    let mut echoes = 0;
    let counter = Region::new(ALLOCATOR);
    for _ in 0..50 {
        for _ in 0..20 {
            let mut frame = client.tx_alloc().expect("a free frame");
            frame.resize(UDP_BYTES).expect("room");
            write_udp(frame.bytes_mut(), from, to);
            burst.push(frame).expect("room");
        }
        client.tx_burst(&mut burst);
        client.flush().expect("the link is there");
        let mut back = 0;
        eventually("the echoes", || {
            server.rx_burst(&mut burst);
            for _ in 0..burst.len() {
                let mut frame = burst.pop().expect("one of them");
                write_udp(frame.bytes_mut(), to, from);
                burst.push(frame).expect("room");
            }
            server.tx_burst(&mut burst);
            server.flush().expect("the link is there");
            back += client.rx_burst(&mut burst);
            while let Some(frame) = burst.pop() {
                client.free(frame);
            }
            (back >= 20).then_some(())
        });
        echoes += back;
    }
    let change = counter.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0), "{change:?}");
    assert_eq!(echoes, 1000);
}
