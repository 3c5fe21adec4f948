//! `Supervised`: the data plane's end of the way to its supervisor.

use std::env;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nic::xdp::AttachedLink;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use super::config::Ports;
use super::device::Device;
use super::error::SetupError;
use super::steps::Steps;
use crate::confine;
use crate::supervisor::channel::{FromPlane, ToPlane, hear, say};
use crate::supervisor::life::MARK;

/// A data plane whose supervisor listens.
pub(super) struct Supervised {
    channel: UnixStream,
    /// Over which `sidestep ctl` asks, once the supervisor has its other end.
    control: Option<UnixStream>,
    /// The link of the plane before, if there was one.
    over: Option<AttachedLink>,
    /// What was said before the word to serve.
    told: Vec<ToPlane>,
    /// How long its start takes.
    pub(super) steps: Steps,
    /// The ports, of which the supervisor has drawn those that are to be any.
    pub(super) ports: Ports,
}

impl Supervised {
    /// What this process is told, if it is a data plane. To be called before the first thread.
    pub(super) fn of_environment() -> Option<Result<Self, SetupError>> {
        let mark = env::var_os(MARK)?;
        let mut steps = Steps::begin();
        let begin = move || -> io::Result<Self> {
            let channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
            rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
            let (ports, folder) = Ports::of_mark(&mark).ok_or(io::ErrorKind::InvalidInput)?;
            // Names of files are as they were typed where the server was started; a daemon's supervisor has left there.
            let _ = env::set_current_dir(folder);
            // A signal to all processes of a service is the supervisor's to answer: noted and passed over.
            for signal in [SIGTERM, SIGINT, SIGHUP, SIGUSR1] {
                signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
            }
            // What `ps -e` shows; the name of the file that was started would be /proc/self/exe's.
            rustix::thread::set_name(c"sidestep-plane")?;
            confine::begin()?;
            let (ToPlane::Begin(attach), handed) = hear(&channel)? else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            let over = handed.into_iter().next().zip(attach).map(|(link, attach)| AttachedLink { link, attach });
            steps.done("begin");
            Ok(Self { channel, control: None, over, told: Vec::new(), steps, ports })
        };
        Some(begin().map_err(SetupError::system("begin as the data plane")))
    }

    /// Tells that the link is open, and waits until what is outside is ready. What it is told meanwhile is for
    /// [`Self::take_told`].
    pub(super) fn opened(&mut self, device: &Device) -> Result<(), SetupError> {
        let mut said = || -> io::Result<()> {
            let (own, theirs) = UnixStream::pair()?;
            self.control = Some(own);
            let shared = device.share().transpose()?;
            let of_program = shared.iter().flat_map(|shared| &shared.descriptors).map(AsFd::as_fd);
            let handed: Vec<_> = [theirs.as_fd()].into_iter().chain(of_program).collect();
            let queues = device.queue_ids().len() as u32;
            let program = shared.as_ref().map(|shared| shared.attach);
            say(&self.channel, &FromPlane::Opened { index: device.link().index, queues, program }, &handed)?;
            loop {
                match hear(&self.channel)?.0 {
                    ToPlane::Go => break,
                    // It is asked to end before it serves.
                    ToPlane::Stop => std::process::exit(0),
                    told => self.told.push(told),
                }
            }
            self.steps.done("what is outside");
            Ok(())
        };
        said().map_err(SetupError::system("speak with the supervisor"))
    }

    /// What the supervisor has said before the word to serve, which holds before it is ready. Once.
    pub(super) fn take_told(&mut self) -> Vec<ToPlane> {
        std::mem::take(&mut self.told)
    }

    /// Tells that requests are answered.
    pub(super) fn ready(&mut self) -> Result<(), SetupError> {
        self.steps.done("threads");
        tracing::debug!("the data plane started in {}", self.steps);
        say(&self.channel, &FromPlane::Ready, &[]).map_err(SetupError::system("speak with the supervisor"))
    }

    /// The link at which the program of the plane before is still attached. Once.
    pub(super) fn take_link(&mut self) -> Option<AttachedLink> {
        self.over.take()
    }

    /// The socket over which `sidestep ctl` asks. Once.
    pub(super) fn take_control(&mut self) -> Option<UnixStream> {
        self.control.take()
    }

    /// The end at which the supervisor is heard, for a thread of its own.
    pub(super) fn ear(&self) -> Result<UnixStream, SetupError> {
        self.channel.try_clone().map_err(SetupError::system("speak with the supervisor"))
    }
}
