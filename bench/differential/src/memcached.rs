//! A memcached process of our own: the oracle. Listens on a unix socket in a directory of its own, or, to be
//! asked over UDP, on a free port of the loopback address; ended by its id.
//!
//! memcached's own answers to pipelined commands depend on timing: `incr` keeps the length of the value only when no
//! unsent reply still holds the item, a `get` with a key that is too long drops the unsent replies of earlier
//! commands, and so does a command that ends the connection. With `-R 1` at most two commands are answered before the
//! replies leave, and generated operations of these kinds are preceded by one that has no reply
//! ([`FENCE`](crate::case::FENCE)); so each is judged alone. The background threads are off because they hold items for a moment, which `incr` sees too.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::packet::HEADER;
use crate::target::{Address, SocketTarget};

/// The version that replies are compared with.
pub const GOLDEN: &str = "1.6.45";

/// Where `scripts/memcached` puts the program of that version, or of the one that stands in for it.
pub fn golden() -> PathBuf {
    built(stand_in().as_deref().unwrap_or(GOLDEN))
}

/// The version that stands in for the golden one, because Debian has that no more and `scripts/memcached --or-newest` has
/// built another: one to talk to, but not one to compare replies with.
pub fn stand_in() -> Option<String> {
    if built(GOLDEN).exists() {
        return None;
    }
    let note = std::fs::read_to_string(conformance().join(format!("stand-in-for-{GOLDEN}"))).ok()?;
    Some(note.trim().to_owned())
}

/// Whether replies cannot be compared with the golden version's, which it then says in the words by which `scripts/test`
/// counts a test as skipped: to standard error itself, since the test harness keeps what the print macros of a test that
/// passes write.
pub fn says_that_nothing_is_compared() -> bool {
    let Some(version) = stand_in() else { return false };
    let line = format!("skipped: nothing to compare with: Debian has memcached {version} and no {GOLDEN} any more\n");
    // Whoever cannot be told sees the test as passed.
    let _ = io::stderr().write_all(line.as_bytes());
    true
}

fn conformance() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/conformance")
}

fn built(version: &str) -> PathBuf {
    conformance().join(format!("memcached-{version}/memcached"))
}

/// Whether memcached's reply `said` to `request`, where another replies `other`, says nothing about the other, since it
/// depends on what lies behind an item or a request in memcached's memory.
pub fn unreliable(request: &[u8], said: &[u8], other: &[u8]) -> bool {
    refused_to_count(request, said, other) || read_behind_its_key(request, said, other)
}

/// Whether memcached obeyed a Stat (`said`) whose key only begins like one of its words, and the other did not.
///
/// memcached's `process_bin_stat` compares the key with each word as far as the word goes: behind a key that is shorter it
/// reads what earlier packets have left in the buffer.
fn read_behind_its_key(request: &[u8], said: &[u8], other: &[u8]) -> bool {
    const WORDS: [&str; 5] = ["reset", "settings", "detail on", "detail off", "detail dump"];
    let Some((header, body)) = request.split_first_chunk::<HEADER>() else { return false };
    let &[0x80, 0x10, high, low, extras, ..] = header else { return false };
    let (extras, key) = (usize::from(extras), usize::from(u16::from_be_bytes([high, low])));
    let Some(key) = body.get(extras..extras + key).filter(|key| !key.is_empty()) else { return false };
    let begins = |word: &&str| word.len() > key.len() && word.as_bytes().starts_with(key);
    WORDS.iter().any(begins) && said.starts_with(b"10 00 ") && other.starts_with(b"10 01 ")
}

/// Whether memcached refusing to count (`refused`) where another counts to `counted` says nothing about the other.
///
/// memcached's `incr` and `decr` look for a minus in a value of 2^63 and more with `strchr`, which runs past the end of
/// the item to the next zero byte; a minus among the bytes that older items left there makes it refuse a good number.
fn refused_to_count(request: &[u8], refused: &[u8], counted: &[u8]) -> bool {
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.trim().parse::<u64>().ok();
    let mut words = request.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let (name, delta, counted) = (words.next(), words.nth(1).and_then(number), number(counted));
    let (Some(name), Some(delta), Some(counted)) = (name, delta, counted) else { return false };
    let least_before = match name {
        b"incr" => counted.wrapping_sub(delta),
        b"decr" if counted == 0 => delta,
        b"decr" => counted.wrapping_add(delta),
        _ => return false,
    };
    refused == b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n" && least_before >= 1 << 63
}

/// Why the oracle could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The program is not there.
    #[error("cannot run '{program}': {source}; scripts/memcached 1.6.45 builds it")]
    Run {
        /// As given.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is another version than the golden one.
    #[error(
        "'{program}' says \"{version}\"; replies are compared with memcached {GOLDEN}; scripts/memcached builds it"
    )]
    Version {
        /// As given.
        program: String,
        /// What it said.
        version: String,
    },
    /// It ended, or did not listen in time.
    #[error("memcached did not listen on {socket} within 10 s ({state})", socket = .socket.display())]
    NotListening {
        /// The socket.
        socket: PathBuf,
        /// Whether it still ran.
        state: String,
    },
}

/// How it answers in the same way on every machine: 1 GiB, one thread, a 1 MiB item limit, nothing moved in between.
const ORACLE: [&str; 12] =
    ["-m", "1024", "-t", "1", "-I", "1m", "-c", "256", "-R", "1", "-o", "no_lru_maintainer,no_lru_crawler"];

