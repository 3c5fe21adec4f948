//! `CaptureWriter`: the thread that writes what cores have captured. It is there from the start, since a data plane makes no
//! thread later, and sleeps while there is no capture.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Capture;
use crate::confine::{Role, restrict};

/// The beginning of the file (draft-ietf-opsawg-pcap §3): times in nanoseconds, version 2.4, frames of at most 65,535 bytes,
/// Ethernet.
const FILE_HEAD: [u32; 6] = [0xa1b2_3c4d, 2 | 4 << 16, 0, 0, 65_535, 1];

/// How long a server that ends waits for the file.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What became of a capture.
#[derive(Debug)]
pub struct CaptureEnd {
    /// Frames that were handed to the file.
    pub recorded: u64,
    /// Frames that went by unrecorded.
    pub unrecorded: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Why it is not whole.
    pub error: Option<io::Error>,
}

/// A capture that is being written.
struct Writing {
    capture: Arc<Capture>,
    file: File,
    bytes: u64,
    /// The most bytes that the file gets.
    limit: u64,
    error: Option<io::Error>,
}

impl Writing {
    fn write(&mut self, bytes: &[u8]) {
        if self.error.is_some() {
            return;
        }
        let written = match self.limit - self.bytes < bytes.len() as u64 {
            true => Err(io::Error::other(format!("it may have no more than {} bytes", self.limit))),
            false => self.file.write_all(bytes),
        };
        match written {
            Ok(()) => self.bytes += bytes.len() as u64,
            Err(error) => {
                tracing::error!(%error, "the capture is not whole: its file takes nothing more");
                self.capture.failed.store(true, Ordering::Relaxed);
                self.error = Some(error);
            }
        }
    }

    fn write_blocks(&mut self) {
        while let Some(mut block) = self.capture.full.pop() {
            self.write(&block);
            block.clear();
            // There is room for every block.
            let _ = self.capture.free.push(block);
        }
    }

    fn end(mut self) -> CaptureEnd {
        self.write_blocks();
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (recorded, unrecorded) = (count(&self.capture.recorded), count(&self.capture.unrecorded));
        CaptureEnd { recorded, unrecorded, bytes: self.bytes, error: self.error }
    }
}

enum Job {
    Begin(Box<Writing>),
    End(Sender<CaptureEnd>),
}

/// The thread, for who governs.
#[derive(Debug)]
pub struct CaptureWriter {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
    capture: Option<Arc<Capture>>,
}

impl CaptureWriter {
    /// Starts it. It drops `confined` once it has no more calls than it needs; where it is not to be confined, as in tests,
    /// there is none.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(confined: Option<Sender<()>>) -> io::Result<CaptureWriter> {
        let (jobs, inbox) = mpsc::channel();
        let body = move || {
            if confined.is_some()
                && let Err(error) = restrict(Role::Capture)
            {
                tracing::error!(%error, "the thread of captures cannot be confined: there are none");
                return;
            }
            drop(confined);
            write(&inbox);
        };
        let thread = thread::Builder::new().name("capture".to_owned()).spawn(body)?;
        Ok(CaptureWriter { jobs, thread, capture: None })
    }

    /// Whether a capture is on.
    pub fn is_on(&self) -> bool {
        self.capture.is_some()
    }

    /// Begins a capture of `cores` cores into `file`, of at most `limit` bytes: they are to be given what is returned.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn begin(&mut self, cores: usize, file: File, limit: u64) -> Result<Arc<Capture>, &'static str> {
        if self.is_on() {
            return Err("a capture is on already; turn it off first");
        }
        let capture = Arc::new(Capture::new(cores, self.thread.thread().clone()));
        let writing = Writing { capture: capture.clone(), file, bytes: 0, limit, error: None };
        if self.jobs.send(Job::Begin(Box::new(writing))).is_err() {
            return Err("nobody is there to write it: the log says why");
        }
        self.thread.thread().unpark();
        self.capture = Some(capture.clone());
        Ok(capture)
    }

    /// Begins to end the capture, once no core has a part of it any more: what became of it comes once its file has taken all
    /// of it. `None` when none is on.
    pub fn begin_end(&mut self) -> Option<Receiver<CaptureEnd>> {
        self.capture.take()?;
        let (to, outcome) = mpsc::channel();
        self.jobs.send(Job::End(to)).ok()?;
        self.thread.thread().unpark();
        Some(outcome)
    }

    /// Ends it so, and waits. `None` also when the file takes longer than `limit`: it is written to its end all the same.
    pub fn end(&mut self, limit: Duration) -> Option<CaptureEnd> {
        self.begin_end()?.recv_timeout(limit).ok()
    }
}

