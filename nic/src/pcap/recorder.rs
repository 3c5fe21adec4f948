//! `PcapRecorder`: frames into a pcap file, with times set by the caller; and `SharedRecorder`, one that several hold.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, Endianness, TsResolution};

use super::PcapError;

/// Longest frame that is recorded, in bytes; a chunk is shorter.
const SNAP_BYTES: u32 = 65_535;

/// Writes frames to `W`, which should be buffered. Its first error stops the recording and is told by
/// [`finish`](Self::finish); the path of the frames never sees it. Belongs to one core.
#[derive(Debug)]
pub struct PcapRecorder<W: Write> {
    writer: PcapWriter<W>,
    now: Duration,
    frames: u64,
    unrecorded: u64,
    error: Option<pcap_file::PcapError>,
}

impl<W: Write> PcapRecorder<W> {
    /// Writes the file's header; little-endian, times in nanoseconds.
    ///
    /// # Errors
    /// [`PcapError::Write`]: the header could not be written.
    pub fn new(sink: W) -> Result<Self, PcapError> {
        let header = PcapHeader {
            snaplen: SNAP_BYTES,
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::NanoSecond,
            endianness: Endianness::Little,
            ..PcapHeader::default()
        };
        let writer = PcapWriter::with_header(sink, header).map_err(|source| PcapError::Write { frames: 0, source })?;
        Ok(Self { writer, now: Duration::ZERO, frames: 0, unrecorded: 0, error: None })
    }

    /// The time of the frames recorded from now on; since 1970 if the file is to show the time of day.
    pub fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// Records a frame; counts it only, after an error.
    pub fn record(&mut self, frame: &[u8]) {
        if self.error.is_some() {
            self.unrecorded += 1;
            return;
        }
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        match self.writer.write_packet(&PcapPacket::new(self.now, len, frame)) {
            Ok(_) => self.frames += 1,
            Err(error) => {
                self.unrecorded += 1;
                self.error = Some(error);
            }
        }
    }

    /// Frames recorded.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Frames not recorded since an error came before.
    pub fn unrecorded_frames(&self) -> u64 {
        self.unrecorded
    }

    /// Ends the recording: flushes, and gives the sink back.
    ///
    /// # Errors
    /// [`PcapError::Write`]: the first failure, at whichever frame it was.
    pub fn finish(self) -> Result<W, PcapError> {
        let frames = self.frames;
        if let Some(source) = self.error {
            return Err(PcapError::Write { frames, source });
        }
        let mut sink = self.writer.into_writer();
        sink.flush().map_err(|error| PcapError::Write { frames, source: pcap_file::PcapError::IoError(error) })?;
        Ok(sink)
    }
}

/// A recorder that a [`PcapTap`](super::PcapTap) writes to and somebody else keeps: who sets the time, and ends the
/// recording. Clones are the same recorder.
///
/// Both are of one core as a rule, so that its lock is never waited for.
#[derive(Debug)]
pub struct SharedRecorder<W: Write>(Arc<Mutex<Option<PcapRecorder<W>>>>);

impl<W: Write> Clone for SharedRecorder<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<W: Write> SharedRecorder<W> {
    /// Shares `recorder`.
    pub fn new(recorder: PcapRecorder<W>) -> Self {
        Self(Arc::new(Mutex::new(Some(recorder))))
    }

    /// The time of the frames recorded from now on; since 1970 if the file is to show the time of day.
    pub fn set_time(&self, now: Duration) {
        if let Some(recorder) = &mut *self.lock() {
            recorder.set_time(now);
        }
    }

    /// Records a frame, unless the recording has ended.
    pub(super) fn record(&self, frame: &[u8]) {
        if let Some(recorder) = &mut *self.lock() {
            recorder.record(frame);
        }
    }

    /// Ends the recording: flushes, and gives the sink back. Frames still pass the tap afterwards, unrecorded. `None`
    /// when it had ended before.
    ///
    /// # Errors
    /// [`PcapError::Write`]: the first failure, at whichever frame it was.
    pub fn finish(&self) -> Result<Option<W>, PcapError> {
        self.lock().take().map(PcapRecorder::finish).transpose()
    }

    /// The recorder, also after a thread that held it has panicked.
    fn lock(&self) -> MutexGuard<'_, Option<PcapRecorder<W>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
