//! `sidestep replay`: a recorded session played to stack and cache again, without a NIC.
//!
//! ```text
//! captures ─► Recording: connections, client frames in order of time, what the server said
//!                 │ client frames                                     │
//!                 ▼                                                   ▼
//!             Player: one worker on a wire, time from the capture ─► Comparison: byte stream by byte stream
//! ```
//!
//! What is compared is the bytes each connection was sent, not how they were cut into segments. The worker has one core,
//! an empty cache, and the sequence numbers that were recorded. Read first: `recording.rs`, then `player.rs`.

/// What was sent and what was recorded, side by side.
mod comparison;
/// Why nothing could be replayed.
mod error;
/// One worker, fed by hand.
mod player;
/// What a capture holds.
mod recording;
/// One TCP segment of a capture.
mod segment;
/// A byte stream put together from segments.
mod stream;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use nic::PcapRecorder;

use crate::device;

pub use comparison::{Compared, Comparison};
pub use error::ReplayError;
pub use player::Player;
pub use recording::{Dialogue, Recording};
pub use stream::Stream;

/// What was typed.
#[derive(Debug, Clone, Args)]
pub struct ReplayFlags {
    /// Captures of one session, such as one of each queue: classic pcap, Ethernet, whole frames
    #[arg(value_name = "FILE.pcap", required_unless_present = "device")]
    pub files: Vec<PathBuf>,
    /// The same as FILE.pcap; may be given more than once
    #[arg(long, value_name = "pcap:FILE", value_parser = device::capture)]
    pub device: Vec<PathBuf>,
    /// The recorded server's address
    #[arg(long, value_name = "ADDRESS")]
    pub address: IpAddr,
    /// The recorded server's TCP port
    #[arg(short = 'p', long, value_name = "PORT", default_value = "11211", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Memory of the cache, in megabytes
    #[arg(short = 'm', long = "memory-limit", value_name = "MB", default_value = "64", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub memory: u64,
    /// Write the frames that our stack sends to this file
    #[arg(long, value_name = "OUT.pcap")]
    pub write: Option<PathBuf>,
    /// Show every frame of the session, in and out
    #[arg(short = 'v', long)]
    pub verbose: bool,
}

/// Replays the files and prints the table of connections to `out`. Returns whether all were the same.
///
/// # Errors
/// [`ReplayError`]: nothing was compared; one line for the user.
pub fn run(flags: &ReplayFlags, out: &mut dyn Write) -> Result<bool, ReplayError> {
    let server = SocketAddr::new(flags.address, flags.port);
    let files: Vec<PathBuf> = flags.files.iter().chain(&flags.device).cloned().collect();
    let recording = Recording::read(&files, server)?;
    let system = |what: String| move |source| ReplayError::System { what, source };
    let written = match &flags.write {
        None => None,
        Some(path) => {
            let file = File::create(path).map_err(system(format!("write {}", path.display())))?;
            let to_path = |source| ReplayError::Capture { path: path.display().to_string(), source };
            Some((path, PcapRecorder::new(BufWriter::new(file)).map_err(to_path)?))
        }
    };
    let (path, recorder) = written.map_or((None, None), |(path, recorder)| (Some(path), Some(recorder)));
    let mut player = Player::new(&recording, server, flags.memory << 20, recorder)?;
    let mut talk = |line: &str| writeln!(out, "{line}");
    let mut failure = None;
    player.play(&recording, |line| {
        if flags.verbose && failure.is_none() {
            failure = talk(line).err();
        }
    })?;
    let (streams, recorder) = player.finish();
    if let (Some(path), Some(recorder)) = (path, recorder) {
        recorder.finish().map_err(|source| ReplayError::Capture { path: path.display().to_string(), source })?;
    }
    let comparison = Comparison::new(&recording, &streams);
    match failure.map_or_else(|| write!(out, "{comparison}"), Err) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        Err(source) => return Err(system("print the table".to_owned())(source)),
    }
    Ok(comparison.all_same())
}
