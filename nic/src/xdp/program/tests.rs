//! The program alone, run by the kernel on frames made here (`BPF_PROG_TEST_RUN`). Needs root.

use std::os::fd::{AsRawFd, OwnedFd};

use aya::programs::{TestRun, TestRunOptions};
use rustix::net::{AddressFamily, SocketType};

use super::*;

const OURS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const SHARED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

/// `AF_XDP` (`linux/socket.h`).
const AF_XDP: u16 = 44;

/// A program with one own and one shared address and TCP port 11211, whose queue 0 has a socket that is bound to
/// nothing; `None`, said on stderr, without root.
fn loaded(with_socket: bool) -> Option<(Steering, OwnedFd)> {
    loaded_as(with_socket, false)
}

fn loaded_as(with_socket: bool, merged: bool) -> Option<(Steering, OwnedFd)> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return None;
    }
    let socket = rustix::net::socket(AddressFamily::from_raw(AF_XDP), SocketType::RAW, None).unwrap();
    let mut steering = Steering::load(1, merged).unwrap();
    steering.set_address(OURS, AddressMode::Own).unwrap();
    steering.set_address(SHARED, AddressMode::Shared).unwrap();
    steering.open_port(Transport::Tcp, 11211).unwrap();
    if with_socket {
        steering.set_socket(0, socket.as_raw_fd()).unwrap();
    }
    Some((steering, socket))
}

fn verdict(steering: &mut Steering, frame: &[u8]) -> u32 {
    let program = steer(&mut steering.program, steering.name).unwrap();
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    program.test_run(options).unwrap().return_value
}

