//! What is asked and answered, as JSON that people can read.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The version of these messages. Another one is another number, and the client says so.
pub const VERSION: u32 = 1;

/// What a hello begins with.
pub const NAME: &str = "sidestep-control";

/// Where the server of `interface` of this thread's network namespace listens, in `folder`: interfaces of one name in two
/// namespaces are two.
pub fn default_path(folder: &Path, interface: &str) -> PathBuf {
    folder.join(format!("{interface}{}", default_ending()))
}

/// What the name of every such socket of this network namespace ends with.
pub fn default_ending() -> String {
    let namespace = std::fs::metadata("/proc/thread-self/ns/net").map_or(0, |namespace| namespace.ino());
    format!(".{namespace}.sock")
}

/// What a server says first, unasked, as frame 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`NAME`].
    pub hello: String,
    /// [`VERSION`].
    pub version: u32,
}

impl Hello {
    /// This version's.
    pub fn new() -> Hello {
        Hello { hello: NAME.to_owned(), version: VERSION }
    }
}

impl Default for Hello {
    fn default() -> Hello {
        Hello::new()
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// All settings, as `stats settings` names them, and which of them can change.
    Settings,
    /// Another value for a setting.
    Set {
        /// The setting.
        name: String,
        /// Its value from now on.
        value: String,
    },
    /// A list of `stats`.
    Stats {
        /// Which one: nothing for the general list, or settings, items, slabs, sizes, sidestep.
        #[serde(default)]
        kind: String,
    },
    /// By which queue connections came, and whether that is the one predicted.
    Queues,
    /// Connections one by one, some at a time.
    Connections {
        /// The core to begin with.
        #[serde(default)]
        core: usize,
        /// The place among its connections to begin with.
        #[serde(default)]
        from: u32,
    },
    /// Every frame is recorded into the file whose descriptor comes along, or none any more.
    Capture {
        /// Whether it is to be.
        on: bool,
        /// The most bytes that the file gets.
        #[serde(default = "capture_limit")]
        limit: u64,
    },
    /// No new connections; the server ends once none is left.
    Drain {
        /// After so many seconds although some are left.
        #[serde(default)]
        seconds: Option<u64>,
    },
    /// The server answers what has arrived and ends.
    Shutdown,
}

/// Bytes of a capture that nobody limits otherwise.
pub const CAPTURE_LIMIT_BYTES: u64 = 1 << 30;

fn capture_limit() -> u64 {
    CAPTURE_LIMIT_BYTES
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is done, or begun; in words.
    Done(String),
    /// It was not done, and why.
    Error(String),
    /// To [`Request::Settings`].
    Settings(Vec<Setting>),
    /// To [`Request::Stats`]: names and values, in the order of the list.
    Stats(Vec<(String, String)>),
    /// To [`Request::Queues`].
    Queues {
        /// What decides the queue of a connection, in words.
        rule: String,
        /// One for each queue that is polled.
        queues: Vec<QueueRow>,
    },
    /// To [`Request::Connections`].
    Connections {
        /// Some of them.
        connections: Vec<ConnectionRow>,
        /// Core and place to ask for next, unless these were the last.
        next: Option<(usize, u32)>,
        /// Why the core has told of none, where it has not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unknown: Option<String>,
    },
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRow {
    /// Address and port of its client.
    pub peer: String,
    /// Its state, as `ss` names it.
    pub state: String,
    /// The core that serves it.
    pub core: usize,
    /// Seconds since its last command.
    pub idle_secs: u32,
    /// Bytes received and not yet taken by the server.
    pub unread_bytes: usize,
    /// Bytes that the client has not acknowledged.
    pub unsent_bytes: usize,
    /// Smoothed round-trip time in microseconds, if one was measured.
    pub rtt_us: Option<u64>,
}

/// A setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// What it is now.
    pub value: String,
    /// Whether it can be changed while the server runs.
    pub changeable: bool,
}

/// What came by a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRow {
    /// Its number.
    pub queue: u16,
    /// The core that polls it.
    pub core: usize,
    /// Connections made over it.
    pub connections: u64,
    /// Those of them that the NIC's hash predicts there, if anything is predicted.
    pub as_predicted: Option<u64>,
    /// Those that it predicts elsewhere.
    pub elsewhere: Option<u64>,
}
