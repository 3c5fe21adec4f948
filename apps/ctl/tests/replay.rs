//! Recorded sessions, played again: those of a wire, one changed on the way, one of a veth pair, and files that cannot
//! be used.

#[path = "../../cached/tests/rig/rig.rs"]
mod rig;
#[path = "../../cached/tests/rig/script.rs"]
mod script;

use std::io::Write;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etherparse::checksum::Sum16BitWords;
use nic::{Capture, Corrupt, Faults, PcapRecorder, PortConfig, QueueId, QueuePlan, Reorder, Wire};
use rig::{PORT, Rig, Shape, US, workers};
use script::{Script, store_shared};
use sidestep_cached::CoreCapture;
use sidestep_ctl::replay::{Compared, Comparison, Player, Recording, ReplayError};

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(US), PORT);

/// A file in memory.
#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no writer has panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Captures of both queues of a server, of a session of `clients` connections that ask `requests` times each.
fn session(clients: u16, requests: u64, faults: Faults, seed: u64) -> Vec<Vec<u8>> {
    let shape = Shape { faults: faults.clone(), seed, ..Shape::default() };
    let side = |queues| PortConfig { inbound: faults.clone(), ..PortConfig::with_queues(queues) };
    let (wire, ours, theirs) = Wire::pair(side(2), side(1), seed).expect("a good configuration");
    let sinks = [Sink::default(), Sink::default()];
    let plan = QueuePlan::new(&[QueueId(0), QueueId(1)], 2);
    // Each core polls the queue of its own number.
    let mut captures = [CoreCapture::default(), CoreCapture::default()];
    let mut workers = workers(&shape, &plan, |id| {
        let (queue, at) = (ours.take_queue(id).expect("opened once"), usize::from(id.0));
        captures[at].record_to(Box::new(queue), Box::new(sinks[at].clone())).expect("written to memory")
    });
    for (worker, capture) in workers.iter_mut().zip(captures) {
        worker.capture = capture;
    }
    let mut rig = Rig::on(wire, workers, theirs.take_queue(QueueId(0)).expect("opened once"), seed);
    let first = rig.connect();
    rig.client(first).send(&store_shared());
    rig.client(first).send(b"version\r\nget nothing\r\n");
    rig.run_until(Duration::from_secs(600), |rig| rig.client(first).received.ends_with(b"END\r\n"));
    let mut talks: Vec<_> = (0..clients).map(|number| (rig.connect(), Script::new(number, seed), Vec::new())).collect();
    rig.run_until(Duration::from_secs(3_600), |rig| {
        let mut open = 0;
        for (port, script, answer) in &mut talks {
            open += usize::from(script.requests < requests);
            if rig.clients[port].received.len() < answer.len() || script.requests >= requests {
                continue;
            }
            assert!(std::mem::take(&mut rig.client(*port).received) == *answer);
            let (ask, next) = script.batch();
            *answer = next;
            rig.client(*port).send(&ask);
        }
        open == 0
    });
    let done = |rig: &mut Rig| talks.iter().all(|(port, _, answer)| rig.clients[port].received.len() >= answer.len());
    rig.run_until(Duration::from_secs(3_600), done);
    rig.finish();
    sinks.iter().map(|sink| sink.0.lock().expect("no writer has panicked").clone()).collect()
}

fn captures(files: &[Vec<u8>]) -> Vec<Capture> {
    files.iter().map(|file| Capture::read(&file[..]).expect("a capture")).collect()
}

/// Plays captures.
fn play(captures: &[Capture]) -> Comparison {
    play_to(SERVER, captures)
}

/// Plays captures of this server.
fn play_to(server: SocketAddr, captures: &[Capture]) -> Comparison {
    let recording = Recording::of(captures, server).expect("a session");
    let mut player = Player::new(&recording, server, 64 << 20, None).expect("a worker");
    player.play(&recording, |_| {}).expect("a wire is never gone");
    Comparison::new(&recording, &player.finish().0)
}

/// A folder of this test's own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sidestep-replay-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn sidestep(arguments: &[&str], files: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidestep"));
    command.arg("replay").args(files).args(arguments);
    command.output().expect("the program is there")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_session_of_two_queues_replays_the_same() {
    let files = session(20, 60, Faults { delay: Duration::from_micros(40), ..Faults::default() }, rig::seed(1));
    let comparison = play(&captures(&files));
    assert!(comparison.all_same(), "{comparison}");
    assert_eq!(comparison.rows.len(), 21);
    assert!(comparison.rows.iter().all(|row| row.asked > 0 && row.recorded > 0), "{comparison}");
}

