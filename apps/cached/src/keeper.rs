//! The keeper: a process of root's that does three things for a server, and no other.
//!
//! For one that has given up root's rights (`-u`) it reads the file of `-Y` again, which only root may read, and takes the
//! PID file away once the server has ended, from a folder that only root may write to. Of one that has changed settings of the
//! NIC or reserved ports it gives them back when the server was killed. It is this program, started again before the rights
//! are given up; it knows all of this from its command line, takes one byte as a request, and ends with the pipe that the
//! server holds. A server that is taken over learns nothing from it but the users: the file is read only where none but root
//! can have put another in its place.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nic::guard::{folder, give_back, left_behind};
use rustix::fs::OFlags;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::announce::PidFile;

/// Set in the keeper's environment.
const MARK: &str = "SIDESTEP_CACHED_KEEPER";

/// The one request: the users.
const USERS: u8 = b'u';

/// The server ends and has given back what it had changed.
const DONE: u8 = b'd';

/// How long a killed server has to end after its pipe has closed: to give a large UMEM back takes a while.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// Far more than memcached's eight lines of 256 bytes.
const USERS_MAX_BYTES: u64 = 64 << 10;

/// The server's end. The keeper ends, and the PID file goes, when it is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    child: Child,
    /// `None` once it has been closed.
    requests: Option<ChildStdin>,
    answers: ChildStdout,
}

/// What a keeper is started for.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The PID file, by its absolute path.
    pub(crate) pid_file: Option<PathBuf>,
    /// The file of `-Y`, by its absolute path.
    pub(crate) users: Option<PathBuf>,
    /// The interface of which settings are changed, by its name.
    pub(crate) guarded: Option<String>,
}

impl Kept {
    /// Whether no keeper is needed.
    pub(crate) fn is_nothing(&self) -> bool {
        self.pid_file.is_none() && self.users.is_none() && self.guarded.is_none()
    }
}

impl Keeper {
    /// Starts the keeper, which from then on has what it is started for.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(kept: Kept) -> io::Result<Keeper> {
        let mut command = Command::new(env::current_exe()?);
        let path = |path: Option<PathBuf>| path.unwrap_or_default().into_os_string();
        command.arg(std::process::id().to_string()).arg(path(kept.pid_file)).arg(path(kept.users));
        command.arg(kept.guarded.unwrap_or_default()).env(MARK, "1");
        // Not of the terminal's group: the server says when it ends. Standard error may be closed by a daemon, which also
        // leaves its working directory, so that what that is on can be unmounted.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0).current_dir("/");
        let mut child = command.spawn()?;
        let (requests, answers) = (child.stdin.take(), child.stdout.take());
        let answers = answers.ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Keeper { child, requests, answers })
    }

    /// What the file of `-Y` says now.
    ///
    /// # Errors
    /// The keeper could not read it, does not trust its folder, or is gone.
    pub(crate) fn users(&mut self) -> io::Result<Vec<u8>> {
        let requests = self.requests.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        requests.write_all(&[USERS])?;
        let mut head = [0; 5];
        self.answers.read_exact(&mut head)?;
        let [status, length @ ..] = head;
        let mut text = Vec::new();
        (&mut self.answers).take(u32::from_le_bytes(length).into()).read_to_end(&mut text)?;
        if status == 0 { Ok(text) } else { Err(io::Error::other(String::from_utf8_lossy(&text).into_owned())) }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(mut requests) = self.requests.take() {
            // Fails where the keeper has ended before.
            let _ = requests.write_all(&[DONE]);
        }
        let _ = self.child.wait();
    }
}

/// Whether this process is a keeper.
pub fn is_keeper() -> bool {
    env::var_os(MARK).is_some()
}

/// What a keeper does until the server has ended.
pub fn keep() -> ExitCode {
    // A signal to the whole group, such as a service manager sends, is the server's to answer: noted and passed over.
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGUSR1] {
        if signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))).is_err() {
            return ExitCode::FAILURE;
        }
    }
    let mut words = env::args_os().skip(1);
    let words = std::array::from_fn(|_| words.next());
    let [Some(server), Some(pid_file), Some(users), Some(guarded), None] = words else {
        return ExitCode::from(2);
    };
    let server = server.to_str().and_then(|server| server.parse().ok()).unwrap_or(0);
    let _pid_file = (!pid_file.is_empty()).then(|| PidFile::of(PathBuf::from(pid_file), server));
    let answered = answer(&mut io::stdin().lock(), &mut io::stdout().lock(), Path::new(&users));
    if !matches!(answered, Ok(true)) {
        give_back_of(server, guarded.to_str().unwrap_or_default());
    }
    if answered.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Gives back what the process `server` had changed of an interface, once it has ended.
