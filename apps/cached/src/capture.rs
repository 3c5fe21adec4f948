//! `CoreCapture`: `--capture`, every frame of a core's queues recorded to a file each.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cache::Now;
use nic::{PcapError, PcapRecorder, PcapTap, QueueId, SharedRecorder};
use stack::{Poll, Time};

use crate::announce::new_file;
use crate::live_capture::{Capture, LiveTaps};
use crate::sharing::AnyQueue;

/// Why a queue cannot be recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The file cannot be made.
    #[error("cannot record to {path}: {source}; give --capture a folder that exists and can be written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its header cannot be written.
    #[error(transparent)]
    Header(#[from] PcapError),
}

/// What the queues of one core are recorded to. Without any, the default, it does nothing.
#[derive(Default)]
pub struct CoreCapture {
    recorders: Vec<SharedRecorder<Sink>>,
    /// Of a capture that was turned on while the server ran.
    live: Option<LiveTaps>,
}

/// Where a capture is written.
type Sink = Box<dyn Write + Send>;

impl fmt::Debug for CoreCapture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoreCapture").field("recorders", &self.recorders.len()).finish()
    }
}

impl CoreCapture {
    /// Records everything that goes through `queue` to a new file in `folder`, named after the queue.
    ///
    /// # Errors
    /// [`CaptureError`]: the file cannot be made or written.
    pub fn record(&mut self, id: QueueId, queue: AnyQueue, folder: &Path) -> Result<AnyQueue, CaptureError> {
        let path = folder.join(format!("queue-{}.pcap", id.0));
        // What all clients say is for nobody else to read.
        let file = new_file(&path, 0o600).map_err(|source| CaptureError::File { path, source })?;
        Ok(self.record_to(queue, Box::new(BufWriter::new(file)))?)
    }

    /// Records everything that goes through `queue` to `sink`, which should be buffered.
    ///
    /// # Errors
    /// [`PcapError`]: the header of the capture cannot be written.
    pub fn record_to(&mut self, queue: AnyQueue, sink: Sink) -> Result<AnyQueue, PcapError> {
        let recorder = SharedRecorder::new(PcapRecorder::new(sink)?);
        self.recorders.push(recorder.clone());
        Ok(Box::new(PcapTap::new(queue, recorder)))
    }

    /// The time of the frames of the turn that begins: that of the day, whose seconds begin where the cache's do.
    #[inline]
    pub fn set_time(&self, time: Time, now: Now) {
        let live = self.live.as_ref().filter(|live| live.is_on());
        if self.recorders.is_empty() && live.is_none() {
            return;
        }
        let micros = (time.as_micros() % 1_000_000) as u32;
        let now = Duration::new(now.unix_epoch + u64::from(now.secs), micros * 1_000);
        self.recorders.iter().for_each(|recorder| recorder.set_time(now));
        if let Some(live) = live {
            live.set_time(now);
        }
    }

    /// Records all that goes through these queues from now on too, or no more.
    pub(crate) fn set_live(&mut self, poll: &mut Poll<AnyQueue>, capture: Option<Arc<Capture>>) {
        if self.live.is_none() && capture.is_some() {
            let taps = LiveTaps::default();
            poll.map_queues(|queue| taps.tap(queue));
            self.live = Some(taps);
        }
        if let Some(live) = &self.live {
            live.set(capture);
        }
    }

    /// Ends the recording. Frames still pass the queues afterwards, unrecorded.
    ///
    /// # Errors
    /// [`PcapError::Write`]: a file is not whole.
    pub fn finish(&self) -> Result<(), PcapError> {
        for recorder in &self.recorders {
            recorder.finish()?;
        }
        Ok(())
    }
}
