//! The two hosts: our stack on a wire, and the kernel behind a veth. Both are given frames and asked what comes back; an
//! echo request behind the frames is the end marker: a host answers in order, so its reply says that no more comes.

use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use etherparse::PacketBuilder;
use nic::link::Link;
use nic::packet::PacketSocket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::lab::bench::Bench;
use crate::lab::raw::{Ends, Tcp};
use crate::lab::{App, OWN, PEER, PORT, THEM, US, config};
use crate::veth::{KERNEL, Lab, Side};

/// A host with one listening port and an application that takes nothing.
pub trait Host {
    /// The addresses by which it is reached.
    fn ends(&self) -> Ends;
    /// The port that it listens on.
    fn port(&self) -> u16;
    /// Gives it the frames and returns the segments that it sends to `port` until it has dealt with all of them.
    fn exchange(&mut self, frames: &[Vec<u8>], port: u16) -> Vec<Tcp>;
    /// Has its application close its direction, of the connection that was opened last.
    fn shut_down(&mut self);
    /// Has its application forget that connection, in order.
    fn close(&mut self);
    /// Ends what is left of it.
    fn end(&mut self);
}

/// Our stack.
pub struct Ours {
    bench: Bench,
}

impl Ours {
    pub fn new() -> Self {
        let mut config = config();
        (config.max_flows, config.flows_at_start) = (8, 8);
        Self { bench: Bench::with(config, App::Deaf) }
    }
}

impl Host for Ours {
    fn ends(&self) -> Ends {
        Ends { peer_mac: PEER.0, host_mac: OWN.0, peer: THEM, host: US }
    }

    fn port(&self) -> u16 {
        PORT
    }

    fn exchange(&mut self, frames: &[Vec<u8>], port: u16) -> Vec<Tcp> {
        // No limit of answers is what is compared here.
        self.bench.wire.clock().advance(Duration::from_secs(1));
        let mut sent = self.bench.turn();
        for frame in frames {
            sent.extend(self.bench.frame(frame));
        }
        let segments = crate::lab::bench::segments(&sent);
        segments.into_iter().filter(|segment| segment.peer_port == port).collect()
    }

    fn shut_down(&mut self) {
        for &id in self.bench.server.flows.keys() {
            self.bench.server.poll.shutdown(id);
        }
    }

    fn close(&mut self) {
        for (id, _) in self.bench.server.flows.drain() {
            if let Some(flow) = self.bench.server.poll.flow(id) {
                flow.close();
            }
        }
    }

    fn end(&mut self) {
        for (id, _) in self.bench.server.flows.drain() {
            if let Some(flow) = self.bench.server.poll.flow(id) {
                flow.abort();
            }
        }
        for _ in 0..10 {
            self.bench.wire.clock().advance(Duration::from_secs(10));
            self.bench.turn();
        }
        assert_eq!(self.bench.server.poll.flows(), 0);
    }
}

/// The peer's address on the veth; no kernel has it.
const ODD_PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 77);
const ODD_MAC: [u8; 6] = [2, 0, 0, 0, 0, 77];

/// Linux, in a namespace of its own.
pub struct Kernel {
    socket: PacketSocket,
    listener: TcpListener,
    port: u16,
    mac: [u8; 6],
    stream: Option<TcpStream>,
    marker: u16,
    _lab: Lab,
}

impl Kernel {
    /// `None`, said on stderr, without root.
    pub fn new() -> Option<Self> {
        let lab = Lab::up(1)?;
        // Answers in order come from one processor.
        let here = rustix::thread::sched_getcpu();
        let mut cpus = rustix::thread::CpuSet::new();
        cpus.set(here);
        rustix::thread::sched_setaffinity(None, &cpus).expect("a processor that it runs on");
        let (listener, mac) = lab.inside(Side::Server, || {
            // Neither limits of answers nor what a flood brings about is compared here.
            let settings = [
                ("tcp_invalid_ratelimit", "0"),
                ("tcp_challenge_ack_limit", "2147483647"),
                ("tcp_syncookies", "0"),
                ("tcp_max_syn_backlog", "65536"),
            ];
            for (name, value) in settings {
                std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).expect("the kernel has the setting");
            }
            let listener = TcpListener::bind((KERNEL, 0)).expect("a port");
            rustix::net::listen(&listener, 4_096).expect("it listens already");
            (listener, Link::by_name(Side::Server.link()).expect("the veth").mac.0)
        });
        let mac_text = ODD_MAC.map(|byte| format!("{byte:02x}")).join(":");
        let device = ["lladdr", &mac_text, "dev", Side::Server.link()];
        let peer = ODD_PEER.to_string();
        lab.ip(Side::Server, &[&["neigh", "replace", &peer][..], &device].concat());
        let socket = lab.inside(Side::Client, || {
            let link = Link::by_name(Side::Client.link()).expect("the veth");
            PacketSocket::open(&link).expect("root may")
        });
        let port = listener.local_addr().expect("bound").port();
        Some(Self { socket, listener, port, mac, stream: None, marker: 0, _lab: lab })
    }

    /// Receives a frame; waits for it.
    fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        loop {
            match self.socket.receive(&mut buffer).expect("the link is up") {
                Some(len) => return buffer[..len].to_vec(),
                None => {
                    let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
                    let patience = Timespec { tv_sec: 30, tv_nsec: 0 };
                    let ready = poll(&mut fds, Some(&patience)).expect("a descriptor");
                    assert!(ready > 0, "the kernel does not answer an echo request");
                }
            }
        }
    }

    fn send(&self, frame: &[u8]) {
        assert!(self.socket.send(frame).expect("the link is up"), "the link has room for one frame");
    }
}

impl Host for Kernel {
    fn ends(&self) -> Ends {
        Ends { peer_mac: ODD_MAC, host_mac: self.mac, peer: ODD_PEER, host: KERNEL }
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn exchange(&mut self, frames: &[Vec<u8>], port: u16) -> Vec<Tcp> {
        for frame in frames {
            self.send(frame);
        }
        self.marker = self.marker.wrapping_add(1);
        let mut ping = Vec::new();
        let builder = PacketBuilder::ethernet2(ODD_MAC, self.mac).ipv4(ODD_PEER.octets(), KERNEL.octets(), 64);
        builder.icmpv4_echo_request(77, self.marker).write(&mut ping, b"marker").expect("written to memory");
        self.send(&ping);
        let mut segments = Vec::new();
        loop {
            let frame = self.receive();
            if frame[..6] != ODD_MAC || frame[12..14] != [8, 0] {
                continue;
            }
            match frame[23] {
                1 if frame[34] == 0 && frame[40..42] == self.marker.to_be_bytes() => return segments,
                6 => segments.push(Tcp::read(&frame)),
                _ => {}
            }
            segments.retain(|segment| segment.peer_port == port);
        }
    }

    fn shut_down(&mut self) {
        let (stream, _) = self.listener.accept().expect("the connection is open");
        stream.shutdown(Shutdown::Write).expect("it is connected");
        self.stream = Some(stream);
    }

    fn close(&mut self) {
        let (stream, _) = self.listener.accept().expect("the connection is open");
        drop(stream);
    }

    fn end(&mut self) {
        self.stream = None;
        self.listener.set_nonblocking(true).expect("a listener");
        while self.listener.accept().is_ok() {}
        self.listener.set_nonblocking(false).expect("a listener");
    }
}
