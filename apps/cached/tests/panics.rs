//! A core that panics inside the real server: supervisor, data plane, threads and lists of system calls, over a veth.
//!
//! This program is all of it, started again: a test, which makes a network namespace; in there the client; and the server,
//! each of whose queues panics at a frame with [`DEADLY`] in it. Needs root, and says so where it has not that.

use std::env;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nic::{Queue, QueueWrapper, RxBurst};
use sidestep_cached::{AnyQueue, Options, run_with, start_log};

/// Which of the three this process is.
const ROLE: &str = "SIDESTEP_TEST_OF_PANICS";

/// At these bytes a queue panics.
const DEADLY: &[u8] = b"no queue survives this";

const ADDRESS: &str = "10.79.0.2";

/// Far longer than anything here takes: what lasts for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A queue with a fault.
struct Faulty(AnyQueue);

impl QueueWrapper for Faulty {
    type Wrapped = AnyQueue;

    fn wrapped(&self) -> &AnyQueue {
        &self.0
    }

    fn wrapped_mut(&mut self) -> &mut AnyQueue {
        &mut self.0
    }

    fn rx_burst(&mut self, out: &mut RxBurst) -> usize {
        let before = out.len();
        let taken = self.0.rx_burst(out);
        for frame in out.iter().skip(before) {
            let deadly = frame.bytes().windows(DEADLY.len()).any(|window| window == DEADLY);
            assert!(!deadly, "a queue that was told to panic does");
        }
        taken
    }
}

/// This program again, as the one test `name` in the part `role`, by `before` if that is not empty.
fn again(before: &[&str], name: &str, role: &str) -> Command {
    let program = env::current_exe().expect("it runs");
    let mut words = before.iter().map(|word| (*word).into()).chain([program.into_os_string()]);
    let mut command = Command::new(words.next().expect("there is a program"));
    // The main thread runs it: with the end of the thread that has started it a data plane ends.
    command.args(words).args(["--exact", name, "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}

fn is(role: &str) -> bool {
    env::var_os(ROLE).is_some_and(|own| own == role)
}

#[test]
fn a_core_that_panics_is_said_and_counted_and_the_server_serves_again() {
    if env::var_os(ROLE).is_some() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tried: needs root");
        return;
    }
    let ended = again(&["unshare", "--net"], "part_of_the_client", "client").output().expect("unshare is there");
    let said = [String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr)].concat();
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}

/// Not a test by itself: what serves.
#[test]
fn part_of_the_server() {
    if !is("server") {
        return;
    }
    let words = ["sidestep-cached", "--interface", "ss0", "--address", "10.79.0.2/24", "-t", "2", "-m", "64"];
    let options = Options::read(words).unwrap_or_else(|_| panic!("they are good"));
    start_log(options.verbose);
    let code = match run_with(&options, &|queue| Box::new(Faulty(queue))) {
        Ok(code) => u8::from(code != ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("sidestep-cached: {error}");
            error.exit_code()
        }
    };
    std::process::exit(code.into());
}

/// Not a test by itself: what asks, in a namespace of its own.
#[test]
fn part_of_the_client() {
    if !is("client") {
        return;
    }
    for line in [
        "link add sc0 numtxqueues 2 numrxqueues 2 type veth peer name ss0 numtxqueues 2 numrxqueues 2",
        "address add 10.79.0.1/24 dev sc0",
        "link set sc0 up",
        "link set ss0 up",
    ] {
        assert!(Command::new("ip").args(line.split(' ')).status().expect("iproute2 is there").success(), "{line}");
    }
    let mut server = Ended(
        again(&[], "part_of_the_server", "server")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts"),
    );
    let mut out = Lines::of(server.0.stdout.take().expect("it is piped"));
    let mut log = Lines::of(server.0.stderr.take().expect("it is piped"));
    out.until("ready: ");
    assert_eq!(asked("set k 0 0 1\r\nv\r\nget k\r\n"), "STORED\r\nVALUE k 0 1\r\nv\r\nEND\r\n");
    // As many as are surely not all of one core.
    let mut old: Vec<TcpStream> = (0..32).map(|_| connection()).collect();
    for connection in &mut old {
        connection.write_all(b"get k\r\n").expect("it is open");
        connection.read_exact(&mut [0; 21]).expect("it is answered");
    }

    // A datagram: nobody sends it again, to the next data plane.
    let deadly = UdpSocket::bind("10.79.0.1:0").expect("it is this end's address");
    deadly.send_to(DEADLY, (ADDRESS, 9)).expect("there is a way");
    log.until("a queue that was told to panic does");
    assert!(log.until("panicked; this is a fault of sidestep").contains("core "));
    assert!(log.until("it is started again").contains("ended with exit code"));
    log.until("serves again");
    let ends: Vec<_> = old.iter_mut().map(end_of).collect();
    let has_ended = |end| matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
    assert!(ends.iter().copied().all(has_ended), "{ends:?}");
    // The core that panicked closes nothing: its connections are not known any more.
    assert!(ends.iter().any(Result::is_err), "{ends:?}");
    assert_eq!(asked("get k\r\n"), "END\r\n", "the cache is empty");
    assert_eq!(asked("set k 0 0 1\r\nw\r\nget k\r\n"), "STORED\r\nVALUE k 0 1\r\nw\r\nEND\r\n");
    // What is counted outside is told within a second.
    let begun = Instant::now();
    while !asked("stats sidestep\r\n").contains("STAT plane_restarts 1\r\n") {
        assert!(begun.elapsed() < PATIENCE, "{}", asked("stats sidestep\r\n"));
    }

    // SIGTERM.
    let pid = rustix::process::Pid::from_child(&server.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    assert!(server.0.wait().expect("it is ours").success());
}

/// A process that does not outlive the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn connection() -> TcpStream {
    let stream = TcpStream::connect((ADDRESS, 11211)).expect("it serves");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

/// How a connection that was open has ended: its core closed it (a core that is well does, when another panics), or it is
/// not known any more, of which the client may have been told before it writes, since it also acknowledges.
fn end_of(connection: &mut TcpStream) -> Result<usize, ErrorKind> {
    connection.write_all(b"get k\r\n").and_then(|()| connection.read(&mut [0; 64])).map_err(|error| error.kind())
}

/// What is answered until the end of the connection, which the client asks for.
fn asked(request: &str) -> String {
    let mut stream = connection();
    stream.write_all(format!("{request}quit\r\n").as_bytes()).expect("it is open");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

/// What a process says, read on by a thread so that it never waits for a reader.
struct Lines(std::sync::mpsc::Receiver<String>, Vec<String>);

impl Lines {
    fn of(from: impl Read + Send + 'static) -> Lines {
        let (to, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    return;
                }
            }
        });
        Lines(lines, Vec::new())
    }

    /// The next line with these words.
    fn until(&mut self, words: &str) -> String {
        loop {
            let line = self.0.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("never said: {words}: {:?}", self.1));
            self.1.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }
}