/// The thread's life: it ends with who governs.
fn write(jobs: &Receiver<Job>) {
    let mut writing: Option<Box<Writing>> = None;
    loop {
        match jobs.try_recv() {
            Ok(Job::Begin(mut begun)) => {
                begun.write(&FILE_HEAD.map(u32::to_le_bytes).concat());
                writing = Some(begun);
            }
            Ok(Job::End(to)) => {
                if let Some(ended) = writing.take() {
                    // Whoever has asked may have given up.
                    let _ = to.send(ended.end());
                }
            }
            Err(TryRecvError::Empty) => {
                if let Some(writing) = &mut writing {
                    writing.write_blocks();
                }
                thread::park();
            }
            Err(TryRecvError::Disconnected) => return,
        }
    }
}

impl Drop for CaptureWriter {
    fn drop(&mut self) {
        let _ = self.end(LAST_WORDS);
        // The thread ends with its inbox, of which it is told here.
        let (jobs, _) = mpsc::channel();
        self.jobs = jobs;
        self.thread.thread().unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::super::{BLOCK_BYTES, LiveTaps};
    use super::*;

    /// A file without a name.
    fn file() -> File {
        let path = std::env::temp_dir().join(format!("sidestep-capture-{}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        std::fs::remove_file(&path).expect("it was made");
        file.expect("a folder")
    }

    #[test]
    fn what_two_cores_record_is_one_whole_file_and_nothing_after_the_end() {
        let mut writer = CaptureWriter::start(None).expect("a thread");
        let kept = file();
        let capture = writer.begin(2, kept.try_clone().expect("a descriptor"), u64::MAX).expect("none is on");
        assert!(writer.begin(2, file(), u64::MAX).is_err(), "one at a time");
        let cores = [LiveTaps::default(), LiveTaps::default()];
        let now = Duration::new(1_700_000_000, 5);
        for (core, taps) in cores.iter().enumerate() {
            taps.set(Some(capture.clone()));
            taps.set_time(now);
            for _ in 0..300 {
                taps.record(&[core as u8; 1_500]);
            }
        }
        cores.iter().for_each(|taps| taps.set(None));
        drop(capture);
        let outcome = writer.end(Duration::MAX).expect("it was on");
        cores[0].record(&[7; 60]);
        let mut bytes = Vec::new();
        let mut kept = kept;
        kept.rewind().expect("a file");
        kept.read_to_end(&mut bytes).expect("a file");
        assert_eq!((outcome.recorded, outcome.unrecorded, outcome.bytes), (600, 0, bytes.len() as u64));
        assert!(outcome.error.is_none() && 600 * 1_500 > 2 * BLOCK_BYTES);
        let (head, records) = bytes.split_at(24);
        assert_eq!(head[..4], 0xa1b2_3c4d_u32.to_le_bytes());
        let mut of_core = [0; 2];
        for record in records.chunks(16 + 1_500) {
            let word = |at: usize| u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
            assert_eq!([word(0), word(4), word(8), word(12)], [1_700_000_000, 5, 1_500, 1_500]);
            assert!(record[16..].iter().all(|byte| *byte == record[16]));
            of_core[usize::from(record[16])] += 1;
        }
        assert_eq!(of_core, [300, 300]);
        assert!(writer.end(Duration::MAX).is_none());
    }

    #[test]
    fn a_file_that_takes_nothing_ends_the_recording_and_says_why() {
        let mut writer = CaptureWriter::start(None).expect("a thread");
        let full = File::options().write(true).open("/dev/full").expect("Linux has it");
        let capture = writer.begin(1, full, u64::MAX).expect("none is on");
        let taps = LiveTaps::default();
        taps.set(Some(capture.clone()));
        for _ in 0..10_000 {
            taps.record(&[1; 1_500]);
        }
        taps.set(None);
        let outcome = writer.end(Duration::MAX).expect("it was on");
        assert_eq!((outcome.bytes, outcome.recorded + outcome.unrecorded), (0, 10_000));
        assert_eq!(outcome.error.expect("it is full").kind(), io::ErrorKind::StorageFull);
    }
    #[test]
    fn a_file_gets_no_more_than_it_may_have_and_whole_frames_alone() {
        let mut writer = CaptureWriter::start(None).expect("a thread");
        let (kept, limit) = (file(), 2 * BLOCK_BYTES as u64);
        let capture = writer.begin(1, kept.try_clone().expect("a descriptor"), limit).expect("none is on");
        let taps = LiveTaps::default();
        taps.set(Some(capture));
        for _ in 0..10_000 {
            taps.record(&[1; 1_500]);
        }
        taps.set(None);
        let outcome = writer.end(Duration::MAX).expect("it was on");
        assert!(outcome.bytes <= limit && outcome.bytes == kept.metadata().expect("a file").len());
        assert_eq!((outcome.bytes - 24) % (16 + 1_500), 0);
        assert!(outcome.error.expect("more was recorded").to_string().contains("no more than 524288 bytes"));
    }
}