/// A running memcached; ended when dropped.
#[derive(Debug)]
pub struct Memcached {
    child: Child,
    socket: PathBuf,
    /// Where it listens instead of the socket, by TCP and UDP.
    network: Option<SocketAddr>,
}

impl Memcached {
    /// Starts `program` (usually the [`golden`] one) with 1 GiB, one thread and a 1 MiB item limit, and waits until it listens.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(program: &Path) -> Result<Self, StartError> {
        Self::start_on(program, None, &ORACLE)
    }

    /// The same with other options.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start_with(program: &Path, options: &[&str]) -> Result<Self, StartError> {
        Self::start_on(program, None, options)
    }

    /// As [`start`](Self::start), on a free port of the loopback address, by TCP and UDP, in place of a unix socket.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start_with_udp(program: &Path) -> Result<Self, StartError> {
        // Between here and there another program may take the port; then it is another one.
        let mut tries = 0;
        loop {
            let address =
                free_address().map_err(|source| StartError::Run { program: program.display().to_string(), source })?;
            tries += 1;
            match Self::start_on(program, Some(address), &ORACLE) {
                Err(StartError::NotListening { .. }) if tries < 5 => {}
                started => return started,
            }
        }
    }

    fn start_on(program: &Path, network: Option<SocketAddr>, options: &[&str]) -> Result<Self, StartError> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let failed = |source| StartError::Run { program: program.display().to_string(), source };
        let version = Command::new(program).arg("-V").output().map_err(failed)?;
        let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        let wanted = stand_in().unwrap_or_else(|| GOLDEN.to_owned());
        if version != format!("memcached {wanted}") {
            return Err(StartError::Version { program: program.display().to_string(), version });
        }
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let socket = std::env::temp_dir().join(format!("sidestep-memcached-{}-{serial}.sock", std::process::id()));
        let mut command = Command::new(program);
        match network {
            None => command.arg("-s").arg(&socket).args(["-a", "0700"]),
            Some(address) => {
                let (host, port) = (address.ip().to_string(), address.port().to_string());
                command.args(["-l", &host, "-p", &port, "-U", &port])
            }
        };
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "root"]);
        }
        command.args(options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut memcached = Self { child: command.spawn().map_err(failed)?, socket, network };
        memcached.wait_until_it_listens()?;
        Ok(memcached)
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A connection by its socket.
    ///
    /// # Errors
    /// What the system says; it has none when it listens on a port.
    pub fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(&self.socket)
    }

    /// memcached has no ready signal for a unix socket but the socket itself.
    fn wait_until_it_listens(&mut self) -> Result<(), StartError> {
        let mut state = "it runs".to_owned();
        for _ in 0..2_000 {
            let listens = match self.network {
                None => self.connect().is_ok(),
                Some(address) => TcpStream::connect(address).is_ok(),
            };
            if listens {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                state = format!("it ended: {status}");
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(StartError::NotListening { socket: self.socket.clone(), state })
    }

    /// A target that talks to this process.
    pub fn target(&self) -> SocketTarget {
        match self.network {
            None => SocketTarget::new("memcached", Address::Unix(self.socket.clone())),
            Some(address) => SocketTarget::new("memcached", Address::Tcp(address)).with_udp(address).that_waits(),
        }
    }
}

/// An address of the loopback interface whose port is free by TCP and by UDP.
fn free_address() -> io::Result<SocketAddr> {
    let mut tries = 0;
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        let address = udp.local_addr()?;
        tries += 1;
        match TcpListener::bind(address) {
            // The kernel gives ports that are free by UDP; a connection of any program may have this one by TCP.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < 100 => {}
            bound => return bound.map(|_| address),
        }
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        // The process may have ended by itself; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Packet;

    #[test]
    fn only_a_refusal_to_count_from_two_to_the_sixty_three_on_is_unreliable() {
        let refused = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
        assert!(unreliable(b"incr k 1\r\n", refused, b"9223372036854775809\r\n"));
        assert!(unreliable(b"incr k 7\r\n", refused, b"6\r\n"));
        assert!(unreliable(b"decr k  5\r\n", refused, b"18446744073709551609\r\n"));
        assert!(!unreliable(b"incr k 1\r\n", refused, b"9223372036854775808\r\n"));
        assert!(!unreliable(b"incr k 1\r\n", b"NOT_FOUND\r\n", b"9223372036854775809\r\n"));
        assert!(!unreliable(b"decr k 1\r\n", refused, b"7\r\n"));
        assert!(unreliable(b"decr k 1\r\n", refused, b"9223372036854775807\r\n"));
        assert!(!unreliable(b"get k 1\r\n", refused, b"9223372036854775807\r\n"));
    }

    #[test]
    fn only_a_stat_whose_key_is_the_beginning_of_a_word_is_unreliable() {
        let stat = |key: &str| Packet { key: key.into(), ..Packet::new(0x10) }.encode();
        let (obeyed, missed) = (&b"10 00 opaque=00000000 cas=0"[..], &b"10 01 opaque=00000000 cas=0"[..]);
        assert!(unreliable(&stat("detail"), obeyed, missed) && unreliable(&stat("rese"), obeyed, missed));
        assert!(!unreliable(&stat("detail"), missed, obeyed), "nothing behind a key makes it unknown");
        assert!(!unreliable(&stat("detail off"), obeyed, missed) && !unreliable(&stat("detailed"), obeyed, missed));
        assert!(!unreliable(&stat(""), obeyed, missed) && !unreliable(b"\x80\x10", obeyed, missed));
    }
}