fn give_back_of(server: u32, interface: &str) {
    let running = || {
        let left = left_behind(interface, &folder()).unwrap_or_default();
        left.iter().any(|left| left.holder() == Some(server))
    };
    let begun = Instant::now();
    while begun.elapsed() < LAST_STEPS && running() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // What cannot be given back stays in its file, for `sidestep nic restore`. A server that has been started meanwhile has done
    // it already (`supervisor.rs`).
    let _ = give_back(interface, &folder(), |left| left.process() == server);
}

/// Answers requests until the server closes its end. Returns whether it has said before that it is done.
fn answer(requests: &mut impl BufRead, answers: &mut impl Write, users: &Path) -> io::Result<bool> {
    for request in requests.bytes() {
        match request? {
            USERS => {}
            other => return Ok(other == DONE),
        }
        let (status, text) = match read_trusted(users) {
            Ok(text) => (0, text),
            Err(error) => (1, error.to_string().into_bytes()),
        };
        answers.write_all(&[status])?;
        answers.write_all(&(text.len() as u32).to_le_bytes())?;
        answers.write_all(&text)?;
        answers.flush()?;
    }
    Ok(false)
}

/// Reads a file of which only root can say what it is.
fn read_trusted(path: &Path) -> io::Result<Vec<u8>> {
    let true_path = fs::canonicalize(path)?;
    for folder in path.ancestors().chain(true_path.ancestors()).skip(1) {
        let found = if folder.as_os_str().is_empty() { continue } else { fs::metadata(folder)? };
        // In a folder with the sticky bit (mode 1777) nobody moves what is root's.
        let roots = found.uid() == 0 && (found.mode() & 0o022 == 0 || found.mode() & 0o1000 != 0);
        if found.is_dir() && !roots {
            let why = format!("others than root can put files into {}; own it by root, mode 755", folder.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
    }
    // A pipe in its place must not make the keeper, and the server with it, wait.
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(true_path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.uid() != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is no file of root's"));
    }
    let mut text = Vec::new();
    match file.take(USERS_MAX_BYTES + 1).read_to_end(&mut text)? as u64 {
        0..=USERS_MAX_BYTES => Ok(text),
        _ => Err(io::Error::other(format!("it has more than {USERS_MAX_BYTES} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_another_could_replace_is_not_read_with_roots_rights() {
        let folder = folder_of_our_own("keeper");
        let file = folder.join("users");
        fs::write(&file, "u:p\n").expect("the folder is there");
        let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).expect("it is ours");
        mode(0o755);
        let ours = fs::metadata(&folder).expect("it is there").uid() == 0;
        assert_eq!(read_trusted(&file).is_ok(), ours, "read only where it is root's");
        mode(0o777);
        assert!(read_trusted(&file).is_err(), "anyone can put another file there");
        mode(0o1777);
        assert_eq!(read_trusted(&file).is_ok(), ours, "as in /tmp, nobody can");
        assert!(read_trusted(&folder).is_err() && read_trusted(&folder.join("none")).is_err());
        fs::remove_dir_all(&folder).expect("it is ours");
    }

    #[test]
    fn requests_are_answered_until_the_server_closes_or_says_nonsense() {
        let mut out = Vec::new();
        let answer = |said: &[u8], out: &mut Vec<u8>| {
            answer(&mut &said[..], out, Path::new("/does/not/exist")).expect("memory can be written")
        };
        assert!(!answer(b"uu", &mut out), "it ends without a word");
        assert_eq!((out[0], out.iter().filter(|byte| **byte == 1).count() >= 2), (1, true));
        out.clear();
        assert!(!answer(b"xu", &mut out));
        assert!(answer(b"d", &mut out) && answer(b"du", &mut out));
        assert_eq!(out, b"");
    }

    fn folder_of_our_own(name: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("sidestep-{name}-{}", std::process::id()));
        fs::create_dir(&folder).expect("the folder of temporary files can be written");
        folder
    }
}
