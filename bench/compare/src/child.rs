//! One process group that never outlives its owner: started, watched, and ended as a whole.
//!
//! Invariant: while a `Child` lives its group leader has not been reaped, so the group's number cannot name somebody
//! else's processes; dropping it signals the group, waits for the leader, and only then reaps it. `setpriv
//! --pdeathsig` covers the case that this program itself is killed. Read setpgid(2) and waitid(2) first.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, test_kill_process_group, waitid,
};

/// Most bytes of standard output kept: a report is one line, and a program gone wild must not fill the memory.
pub const OUTPUT_LIMIT_BYTES: usize = 1 << 20;
/// Most bytes of standard error kept: the last ones.
const ERROR_TAIL_BYTES: usize = 2_000;
/// Time between SIGTERM and SIGKILL: a server has to give its network device back.
const GRACE: Duration = Duration::from_secs(5);
/// How long the last words of a program that has ended may take to arrive: they lie in a pipe already, unless a child
/// of it still holds the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long SIGKILL may take; beyond it the process hangs in the kernel, and waiting on would hang us too.
const LAST_GRACE: Duration = Duration::from_secs(5);

/// Set when the user asks to stop; every wait in this crate looks at it.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A flag that SIGINT, SIGTERM and SIGHUP set.
    ///
    /// # Errors
    /// When a signal handler cannot be installed.
    pub fn on_signals() -> io::Result<Stop> {
        let stop = Stop::default();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&stop.0))?;
        }
        Ok(stop)
    }

    /// True once asked to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Asks to stop, as a signal does.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start '{command}': {source}; check that it is built and that the path is right from here")]
pub struct StartError {
    command: String,
    #[source]
    source: io::Error,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Code(code) => write!(f, "ended with exit code {code}"),
            Ended::Signal(signal) => write!(f, "was ended by signal {signal}"),
        }
    }
}

/// What a program writes to one of its pipes, read on a thread of its own so that the program never waits for us.
#[derive(Debug)]
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// One message a chunk; disconnected when every holder of the pipe has closed it.
    news: Receiver<()>,
}

