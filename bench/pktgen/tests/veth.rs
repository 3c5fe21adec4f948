//! The program itself over veth pairs in namespaces of their own. Needs root; without it each test says so and passes.

#[path = "../../../nic/tests/xdp_veth/lab.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod lab;

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use lab::{Lab, Side};
use rustix::process::{Pid, Signal, kill_process};

/// The program in one of the lab's namespaces.
fn pktgen(lab: &Lab, side: Side, arguments: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &lab.namespace(side), env!("CARGO_BIN_EXE_sidestep-pktgen")]);
    command.args(arguments.split_whitespace());
    command
}

/// A pong that is ready, ended by SIGINT.
struct Pong(Child);

impl Pong {
    fn start(lab: &Lab, arguments: &str) -> Self {
        Self::start_on(lab, ("xsk:s0", "xsk:s0@0"), "10.77.0.2", arguments)
    }

    fn start_on(lab: &Lab, (port, shown): (&str, &str), address: &str, arguments: &str) -> Self {
        let arguments = format!("-f pong -i {port} -s {address} -T 600 --json {arguments}");
        let mut command = pktgen(lab, Side::Server, &arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.contains(&format!("pong ready on {shown} for")), "{ready}");
        Self(child)
    }

    /// Interrupts it, and returns its report.
    fn end(mut self) -> String {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, Signal::INT).unwrap();
        let mut report = String::new();
        self.0.stdout.as_mut().unwrap().read_to_string(&mut report).unwrap();
        assert!(self.0.wait().unwrap().success(), "{report}");
        report
    }
}

impl Drop for Pong {
    fn drop(&mut self) {
        // Only after a failed assertion is it there still.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn report(output: Output) -> String {
    let (report, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{error}{report}");
    report
}

/// The figures at these places of a report.
fn figures<const N: usize>(report: &str, places: [&str; N]) -> [serde_json::Value; N] {
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    places.map(|place| report.pointer(place).unwrap_or_else(|| panic!("{place} is not in {report}")).clone())
}

/// How often pong was asked who it is: once, and again where its answer came late on a busy machine.
fn times_asked(pong: &str) -> u64 {
    let asked = figures(pong, ["/neighbors_answered"])[0].as_u64().unwrap();
    assert!(asked > 0, "{pong}");
    asked
}

#[test]
fn every_ping_comes_back_in_generic_mode_and_both_ends_agree() {
    let Some(lab) = Lab::up(1) else { return };
    let pong = Pong::start(&lab, "-p 1");
    // However busy the machine is, nothing is given up.
    let ping = "-f ping -i xsk:c0 -s 10.77.0.4 -d 10.77.0.2 -n 20000 -l 200 -T 600 --timeout 60000 --json";
    let ping = report(pktgen(&lab, Side::Client, ping).output().unwrap());
    let pong = pong.end();
    assert!(figures(&ping, ["/device"])[0].as_str().unwrap().starts_with("generic mode, copy"), "{ping}");
    assert_eq!(
        figures(&ping, ["/trips/sent", "/trips/answered", "/trips/lost", "/trips/reordered"]),
        [20_000, 20_000, 0, 0]
    );
    let asked = times_asked(&pong);
    assert_eq!(figures(&pong, ["/rx/frames"]), [20_000 + asked]);
    assert_eq!(figures(&pong, ["/drops"]), [serde_json::json!({})]);
}

#[test]
fn every_ping_over_ipv6_comes_back_by_two_queues() {
    let Some(lab) = Lab::up(2) else { return };
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() < 2) {
        eprintln!("skipped: needs two CPUs");
        return;
    }
    let pong = Pong::start_on(&lab, ("xsk:s0", "xsk:s0@0"), "fd77::2", "-p 2 --mode native --poll 0");
    let ping = "-f ping -i xsk:c0 -s fd77::4 -d fd77::2 -p 2 -n 20000 -T 600 --timeout 60000 --mode native --json";
    let ping = report(pktgen(&lab, Side::Client, ping).output().unwrap());
    let pong = pong.end();
    let asked = times_asked(&pong);
    assert_eq!(figures(&ping, ["/trips/sent", "/trips/answered"]), [20_000, 20_000]);
    assert_eq!(figures(&ping, ["/tx/bytes"]), [20_000 * 80 + 86 * asked]);
    assert_eq!(figures(&ping, ["/drops"]), [serde_json::json!({})]);
}

#[test]
fn two_queues_in_native_mode_each_get_their_own_back_while_pong_sleeps_between() {
    let Some(lab) = Lab::up(2) else { return };
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() < 2) {
        eprintln!("skipped: needs two CPUs");
        return;
    }
    let pong = Pong::start(&lab, "-p 2 --mode native --poll 0");
    let ping = "-f ping -i xsk:c0 -s 10.77.0.4 -d 10.77.0.2 -p 2 -n 20000 -T 600 --timeout 60000 --mode native --json";
    let ping = report(pktgen(&lab, Side::Client, ping).output().unwrap());
    let pong = pong.end();
    assert!(figures(&ping, ["/device"])[0].as_str().unwrap().starts_with("native mode, copy"), "{ping}");
    assert_eq!(figures(&ping, ["/trips/sent", "/trips/answered"]), [20_000, 20_000]);
    assert_eq!(figures(&ping, ["/drops"]), [serde_json::json!({})]);
    assert_ne!(figures(&pong, ["/sleeps"]), [0]);
}

