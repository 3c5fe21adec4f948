//! Why the server does not start, or ends: one line each for the operator.

use std::time::Duration;

use cache::MeshError;
use nic::preflight::OpenError;
use nic::{PoolError, RelayError};

use crate::budget::BudgetError;
use crate::capture::CaptureError;
use crate::link_watch::LinkGone;
use crate::options::OptionError;
use crate::worker::WorkerError;

/// The exit code of a data plane of which a core has panicked: that of any Rust program whose main thread has.
pub(crate) const PANICKED: u8 = 101;

/// The exit code of a data plane of which a core did not end, and that is not to be started again. Its supervisor's is 1.
pub(crate) const HANGS: u8 = 102;

/// Why the server did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The link could not be opened.
    #[error(transparent)]
    Open(#[from] Box<OpenError>),
    /// The TAP could not be opened.
    #[error(transparent)]
    Tap(#[from] nic::tap::TapError),
    /// The cache cannot be built as asked.
    #[error(transparent)]
    Cache(#[from] MeshError),
    /// A stack cannot be built as asked.
    #[error(transparent)]
    Stack(#[from] stack::ConfigError),
    /// No memory for frames between cores.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// No memory for frames handed to cores without a queue.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// A queue cannot be recorded.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The socket named with --control cannot be had.
    #[error(transparent)]
    Control(#[from] control::FrontError),
    /// An option that only now shows that it cannot be kept.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// More memory is asked for than there is.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The interface is not there any more, or not the server's.
    #[error(transparent)]
    LinkGone(LinkGone),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(getrandom::Error),
    /// A thread, a descriptor or a signal handler could not be had.
    #[error("cannot {what}: {source}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A core could not go on; all have stopped.
    #[error("core {core} could not go on: {source}")]
    Core {
        /// Its number.
        core: usize,
        /// Why.
        #[source]
        source: WorkerError,
    },
    /// The data plane does not stay.
    #[error("the data plane {how} again, after {restarts} restarts; that is given up: the lines above say why it ends")]
    PlaneEnds {
        /// How it ended last.
        how: String,
        /// How often it was started again.
        restarts: u64,
    },
    /// A core does not end. Others have answered their clients and ended.
    #[error(
        "core {core} has not ended {} s after it was asked to, and ends with the process: its clients are not told; it hangs, or something else has its processor",
        .limit.as_secs()
    )]
    Hangs {
        /// Its number.
        core: usize,
        /// How long it was waited for.
        limit: Duration,
    },
    /// A core panicked; all have stopped. The panic itself was printed by its thread.
    #[error("core {core} panicked; this is a fault of sidestep: report it with the lines above")]
    Panicked {
        /// Its number.
        core: usize,
    },
}

impl SetupError {
    /// The exit code that says it to whoever started the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Panicked { .. } => PANICKED,
            Self::Hangs { .. } => HANGS,
            _ => 1,
        }
    }

    /// `what` failed, for the kernel's reason.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> SetupError {
        move |source| SetupError::System { what, source }
    }
}