impl Output {
    fn of(pipe: Option<impl Read + Send + 'static>, keep: fn(&mut Vec<u8>, &[u8])) -> Output {
        let (bytes, (tell, news)) = (Arc::<Mutex<Vec<u8>>>::default(), mpsc::channel());
        let kept = Arc::clone(&bytes);
        std::thread::spawn(move || {
            let Some(mut pipe) = pipe else { return };
            let mut buffer = [0; 4096];
            loop {
                match pipe.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(read) => keep(&mut kept.lock().unwrap_or_else(PoisonError::into_inner), &buffer[..read]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
                // Nobody listens once the child has been dropped.
                let _ = tell.send(());
            }
        });
        Output { bytes, news }
    }

    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the pipe is closed, at the longest so long; whether it is.
    fn is_closed_within(&self, longest: Duration) -> bool {
        let deadline = Instant::now() + longest;
        let left = || deadline.saturating_duration_since(Instant::now());
        loop {
            match self.news.recv_timeout(left()) {
                Ok(()) => {}
                Err(error) => return error == RecvTimeoutError::Disconnected,
            }
        }
    }
}

/// A running process group; see the module.
#[derive(Debug)]
pub struct Child {
    /// Held so that the program is reaped by us alone, after the group has been signalled.
    child: std::process::Child,
    group: Pid,
    pidfd: OwnedFd,
    stdout: Output,
    stderr: Output,
    name: String,
}

impl Child {
    /// Starts `argv` as leader of its own group, pinned to `cpus` (`taskset` syntax) when given, with `env` beside our
    /// own environment.
    ///
    /// # Errors
    /// When there is no such program or the system refuses another process.
    pub fn start(argv: &[String], cpus: Option<&str>, env: &[(String, String)]) -> Result<Child, StartError> {
        let error = |source| StartError { command: argv.join(" "), source };
        let program = argv.first().ok_or_else(|| error(io::Error::other("the command is empty")))?;
        // `setpriv` and `taskset` would report a missing program only by an exit code; ask beforehand.
        find(program).map_err(error)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(cpus) = cpus {
            command.args(["taskset", "--cpu-list", cpus]);
        }
        command.args(argv).process_group(0).envs(env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(error)?;
        let group = Pid::from_child(&child);
        let pidfd = pidfd_open(group, PidfdFlags::empty()).map_err(|errno| {
            // Without a descriptor there is no guard yet: end it here.
            let _ = child.kill();
            let _ = child.wait();
            error(errno.into())
        })?;
        let stdout = Output::of(child.stdout.take(), |kept, bytes| {
            let room = OUTPUT_LIMIT_BYTES + 1 - kept.len();
            kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        });
        let stderr = Output::of(child.stderr.take(), |kept, bytes| {
            kept.extend_from_slice(bytes);
            let surplus = kept.len().saturating_sub(ERROR_TAIL_BYTES);
            kept.drain(..surplus);
        });
        Ok(Child { child, group, pidfd, stdout, stderr, name: program.clone() })
    }

    /// The number of its process group.
    pub fn group(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the program has ended, `deadline` has passed or `stop` is set; a signal ends the wait early, so
    /// callers loop.
    pub fn wait_until(&self, deadline: Instant, stop: &Stop) -> Option<Ended> {
        loop {
            if let Some(ended) = self.ended() {
                return Some(ended);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || stop.is_set() {
                return None;
            }
            // A signal between the test above and the poll would go unseen: look again ten times a second.
            let nap = left.min(Duration::from_millis(100));
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(nap.subsec_nanos().max(1)) };
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            // An error here is an interruption; the loop decides what it means.
            let _ = poll(&mut fds, Some(&timeout));
        }
    }

    /// All of standard output once every holder of it has closed it.
    ///
    /// # Errors
    /// A sentence when it is too long, not UTF-8, or still held open after `longest`.
    pub fn output(&self, longest: Duration) -> Result<String, String> {
        let name = &self.name;
        if !self.stdout.is_closed_within(longest) {
            return Err(format!("{name} ended, but a child of it still holds its standard output open"));
        }
        let bytes = self.stdout.so_far();
        if bytes.len() > OUTPUT_LIMIT_BYTES {
            return Err(format!("{name} printed more than {OUTPUT_LIMIT_BYTES} bytes; print the report alone"));
        }
        String::from_utf8(bytes).map_err(|error| format!("{name} printed {error}"))
    }

    /// Standard output so far; broken characters are replaced.
    pub fn output_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stdout.so_far()).into_owned()
    }