fn ethernet(ethertype: u16, vlan: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    if let Some(id) = vlan {
        frame.extend([0x81, 0x00]);
        frame.extend(id.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// An IPv4 packet; `fragment` is the word of flags and offset.
fn ipv4(source: Ipv4Addr, to: Ipv4Addr, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 20 + payload.len() as u8, 0, 0];
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    let mut header = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    header.resize(20, 0);
    header
}

fn arp(operation: u16, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend([2, 0, 0, 0, 0, 1]);
    packet.extend(sender.octets());
    packet.extend([0; 6]);
    packet.extend(target.octets());
    ethernet(0x0806, None, &packet)
}

fn tcp(to: Ipv4Addr, port: u16) -> Vec<u8> {
    ethernet(0x0800, None, &ipv4(PEER, to, 6, 0x4000, &ports(40000, port)))
}

#[test]
fn everything_for_an_own_address_goes_to_the_socket() {
    let Some((mut steering, _socket)) = loaded(true) else { return };
    let fragment = ipv4(PEER, OURS, 17, 0x2000, &ports(1, 2));
    let options = [&[0x46][..], &ipv4(PEER, OURS, 6, 0, &ports(1, 2))[1..]].concat();
    let frames = [
        tcp(OURS, 11211),
        tcp(OURS, 22),
        ethernet(0x0800, Some(7), &ipv4(PEER, OURS, 17, 0, &ports(1, 11211))),
        ethernet(0x0800, None, &ipv4(PEER, OURS, 1, 0, &[8, 0, 0, 0])),
        ethernet(0x0800, None, &fragment),
        ethernet(0x0800, None, &options),
    ];
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!(verdict(&mut steering, frame), XDP_REDIRECT, "frame {index}");
    }
    let redirected = frames.len() as u64;
    assert_eq!(steering.counters().unwrap(), SteerCounters { redirected, ..SteerCounters::default() });
}

/// Beyond a page the kernel hands the program the first buffer alone, as it does where a link below merges frames.
#[test]
fn a_frame_of_several_buffers_is_judged_by_its_first() {
    let Some((mut steering, _socket)) = loaded_as(true, true) else { return };
    let long = |mut frame: Vec<u8>| {
        frame.resize(20_000, 0);
        frame
    };
    for frame in [tcp(OURS, 11211), tcp(SHARED, 11211)] {
        assert_eq!(verdict(&mut steering, &long(frame.clone())), XDP_REDIRECT);
        assert_eq!(verdict(&mut steering, &frame), XDP_REDIRECT);
    }
    assert_eq!(verdict(&mut steering, &long(tcp(SHARED, 22))), XDP_PASS);
}

#[test]
fn arp_for_an_own_address_goes_to_the_socket_and_other_arp_to_the_kernel() {
    let Some((mut steering, _socket)) = loaded(true) else { return };
    assert_eq!(verdict(&mut steering, &arp(1, PEER, OURS)), XDP_REDIRECT);
    assert_eq!(verdict(&mut steering, &arp(2, PEER, OURS)), XDP_REDIRECT);
    assert_eq!(verdict(&mut steering, &arp(1, PEER, SHARED)), XDP_PASS);
    assert_eq!(verdict(&mut steering, &arp(1, PEER, PEER)), XDP_PASS);
    assert_eq!(steering.counters().unwrap(), SteerCounters { arp: 2, passed: 2, ..SteerCounters::default() });
}

#[test]
fn only_listed_ports_of_a_shared_address_go_to_the_socket() {
    let Some((mut steering, _socket)) = loaded(true) else { return };
    let to_shared =
        |protocol, fragment, payload: &[u8]| ethernet(0x0800, None, &ipv4(PEER, SHARED, protocol, fragment, payload));
    assert_eq!(verdict(&mut steering, &tcp(SHARED, 11211)), XDP_REDIRECT);
    let others = [
        tcp(SHARED, 22),
        to_shared(17, 0, &ports(1, 11211)),     // UDP is not listed.
        to_shared(6, 0x2000, &ports(1, 11211)), // A first fragment.
        to_shared(1, 0, &[8, 0, 0, 0]),         // Echo.
        to_shared(132, 0, &ports(1, 11211)),    // SCTP.
        ethernet(0x0800, None, &[&[0x46][..], &ipv4(PEER, SHARED, 6, 0, &ports(1, 11211))[1..]].concat()),
    ];
    for (index, frame) in others.iter().enumerate() {
        assert_eq!(verdict(&mut steering, frame), XDP_PASS, "frame {index}");
    }
    steering.close_port(Transport::Tcp, 11211).unwrap();
    steering.open_port(Transport::Udp, 11211).unwrap();
    assert_eq!(verdict(&mut steering, &tcp(SHARED, 11211)), XDP_PASS);
    assert_eq!(verdict(&mut steering, &to_shared(17, 0, &ports(1, 11211))), XDP_REDIRECT);
}

#[test]
fn an_icmp_error_goes_to_whoever_sent_the_quoted_packet() {
    let Some((mut steering, _socket)) = loaded(true) else { return };
    let unreachable = |quoted: &[u8]| {
        let icmp = [&[3u8, 4, 0, 0, 0, 0, 5, 0xdc][..], quoted].concat();
        ethernet(0x0800, None, &ipv4(PEER, SHARED, 1, 0, &icmp))
    };
    let ours = unreachable(&ipv4(SHARED, PEER, 6, 0, &ports(11211, 40000)));
    let kernels = unreachable(&ipv4(SHARED, PEER, 6, 0, &ports(22, 40000)));
    assert_eq!(verdict(&mut steering, &ours), XDP_REDIRECT);
    assert_eq!(verdict(&mut steering, &kernels), XDP_PASS);
}

#[test]
fn addresses_change_while_the_program_is_loaded() {
    let Some((mut steering, _socket)) = loaded(true) else { return };
    assert_eq!(verdict(&mut steering, &tcp(PEER, 80)), XDP_PASS);
    steering.set_address(PEER, AddressMode::Own).unwrap();
    assert_eq!(verdict(&mut steering, &tcp(PEER, 80)), XDP_REDIRECT);
    steering.remove_address(PEER).unwrap();
    assert_eq!(verdict(&mut steering, &tcp(PEER, 80)), XDP_PASS);
    assert!(steering.remove_address(PEER).is_err());
}

#[test]
fn a_queue_without_a_socket_falls_back_to_the_kernel_and_is_counted() {
    let Some((mut steering, _socket)) = loaded(false) else { return };
    assert_eq!(verdict(&mut steering, &tcp(OURS, 11211)), XDP_PASS);
    assert_eq!(verdict(&mut steering, &arp(1, PEER, OURS)), XDP_PASS);
    assert_eq!(steering.counters().unwrap(), SteerCounters { no_socket: 2, ..SteerCounters::default() });
}

#[test]
fn cut_frames_go_to_the_kernel_whatever_their_length() {
    let Some((mut steering, _socket)) = loaded(true) else { return };
    // The kernel takes no frame below 14 bytes here; own addresses need the 20 bytes of the IPv4 header.
    for whole in [tcp(SHARED, 11211), arp(1, PEER, OURS)] {
        for len in 14..14 + 20 {
            assert_eq!(verdict(&mut steering, &whole[..len]), XDP_PASS, "{len} bytes");
        }
    }
    assert!(steering.counters().unwrap().passed > 0);
}