/// The host of IPv6 that stands for one of IPv4.
fn mapped(octets: &[u8]) -> Ipv6Addr {
    let [a, b, c, d] = *octets.first_chunk().expect("four bytes");
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

/// The capture as if its hosts had spoken IPv6, and so much earlier.
fn over_ipv6(capture: &Capture, earlier: Duration) -> Capture {
    let mut recorder = PcapRecorder::new(Vec::new()).expect("written to memory");
    for (at, frame) in capture.iter().filter(|(_, frame)| frame[12..14] == [8, 0]) {
        let (from, to) = (mapped(&frame[26..]), mapped(&frame[30..]));
        let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        let mut tcp = frame[34..end].to_vec();
        tcp[16..18].fill(0);
        let sum = nic::checksum::pseudo_header_v6(from.octets(), to.octets(), 6, tcp.len() as u32);
        let field = nic::checksum::field(nic::checksum::add(sum, &tcp));
        tcp[16..18].copy_from_slice(&field);
        let mut made =
            [&frame[..12], &[0x86, 0xdd, 0x60, 0, 0, 0], &(tcp.len() as u16).to_be_bytes(), &[6, 64]].concat();
        made.extend(from.octets());
        made.extend(to.octets());
        made.extend(tcp);
        recorder.set_time(at.saturating_sub(earlier));
        recorder.record(&made);
    }
    Capture::read(&recorder.finish().expect("written to memory")[..]).expect("a capture")
}

#[test]
fn a_session_over_ipv6_replays_the_same() {
    let files = session(8, 40, Faults { delay: Duration::from_micros(40), ..Faults::default() }, rig::seed(6));
    let recorded = captures(&files);
    let began = recorded.iter().filter_map(|capture| capture.iter().next()).map(|(at, _)| at).min();
    // As it was recorded, and with the times of a file that counts from its own beginning.
    for earlier in [Duration::ZERO, began.expect("it has frames")] {
        let captures: Vec<_> = recorded.iter().map(|capture| over_ipv6(capture, earlier)).collect();
        let comparison = play_to(SocketAddr::new(mapped(&US.octets()).into(), PORT), &captures);
        assert!(comparison.all_same(), "{earlier:?}: {comparison}");
        assert_eq!(comparison.rows.len(), 9);
        assert!(
            comparison.rows.iter().all(|row| row.client.is_ipv6() && row.asked > 0 && row.recorded > 0),
            "{comparison}"
        );
    }
}

#[test]
fn a_session_with_frames_lost_damaged_and_out_of_order_replays_the_same() {
    let faults = Faults {
        loss: 0.05,
        duplicate: 0.02,
        reorder: Some(Reorder { probability: 0.05, depth: 4, hold: Duration::from_millis(2) }),
        corrupt: Some(Corrupt { probability: 0.02, bits: 15 }),
        delay: Duration::from_micros(50),
        ..Faults::default()
    };
    let seed = rig::seed(2);
    for seed in seed..seed + 3 {
        let comparison = play(&captures(&session(15, 60, faults.clone(), seed)));
        assert!(comparison.all_same(), "seed {seed}: {comparison}");
    }
}

#[test]
fn the_program_tells_same_from_changed_and_writes_what_it_sent() {
    let folder = Folder::new("changed");
    let files = session(3, 10, Faults { delay: Duration::from_micros(40), ..Faults::default() }, rig::seed(3));
    let paths: Vec<_> =
        files.iter().enumerate().map(|(n, file)| folder.file(&format!("queue-{n}.pcap"), file)).collect();
    let paths: Vec<_> = paths.iter().map(PathBuf::as_path).collect();
    let out = folder.0.join("out.pcap");
    let address = US.to_string();
    let arguments = ["--address", &address, "-v", "--write", out.to_str().expect("text")];
    let output = sidestep(&arguments, &paths);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}{}", text(&output.stderr));
    assert!(shown.ends_with("connections=4 same=4 different=0 not_played=0\n"), "{shown}");
    let sent = Capture::open(&out).expect("a capture");
    let lines = |arrow: &str| shown.lines().filter(|line| line.split(' ').nth(1) == Some(arrow)).count();
    assert_eq!(lines("<"), sent.len(), "every frame sent is shown and written");
    assert!(lines(">") > 10);

    // The server's VERSION, changed, with its checksum left to the link.
    let changed: Vec<_> = captures(&files).iter().map(change_version).collect();
    let paths: Vec<_> =
        changed.iter().enumerate().map(|(n, file)| folder.file(&format!("changed-{n}.pcap"), file)).collect();
    let output = sidestep(&["--address", &address], &paths.iter().map(PathBuf::as_path).collect::<Vec<_>>());
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("differs at byte 0"), "{shown}");
    assert!(shown.contains("recorded: [here]vERSION") && shown.contains("ours:     [here]VERSION"), "{shown}");
    assert!(shown.ends_with("connections=4 same=3 different=1 not_played=0\n"), "{shown}");
}