    /// The last of standard error; broken characters are replaced.
    pub fn errors_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stderr.so_far()).into_owned()
    }

    /// The last of standard error, on one line; all of its last words once the program has ended.
    pub fn last_errors(&self) -> String {
        if self.ended().is_some() {
            // What it wrote last may still be on its way through the pipe.
            self.stderr.is_closed_within(LAST_WORDS);
        }
        self.errors_so_far().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// How the program ended, without reaping it; `None` while it runs.
    pub fn ended(&self) -> Option<Ended> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.group), options).ok().flatten()?;
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Some(Ended::Code(code)),
            (None, Some(signal)) => Some(Ended::Signal(signal)),
            (None, None) => None,
        }
    }

    /// Ends the whole group: asked first, killed after a grace; true when nothing of it is left.
    ///
    /// The leader stays unreaped until its group has been signalled for the last time; see the module.
    fn end(&mut self) -> bool {
        let never = Stop::default();
        if self.ended().is_none() {
            let _ = kill_process_group(self.group, Signal::TERM);
            if self.wait_until(Instant::now() + GRACE, &never).is_none() {
                let _ = kill_process_group(self.group, Signal::KILL);
                if self.wait_until(Instant::now() + LAST_GRACE, &never).is_none() {
                    return false;
                }
            }
        }
        // The leader is gone; whatever it left in its group goes now.
        let _ = kill_process_group(self.group, Signal::KILL);
        self.child.wait().is_ok() && test_kill_process_group(self.group).is_err()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

/// Is `program` a file, or a name found along PATH?
fn find(program: &str) -> io::Result<()> {
    if program.contains('/') {
        return std::fs::metadata(program).map(drop);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "not found along PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Child {
        Child::start(&["sh".into(), "-c".into(), script.into()], None, &[]).unwrap()
    }

    fn wait(child: &Child) -> Option<Ended> {
        child.wait_until(Instant::now() + LONG, &Stop::default())
    }

    #[test]
    fn output_and_exit_code_are_seen() {
        let child = shell("echo one; echo two; echo three >&2; exit 3");
        assert_eq!(wait(&child), Some(Ended::Code(3)));
        assert_eq!(child.output(LONG).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn the_last_words_of_a_program_that_ended_are_never_missed() {
        for _ in 0..50 {
            let child = shell("echo last words >&2");
            wait(&child);
            assert_eq!(child.last_errors(), "last words");
        }
    }

    #[test]
    fn dropping_ends_grandchildren_too() {
        let child = shell("sleep 1000 & echo started; wait");
        assert!(child.stdout.news.recv_timeout(LONG).is_ok());
        let group = child.group;
        assert!(test_kill_process_group(group).is_ok());
        drop(child);
        assert!(group_is_gone(group));
    }

    #[test]
    fn a_group_that_ignores_being_asked_is_killed() {
        let child = shell("trap '' TERM; echo deaf; while :; do sleep 1000; done");
        assert!(child.stdout.news.recv_timeout(LONG).is_ok());
        let group = child.group;
        drop(child);
        assert!(group_is_gone(group));
    }

    /// A killed grandchild is a zombie until init reaps it; poll for that, without a limit of our own.
    fn group_is_gone(group: Pid) -> bool {
        while !zombies_only(group) {
            std::thread::yield_now();
        }
        true
    }

    fn zombies_only(group: Pid) -> bool {
        let group = group.as_raw_nonzero().to_string();
        std::fs::read_dir("/proc").unwrap().flatten().all(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, back)| back).split_whitespace().collect();
            fields.get(2) != Some(&group.as_str()) || fields.first() == Some(&"Z")
        })
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let child = shell("sleep 1000");
        let stop = Stop::default();
        stop.set();
        assert_eq!(child.wait_until(Instant::now() + LONG, &stop), None);
    }

    #[test]
    fn a_missing_program_is_an_error_that_names_it() {
        let error = Child::start(&["no-such-program-here".into()], None, &[]).unwrap_err().to_string();
        assert!(error.contains("no-such-program-here") && error.contains("PATH"), "{error}");
        let error = Child::start(&["./no/such/file".into()], None, &[]).unwrap_err().to_string();
        assert!(error.contains("./no/such/file"), "{error}");
    }

    #[test]
    fn a_program_has_the_environment_it_was_given() {
        let env = [("SIDESTEP_TEST".to_owned(), "a b".to_owned())];
        let child = Child::start(&["sh".into(), "-c".into(), "echo $SIDESTEP_TEST$PATH".into()], None, &env).unwrap();
        wait(&child);
        assert!(child.output(LONG).unwrap().starts_with("a b/"));
    }

    #[test]
    fn a_program_is_pinned() {
        let child = Child::start(
            &["sh".into(), "-c".into(), "grep Cpus_allowed_list /proc/self/status".into()],
            Some("0"),
            &[],
        );
        let child = child.unwrap();
        wait(&child);
        assert_eq!(child.output(LONG).unwrap().split_whitespace().last(), Some("0"));
    }

    #[test]
    fn output_without_end_is_refused_and_does_not_grow() {
        let child = shell("head -c 3000000 /dev/zero");
        wait(&child);
        let error = child.output(LONG).unwrap_err();
        assert!(error.contains("1048576"), "{error}");
        assert_eq!(child.output_so_far().len(), OUTPUT_LIMIT_BYTES + 1);
    }
}
