//! A real memcached on a unix socket of its own, as the judge.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use differential::memcached::golden;

/// What is sent after every exchange, so that its answer marks the end.
const MARK: &[u8] = b"version\r\n";

/// What is sent after an exchange of packets: a Noop whose opaque no transcript uses.
const PACKET_MARK: &[u8] = b"\x80\x0a\0\0\0\0\0\0\0\0\0\0\xfe\xed\xfa\xce\0\0\0\0\0\0\0\0";

/// A running memcached and a connection to it. Killed when dropped.
pub struct Memcached {
    child: Child,
    socket: PathBuf,
    stream: UnixStream,
}

impl Memcached {
    /// Starts one; `None` where there is none to start.
    pub fn start(arguments: &[&str]) -> Option<Memcached> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let program = golden();
        if !program.exists() {
            return None;
        }
        // A path of at most 107 bytes: the target folder may be deep.
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let socket = std::env::temp_dir().join(format!("sidestep-{}-{number}.sock", std::process::id()));
        let mut child = Command::new(&program)
            .args(["-u", "root", "-t", "1", "-s"])
            .arg(&socket)
            .args(arguments)
            .stdin(Stdio::null())
            .spawn()
            .expect("memcached starts");
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(_) => {
                    let ended = child.try_wait().expect("the child can be asked");
                    assert!(ended.is_none(), "memcached ended: {ended:?}");
                    std::thread::yield_now();
                }
            }
        };
        // Only so that a wrong transcript fails instead of waiting for ever.
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out can be set");
        Some(Memcached { child, socket, stream })
    }

    /// Sends bytes and receives all that is answered to them.
    pub fn exchange(&mut self, bytes: &[u8]) -> Vec<u8> {
        let packets = bytes.first() == Some(&0x80);
        self.send(&[bytes, if packets { PACKET_MARK } else { MARK }].concat());
        let mut received = Vec::new();
        let mut buffer = [0; 65536];
        loop {
            let found = if packets { packet_mark_start(&received) } else { mark_start(&received) };
            if let Some(start) = found {
                received.truncate(start);
                return received;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return received,
                Ok(bytes) => received.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    panic!("memcached answers no more ({error}) after {:?}", String::from_utf8_lossy(&received))
                }
            }
        }
    }

    /// Connects anew.
    pub fn reconnect(&mut self) {
        self.stream = UnixStream::connect(&self.socket).expect("memcached still listens");
        self.stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out can be set");
    }

    /// Sends bytes and receives until the server closes.
    pub fn exchange_until_closed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.send(bytes);
        let mut received = Vec::new();
        match self.stream.read_to_end(&mut received) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("memcached does not close: {error}"),
        }
        received
    }

    /// Sends from a thread of its own: a server that stops reading to write must not stop us.
    fn send(&mut self, bytes: &[u8]) {
        let mut stream = self.stream.try_clone().expect("a socket can be shared");
        let bytes = bytes.to_vec();
        std::thread::spawn(move || {
            // A server that closes early is seen by the reader.
            let _ = stream.write_all(&bytes);
        });
    }
}

/// Where the answer to the mark begins, if it is there and whole.
fn mark_start(received: &[u8]) -> Option<usize> {
    let line = received.strip_suffix(b"\r\n")?;
    let start = line.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    line[start..].starts_with(b"VERSION ").then_some(start)
}

/// Where the answer to the packet mark begins, if it is there and whole.
fn packet_mark_start(received: &[u8]) -> Option<usize> {
    let start = received.len().checked_sub(PACKET_MARK.len())?;
    (received[start..start + 2] == *b"\x81\x0a" && received[start + 12..start + 16] == PACKET_MARK[12..16])
        .then_some(start)
}

impl Drop for Memcached {
    fn drop(&mut self) {
        // Ours to end, by its handle.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}