/// The capture as a file, with the first letter of the server's VERSION in lower case.
fn change_version(capture: &Capture) -> Vec<u8> {
    let mut recorder = PcapRecorder::new(Vec::new()).expect("written to memory");
    for (at, frame) in capture.iter() {
        let mut frame = frame.to_vec();
        if let Some(place) = frame.windows(8).position(|window| window == b"VERSION ") {
            frame[place] = b'v';
            // A TCP header without options begins 20 bytes before its payload; the sum of the pseudo header alone.
            let tcp_bytes = frame.len() - 34;
            let addresses = Sum16BitWords::new().add_slice(&frame[26..34]);
            let sum = addresses.add_2bytes([0, 6]).add_2bytes((tcp_bytes as u16).to_be_bytes());
            frame[50..52].copy_from_slice(&(!sum.ones_complement()).to_ne_bytes());
        }
        recorder.set_time(at);
        recorder.record(&frame);
    }
    recorder.finish().expect("written to memory")
}

#[test]
fn a_session_recorded_on_a_veth_pair_replays_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let files = [folder.join("veth-queue-0.pcap"), folder.join("veth-queue-1.pcap")];
    let output = sidestep(&["--address", "10.77.0.2"], &[&files[0], &files[1]]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}{}", text(&output.stderr));
    assert!(shown.contains(" different=0 not_played=0\n") && shown.matches("  same").count() >= 4, "{shown}");
}

#[test]
fn what_cannot_be_replayed_is_told_in_one_line() {
    let folder = Folder::new("wrong");
    let files = session(1, 5, Faults::default(), rig::seed(4));
    let good = folder.file("good.pcap", &files[0]);
    let other = folder.file("other.pcap", &files[1]);
    let truncated = folder.file("truncated.pcap", &files[0][..files[0].len() - 3]);
    let pcapng = folder.file("new.pcapng", &[0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0]);
    let empty = folder.file("empty.pcap", b"");
    // All but the first frames, which have the handshakes.
    let mut late = PcapRecorder::new(Vec::new()).expect("written to memory");
    for capture in captures(&files) {
        for (at, frame) in capture.iter().filter(|(_, frame)| frame[47] & 2 == 0) {
            late.set_time(at);
            late.record(frame);
        }
    }
    let late = folder.file("late.pcap", &late.finish().expect("written to memory"));
    let missing = folder.0.join("missing.pcap");
    let cases: [(&[&Path], &[&str], &str); 8] = [
        (&[&missing], &["--address", "10.77.0.2"], "missing.pcap: No such file"),
        (&[&truncated], &["--address", "10.77.0.2"], "truncated.pcap: frame "),
        (&[&pcapng], &["--address", "10.77.0.2"], "not pcapng"),
        (&[&empty], &["--address", "10.77.0.2"], "empty.pcap: frame 0 "),
        (&[&good, &other], &["--address", "10.77.0.9"], "most are for 10.77.0."),
        (&[&good, &other], &["--address", "10.77.0.2", "-p", "80"], "no TCP frame to 10.77.0.2:80 among "),
        (&[&good], &["--address", "127.0.0.1"], "loopback cannot be replayed"),
        (&[&late], &["--address", "10.77.0.2"], "has its SYN and SYN-ACK in the capture"),
    ];
    for (files, arguments, told) in cases {
        let output = sidestep(arguments, files);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}: {error}");
        assert!(error.contains(told) && error.lines().count() == 1, "{told}: {error}");
        assert_eq!(output.stdout, b"");
    }
    // What the command line's parser says comes whole, with where help is to be had.
    let output = sidestep(&["--address", "somewhere"], &[&good]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("invalid value 'somewhere'") && error.contains("--help"), "{error}");
}

#[test]
fn a_connection_that_began_before_the_recording_is_named_and_not_played() {
    let files = session(2, 8, Faults::default(), rig::seed(5));
    let captures = captures(&files);
    // Without the SYN of one client.
    let first = Recording::of(&captures, SERVER).expect("a session").dialogues[0].client;
    let port = first.port().to_be_bytes();
    let cut: Vec<_> =
        captures.iter().map(|capture| capture.filtered(|frame| frame[34..36] != port || frame[47] & 2 == 0)).collect();
    let comparison = play(&cut);
    let row = comparison.rows.iter().find(|row| row.client == first).expect("it is named");
    assert_eq!(row.compared, Compared::NotPlayed);
    assert!(!comparison.all_same());
    let none = Recording::of(&[Capture::default()], SERVER);
    assert!(matches!(none, Err(ReplayError::NoTraffic { frames: 0, .. })));
}