#[test]
fn frames_that_come_by_a_queue_that_was_not_bound_are_told_at_the_end() {
    let Some(lab) = Lab::up(2) else { return };
    let mut pong = Pong::start(&lab, "-p 1 --mode native");
    let ping = "-f ping -i xsk:c0@1 -s 10.77.0.4 -d 10.77.0.2 -n 1 -T 600 --mode native";
    let output = pktgen(&lab, Side::Client, ping).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "nobody answers by queue 1");
    let mut said = pong.0.stderr.take().unwrap();
    pong.end();
    let mut note = String::new();
    said.read_to_string(&mut note).unwrap();
    assert!(note.contains("came by other queues of s0 than 0 to 0") && note.contains("ethtool -l s0"), "{note}");
}

#[test]
fn a_kernel_reaches_pong_by_arp_and_finds_its_datagram_whole() {
    let Some(lab) = Lab::up(1) else { return };
    let pong = Pong::start(&lab, "-n 3");
    let socket = lab.inside(Side::Client, || UdpSocket::bind("10.77.0.1:0").unwrap());
    socket.connect("10.77.0.2:9999").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // Kernels check the UDP checksum; a frame shorter than 60 bytes is among them.
    for length in [1, 100, 1472] {
        let sent: Vec<u8> = (0..length).map(|at| at as u8).collect();
        socket.send(&sent).unwrap();
        let mut received = [0; 2000];
        let bytes = socket.recv(&mut received).expect("pong answers");
        assert_eq!(received[..bytes], sent);
    }
    // It has reflected the three it was asked to, and ends by itself.
    let mut pong = pong;
    assert!(pong.0.wait().unwrap().success());
}

#[test]
fn a_port_that_is_not_there_and_a_peer_that_is_not_there_are_told() {
    let Some(lab) = Lab::up(1) else { return };
    let failure = |arguments: &str| {
        let output = pktgen(&lab, Side::Client, arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, error) = failure("-f rx -i xsk:nothing -s 10.77.0.4");
    assert_eq!(code, Some(1));
    assert!(error.contains("there is no interface nothing; there are: lo, c0"), "{error}");
    let (code, error) = failure("-f rx -i xsk:c0 -s 10.77.0.4 -a 9999");
    assert_eq!(code, Some(1));
    assert!(error.contains("1 threads from CPU 9999 on need CPUs that this process may not use"), "{error}");
    let (code, error) = failure("-f tx -i xsk:c0 -s 10.77.0.4 -d 10.77.0.2 -l 1515");
    assert_eq!(code, Some(1));
    assert!(error.contains("-l is 1515; the longest frame of xsk:c0@0 is 1514 bytes"), "{error}");
    let (code, error) = failure("-f ping -i xsk:c0 -s 10.77.0.4 -d 10.77.0.77");
    assert_eq!(code, Some(1));
    assert!(error.contains("no answer to ARP for 10.77.0.77 within 5 s"), "{error}");
    let (code, error) = failure("-f fwd -i xsk:c0 -s 10.77.0.4");
    assert!(code == Some(2) && error.contains("possible values: pong, ping, rx, tx"), "{error}");
}

/// The null responder without AF_XDP: the kernel at the other side of the TAP gets back what it sends, over both families.
#[test]
fn a_kernel_gets_its_datagrams_back_over_a_tap() {
    let Some(lab) = Lab::up(1) else { return };
    lab.ip(Side::Server, &["address", "flush", "dev", "s0"]);
    for (pong, kernel, prefix, link) in [("10.77.0.2", "10.77.0.9", "24", "tp0"), ("fd77::2", "fd77::9", "64", "tp1")] {
        let tap = format!("tap:{link}");
        let ours = Pong::start_on(&lab, (&tap, &tap), pong, "-p 2");
        let (pong, kernel): (IpAddr, IpAddr) = (pong.parse().unwrap(), kernel.parse().unwrap());
        if kernel.is_ipv6() {
            let setting = format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6");
            lab.inside(Side::Server, || std::fs::write(setting, "0").expect("the kernel speaks IPv6"));
            lab.ip(Side::Server, &["address", "add", &format!("{kernel}/{prefix}"), "dev", link, "nodad"]);
        } else {
            lab.ip(Side::Server, &["address", "add", &format!("{kernel}/{prefix}"), "dev", link]);
        }
        let socket = lab.inside(Side::Server, || UdpSocket::bind((kernel, 0))).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut bytes = [0; 2048];
        for number in 0..500_u32 {
            let sent = [&number.to_be_bytes()[..], &vec![number as u8; (number * 2) as usize]].concat();
            socket.send_to(&sent, (pong, 7)).unwrap();
            let (length, from) = socket.recv_from(&mut bytes).unwrap();
            assert_eq!((&bytes[..length], from), (&sent[..], (pong, 7).into()));
        }
        let report = ours.end();
        assert!(figures(&report, ["/device"])[0].as_str().unwrap().starts_with("a TAP, made for this run"), "{report}");
    }
}
