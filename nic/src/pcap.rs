//! `Capture`: frames recorded in a pcap file, to be replayed as a queue; and the other way, any queue recorded.
//!
//! A capture is read whole before it is used, so that replaying does no I/O; recording buffers and keeps its first
//! error for the call that ends it. Times are those of the file or of the caller: nothing here reads a clock. The
//! format is the classic one (magic 0xa1b2c3d4 or, in nanoseconds, 0xa1b23c4d), link type Ethernet. Read first:
//! `queue.rs`; IETF draft-ietf-opsawg-pcap.

/// `PcapRecorder`, `SharedRecorder`: frames into a pcap file.
mod recorder;
/// `PcapReplay`: a capture as a queue.
mod replay;
/// `PcapTap`: any queue, recorded.
mod tap;

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use pcap_file::pcap::PcapReader;
use pcap_file::{DataLink, TsResolution};

pub use recorder::{PcapRecorder, SharedRecorder};
pub use replay::{PcapReplay, ReplayConfig};
pub use tap::PcapTap;

/// Why a capture could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PcapError {
    /// The file could not be opened.
    #[error("{path}: {source}")]
    Open {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// What was read is no pcap file, or a damaged one.
    #[error(
        "frame {frame} of the capture cannot be read: {source}; is it a classic pcap file (not pcapng), and whole?"
    )]
    Read {
        /// Which frame, from 0; 0 also for the file's header.
        frame: usize,
        /// Why not.
        #[source]
        source: pcap_file::PcapError,
    },
    /// The frames have no Ethernet header.
    #[error("the capture has link type {link_type}; only Ethernet (1) can be replayed")]
    LinkType {
        /// What it has.
        link_type: u32,
    },
    /// A frame was cut when it was captured.
    #[error("frame {frame} was cut to {kept} of {len} bytes when it was captured; capture with a larger snap length")]
    Cut {
        /// Which frame, from 0.
        frame: usize,
        /// Bytes there are.
        kept: usize,
        /// Bytes there were.
        len: usize,
    },
    /// Writing failed; this is the first failure, and nothing was written after it.
    #[error("the capture cannot be written after {frames} frames: {source}")]
    Write {
        /// Frames recorded before.
        frames: u64,
        /// What happened.
        #[source]
        source: pcap_file::PcapError,
    },
}

/// Frames recorded in a file, in order, with their times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capture {
    bytes: Vec<u8>,
    /// Time, and where the frame's bytes end; they start where those of the last one end.
    frames: Vec<(Duration, usize)>,
}

impl Capture {
    /// Reads a file whole.
    ///
    /// # Errors
    /// [`PcapError`]: it cannot be opened, is no pcap file of Ethernet frames, or has frames that were cut.
    pub fn open(path: &Path) -> Result<Self, PcapError> {
        let file =
            std::fs::File::open(path).map_err(|source| PcapError::Open { path: path.display().to_string(), source })?;
        Self::read(file)
    }

    /// Reads a pcap stream to its end.
    ///
    /// # Errors
    /// [`PcapError`]: it is no pcap stream of Ethernet frames, or has frames that were cut.
    pub fn read(source: impl Read) -> Result<Self, PcapError> {
        let mut reader = PcapReader::new(source).map_err(|source| PcapError::Read { frame: 0, source })?;
        let header = reader.header();
        if header.datalink != DataLink::ETHERNET {
            return Err(PcapError::LinkType { link_type: u32::from(header.datalink) });
        }
        let nanos_per_tick = match header.ts_resolution {
            TsResolution::MicroSecond => 1000,
            TsResolution::NanoSecond => 1,
        };
        let mut capture = Self::default();
        while let Some(raw) = reader.next_raw_packet() {
            let frame = capture.frames.len();
            let raw = raw.map_err(|source| PcapError::Read { frame, source })?;
            let (kept, len) = (raw.data.len(), raw.orig_len as usize);
            if kept < len {
                return Err(PcapError::Cut { frame, kept, len });
            }
            let seconds = Duration::from_secs(u64::from(raw.ts_sec));
            capture.push(seconds + Duration::from_nanos(u64::from(raw.ts_frac) * nanos_per_tick), &raw.data);
        }
        Ok(capture)
    }

    /// Appends a frame.
    pub fn push(&mut self, at: Duration, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
        self.frames.push((at, self.bytes.len()));
    }

    /// Frames there are.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// A frame and its time, from 0; `None` past the end.
    pub fn frame(&self, number: usize) -> Option<(Duration, &[u8])> {
        let (at, end) = *self.frames.get(number)?;
        let start = number.checked_sub(1).and_then(|last| self.frames.get(last)).map_or(0, |(_, end)| *end);
        Some((at, self.bytes.get(start..end)?))
    }

    /// All frames with their times, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Duration, &[u8])> {
        (0..self.len()).filter_map(|number| self.frame(number))
    }

    /// The frames for which `keep` is true; such as those of one direction, of a file that has both.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(&[u8]) -> bool) -> Self {
        let mut kept = Self::default();
        for (at, frame) in self.iter().filter(|(_, frame)| keep(frame)) {
            kept.push(at, frame);
        }
        kept
    }
}

#[cfg(test)]
mod tests;
