//! `Plane`: one life of the data plane, seen from its supervisor; `Lives`: how often it may begin anew.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nic::xdp::AttachedLink;

use super::channel::{FromPlane, ToPlane, hear, say};

/// What the supervisor waits for.
pub(super) enum Event {
    /// It is asked to end.
    Signal,
    /// It is asked to read its files again.
    Reload,
    /// What the plane says, and the descriptors that it hands over with it.
    Said(FromPlane, Vec<OwnedFd>),
    /// The plane says what no plane says: it is not to go on.
    Nonsense(io::Error),
    /// The plane has ended, or is about to.
    PlaneEnded,
    /// The kernel has told that something has become of the interface.
    LinkTold,
}

/// Set in the data plane's environment: its ports, 0 for none, and the folder in which the server was started.
pub(crate) const MARK: &str = "SIDESTEP_CACHED_PLANE";

/// What `ps` shows.
const NAME: &str = "sidestep-cached: data plane";

/// How long the supervisor waits for a plane to take what it says.
pub(super) const SAY_LIMIT: Duration = Duration::from_millis(200);

/// How often the data plane is started anew within a [`WINDOW`] before that is given up.
const RESTARTS_MAX: usize = 5;

/// A minute.
const WINDOW: Duration = Duration::from_secs(60);

/// How long a data plane has to end that has closed its end of the socket pair: to give a large UMEM back takes a while.
const LAST_STEPS: Duration = Duration::from_secs(2);

/// How long the second start of a window waits; each one after it waits twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// A running data plane. Killed when dropped.
#[derive(Debug)]
pub(super) struct Plane {
    child: Child,
    channel: UnixStream,
    ear: Option<JoinHandle<()>>,
}

impl Plane {
    /// Starts this program again, as the data plane, whose program takes the place of the one `over` the link; what it says
    /// comes as events. To be called by the main thread, with
    /// whose end the kernel kills it.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(mark: &OsStr, events: &Sender<Event>, over: Option<AttachedLink>) -> io::Result<Plane> {
        let (channel, theirs) = UnixStream::pair()?;
        // A plane that hangs does not hold its supervisor.
        channel.set_write_timeout(Some(SAY_LIMIT))?;
        let link: Vec<_> = over.iter().map(|over| over.link.as_fd()).collect();
        say(&channel, &ToPlane::Begin(over.as_ref().map(|over| over.attach)), &link)?;
        // Not by its path: the file may have been replaced since.
        let mut command = Command::new("/proc/self/exe");
        command.arg0(NAME).args(env::args_os().skip(1)).env(MARK, mark).stdin(OwnedFd::from(theirs));
        // A signal of the terminal's is the supervisor's to answer.
        let child = command.process_group(0).spawn()?;
        // The command holds the plane's end, which would hide that the plane has ended.
        drop(command);
        let (from, to) = (channel.try_clone()?, events.clone());
        let ear = std::thread::Builder::new().name("plane".to_owned()).spawn(move || listen(from, &to))?;
        Ok(Plane { child, channel, ear: Some(ear) })
    }

    /// Says something to it. One that does not listen is killed; its end comes as an event.
    pub(super) fn say(&mut self, message: &ToPlane) {
        let Err(error) = say(&self.channel, message, &[]) else { return };
        // One that has ended tells so itself.
        if error.kind() == io::ErrorKind::WouldBlock {
            tracing::error!("the data plane takes in nothing that it is told: it is stopped, or hangs, and is killed");
        }
        self.kill();
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits until it has ended, once its end of the socket pair has closed. One that still runs after [`LAST_STEPS`] has
    /// closed it against all custom, and is killed.
    ///
    /// # Errors
    /// Somebody else has waited for it.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        // A process that ends closes its descriptors a moment before it can be waited for.
        let begun = Instant::now();
        while begun.elapsed() < LAST_STEPS {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.kill();
        self.child.wait()
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // Either ends it.
        let _ = self.channel.shutdown(std::net::Shutdown::Both);
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(ear) = self.ear.take() {
            let _ = ear.join();
        }
    }
}

/// Passes on what the plane says, until it has ended.
fn listen(from: UnixStream, events: &Sender<Event>) {
    // Sending fails when the supervisor is ending and has dropped the receiver.
    loop {
        match hear(&from) {
            Ok((message, handed)) => drop(events.send(Event::Said(message, handed))),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let _ = events.send(Event::Nonsense(error));
                break;
            }
            Err(_ended) => break,
        }
    }
    let _ = events.send(Event::PlaneEnded);
}

/// How a process has ended, in words.
pub(super) fn how(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (None, Some(code)) => format!("ended with exit code {code}"),
        (None, None) => "ended".to_owned(),
    }
}

/// When the data plane was started anew of late.
#[derive(Debug, Default)]
pub(super) struct Lives {
    begun: VecDeque<Instant>,
    /// All restarts so far.
    pub(super) restarts: u64,
}

impl Lives {
    /// How long to wait before the next start, at `now`; `None` once it has been started too often.
    pub(super) fn another(&mut self, now: Instant) -> Option<Duration> {
        while self.begun.front().is_some_and(|&begun| now.duration_since(begun) >= WINDOW) {
            self.begun.pop_front();
        }
        let before = self.begun.len() as u32;
        if self.begun.len() == RESTARTS_MAX {
            return None;
        }
        self.begun.push_back(now);
        self.restarts += 1;
        Some(if before == 0 { Duration::ZERO } else { FIRST_WAIT * 2_u32.pow(before - 1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_come_later_and_later_and_end_after_five_in_a_minute() {
        let begin = Instant::now();
        let mut lives = Lives::default();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let waits: Vec<_> = (0..6).map(|n| lives.another(at(n)).map(|wait| wait.as_millis())).collect();
        assert_eq!(waits, [Some(0), Some(100), Some(200), Some(400), Some(800), None]);
        assert_eq!(lives.another(at(59)), None);
        assert_eq!(lives.another(at(60)), Some(FIRST_WAIT * 8), "the first is a minute old");
        assert_eq!(lives.another(at(1_000)), Some(Duration::ZERO));
        assert_eq!(lives.restarts, 7);
    }
}
