//! memcached as the peer: started for one run on a unix socket of its own, asked in batches, ended by its id.
//!
//! A batch is asked with `mg` without flags, which answers without the value and counts as a get for what memcached
//! keeps; what misses is set. A key that comes twice in a batch and misses is asked again after it was set, so that a
//! batch misses what single requests would.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use differential::memcached::{Memcached, StartError, golden};
use procfs::ProcError;

use crate::ours::Outcome;
use crate::resident::resident_bytes;
use crate::stream::{Asked, Stream};

/// The version that figures are compared with.
pub const VERSION: &str = "memcached 1.6.45";

/// Requests asked at a time.
const BATCH: usize = 64;

/// Why the peer did not do its part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// It could not be started, or is another version.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The connection broke.
    #[error("the connection to memcached broke: {0}")]
    Io(#[from] io::Error),
    /// It said something else than was asked.
    #[error("memcached answered {0:?}")]
    Reply(String),
    /// Its memory could not be read.
    #[error("cannot read memcached's resident memory: {0}")]
    Resident(#[from] ProcError),
}

/// A running memcached and one connection to it. Ended when dropped.
pub struct Peer {
    memcached: Memcached,
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    values: Vec<u8>,
    out: Vec<u8>,
    line: Vec<u8>,
    refused: u64,
}

impl Peer {
    /// Starts memcached with `-m memory_mib`, `-t threads` and everything else as it comes.
    ///
    /// # Errors
    /// [`PeerError::Start`] when it is not there, is another version, or does not listen.
    pub fn start(memory_mib: u64, threads: usize) -> Result<Peer, PeerError> {
        let (memory, threads) = (memory_mib.to_string(), threads.to_string());
        let memcached = Memcached::start_with(&golden(), &["-m", &memory, "-t", &threads])?;
        let writer = memcached.connect()?;
        let reader = BufReader::with_capacity(1 << 16, writer.try_clone()?);
        let (values, out, line) = (vec![b'v'; 2 << 20], Vec::new(), Vec::new());
        Ok(Peer { memcached, reader, writer, values, out, line, refused: 0 })
    }

    /// The next line, without its end.
    fn read_line(&mut self) -> Result<&[u8], PeerError> {
        self.line.clear();
        self.reader.read_until(b'\n', &mut self.line)?;
        match self.line.strip_suffix(b"\r\n") {
            Some(line) => Ok(line),
            None => Err(PeerError::Reply(String::from_utf8_lossy(&self.line).into_owned())),
        }
    }

    /// Whether each of `asked` was there.
    fn get(&mut self, asked: &[Asked], hits: &mut Vec<bool>) -> Result<(), PeerError> {
        self.out.clear();
        let mut buffer = [0; 250];
        for asked in asked {
            self.out.extend_from_slice(b"mg ");
            self.out.extend_from_slice(asked.write_key(&mut buffer));
            self.out.extend_from_slice(b"\r\n");
        }
        self.writer.write_all(&self.out)?;
        hits.clear();
        for _ in asked {
            let hit = match self.read_line()? {
                b"HD" => true,
                b"EN" => false,
                other => return Err(PeerError::Reply(String::from_utf8_lossy(other).into_owned())),
            };
            hits.push(hit);
        }
        Ok(())
    }

    /// Sets each of `asked`.
    ///
    /// # Errors
    /// When the connection breaks or an answer is neither `STORED` nor a want of memory.
    pub fn set(&mut self, asked: &[Asked]) -> Result<(), PeerError> {
        self.out.clear();
        let mut buffer = [0; 250];
        for asked in asked {
            self.out.extend_from_slice(b"set ");
            self.out.extend_from_slice(asked.write_key(&mut buffer));
            // Writing to a vector cannot fail.
            let _ = write!(self.out, " 0 {} {}\r\n", asked.ttl_secs, asked.value_bytes);
            self.out.extend_from_slice(&self.values[..asked.value_bytes as usize]);
            self.out.extend_from_slice(b"\r\n");
        }
        self.writer.write_all(&self.out)?;
        for _ in asked {
            match self.read_line()? {
                b"STORED" => {}
                b"SERVER_ERROR out of memory storing object" => self.refused += 1,
                other => return Err(PeerError::Reply(String::from_utf8_lossy(other).into_owned())),
            }
        }
        Ok(())
    }

    /// One of its general counters.
    fn stat(&mut self, name: &str) -> Result<u64, PeerError> {
        self.writer.write_all(b"stats\r\n")?;
        let mut found = None;
        loop {
            let line = String::from_utf8_lossy(self.read_line()?).into_owned();
            let mut words = line.split(' ').skip(1);
            match words.next() {
                None => return found.ok_or_else(|| PeerError::Reply(format!("no {name}"))),
                Some(word) if word == name => found = words.next().and_then(|number| number.parse().ok()),
                Some(_) => {}
            }
        }
    }

    /// Runs the stream; misses count from its settling on.
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn run(mut self, stream: Stream) -> Result<Outcome, PeerError> {
        let started = Instant::now();
        let mut outcome = Outcome::default();
        let counted_from = stream.counted_from();
        let (mut nth, mut stream) = (0, stream.peekable());
        let (mut batch, mut hits, mut missed, mut again) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        while stream.peek().is_some() {
            batch.clear();
            batch.extend(stream.by_ref().take(BATCH));
            self.get(&batch, &mut hits)?;
            missed.clear();
            again.clear();
            seen.clear();
            for (asked, hit) in batch.iter().zip(&hits) {
                let first = *hit || seen.insert(asked.number);
                if !hit {
                    if first { missed.push(*asked) } else { again.push(*asked) }
                }
                if nth >= counted_from {
                    outcome.gets += 1;
                    outcome.misses += u64::from(!hit && first);
                }
                nth += 1;
            }
            if !missed.is_empty() {
                self.set(&missed)?;
                self.get(&again, &mut hits)?;
            }
        }
        let (gets, misses) = (outcome.gets, outcome.misses);
        Ok(Outcome { gets, misses, seconds: started.elapsed().as_secs_f64(), ..self.finish()? })
    }

    /// What is held at the end.
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn finish(mut self) -> Result<Outcome, PeerError> {
        let (items, resident_bytes) = (self.stat("curr_items")?, resident_bytes(Some(self.memcached.id()))?);
        Ok(Outcome { items, refused: self.refused, resident_bytes, ..Outcome::default() })
    }
}
