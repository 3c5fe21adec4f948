//! `Front`: who may speak, and how much: the listener, its sessions, and the socket to whoever answers.
//!
//! One thread sleeps in one `poll` on all of it. Every session is bounded: in the bytes of a request, in the requests that
//! wait for their answers, in what it has not read, in the time for the rest of a message. Above [`Limits::sessions`] the
//! one that has been quiet for longest gives way, so that nobody keeps others out by staying. The answering end is given
//! requests under numbers of this thread's own; one that does not answer in time is answered for.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;

use crate::frame::{Frame, REPLY_MAX_BYTES, REQUEST_MAX_BYTES};
use crate::front::line::Line;
use crate::message::{Hello, Reply};
use crate::reach::is_heard;
use crate::serve::encode;

/// A socket, with what has come over it and what is still to leave.
mod line;

/// The longest time for an answer, unless [`Limits`] say otherwise: then the front answers in place of who does not.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// What a front allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Sessions at a time.
    pub sessions: usize,
    /// Requests of a session that wait for their answers; more are not read.
    pub waiting: usize,
    /// The longest time from the first byte of a message to its last, and for a reader to take anything of what it is
    /// owed.
    pub patience: Duration,
    /// The longest time for an answer.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { sessions: 16, waiting: 4, patience: Duration::from_secs(5), answer: ANSWER_LIMIT }
    }
}

/// Bytes that a session may leave unread before it is dropped: more than its answers can be that wait at a time.
const UNREAD_MAX_BYTES: usize = 4 * REPLY_MAX_BYTES;

/// Bytes of requests that the answering end may leave untaken before more are refused.
const UNTAKEN_MAX_BYTES: usize = 16 * REQUEST_MAX_BYTES;

/// How long a front that ends waits for answers that are on their way.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrontError {
    /// A server listens there.
    #[error("another server listens at {0}; give this one a path of its own with --control PATH")]
    InUse(PathBuf),
    /// Something else is there.
    #[error("{0} is no socket, and stays as it is; name another path with --control PATH")]
    NoSocket(PathBuf),
    /// The socket cannot be made.
    #[error(
        "cannot listen at {path}: {source}; name a path in a folder that exists and can be written with --control PATH"
    )]
    Listen {
        /// The path.
        path: PathBuf,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

/// A listener that is open and not yet served.
#[derive(Debug)]
pub struct Front {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode, so that only this socket is removed at the end.
    made: (u64, u64),
    user: u32,
}

impl Front {
    /// Listens at `path`, for root and `user`, whose the socket is from then on. A socket of a server that has ended makes
    /// room; folders that are missing are made.
    ///
    /// # Errors
    /// [`FrontError`].
    pub fn open(path: &Path, user: u32) -> Result<Front, FrontError> {
        let failed = |source| FrontError::Listen { path: path.to_owned(), source };
        if let Ok(there) = fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                return Err(FrontError::NoSocket(path.to_owned()));
            }
            if is_heard(path).unwrap_or(false) {
                return Err(FrontError::InUse(path.to_owned()));
            }
            fs::remove_file(path).map_err(failed)?;
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        // Whoever connects before this is refused by the check of the peer.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let there = fs::symlink_metadata(path).map_err(failed)?;
        if there.uid() != user {
            std::os::unix::fs::lchown(path, Some(user), None).map_err(failed)?;
        }
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Front { listener, path: path.to_owned(), made: (there.dev(), there.ino()), user })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves, in a thread, within `limits`; every request is refused until [`FrontHandle::set_plane`] says who answers.
    ///
    /// # Errors
    /// The thread, or what wakes it, cannot be had.
    pub fn start(self, limits: Limits) -> io::Result<FrontHandle> {
        let (waker, woken) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let next = Arc::new(Mutex::new(None));
        let Front { listener, path, made, user } = self;
        let mut desk = Desk {
            listener,
            woken,
            user,
            limits,
            plane: None,
            next_plane: next.clone(),
            sessions: Vec::new(),
            begun: 0,
            asked: HashMap::new(),
            number: 0,
            ends_by: None,
        };
        let thread = std::thread::Builder::new().name("control-front".to_owned()).spawn(move || desk.run())?;
        Ok(FrontHandle { waker: Some(waker), thread: Some(thread), next_plane: next, path, made })
    }
}

/// A front that is served. It ends when this is dropped, and its socket is removed.
#[derive(Debug)]
pub struct FrontHandle {
    waker: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    next_plane: Arc<Mutex<Option<UnixStream>>>,
    path: PathBuf,
    made: (u64, u64),
}

impl FrontHandle {
    /// From now on requests go over `plane`, at whose other end [`serve`](crate::serve()) answers.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn set_plane(&self, plane: UnixStream) -> io::Result<()> {
        plane.set_nonblocking(true)?;
        *self.next_plane.lock().unwrap_or_else(PoisonError::into_inner) = Some(plane);
        match self.waker.as_ref() {
            Some(mut waker) => waker.write_all(b"p"),
            None => Ok(()),
        }
    }
}

impl Drop for FrontHandle {
    fn drop(&mut self) {
        drop(self.waker.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == self.made);
        if ours {
            // A folder that only root may write to keeps it; the next server finds that nobody listens there.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A client.
#[derive(Debug)]
struct Session {
    id: u64,
    line: Line,
    waiting: usize,
    quiet_since: Instant,
}

/// Whose request it is.
#[derive(Debug)]
struct Asked {
    session: u64,
    number: u32,
    since: Instant,
}

/// The thread's.
#[derive(Debug)]
struct Desk {
    listener: UnixListener,
    woken: UnixStream,
    user: u32,
    limits: Limits,
    plane: Option<Line>,
    next_plane: Arc<Mutex<Option<UnixStream>>>,
    sessions: Vec<Session>,
    /// Sessions begun so far: the next one's id.
    begun: u64,
    /// By the number that the answering end knows.
    asked: HashMap<u32, Asked>,
    number: u32,
    /// It ends, then at the latest.
    ends_by: Option<Instant>,
}

impl Desk {
    fn run(&mut self) {
        while self.wait().is_ok() {
            let now = Instant::now();
            self.look_at_waker(now);
            // Answers first: a session that was answered may have sent its next request already.
            self.read_plane(now);
            self.answer_for(now);
            if self.ends_by.is_none() {
                self.admit(now);
                self.read_sessions(now);
            }
            self.write(now);
            let owes = !self.asked.is_empty() || self.sessions.iter().any(|session| session.line.owes());
            if self.ends_by.is_some_and(|end| !owes || now >= end) {
                return;
            }
        }
    }

    /// Sleeps until something can be done, or its time has come.
    fn wait(&self) -> io::Result<()> {
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        if self.ends_by.is_none() {
            fds.push(PollFd::from_borrowed_fd(self.woken.as_fd(), PollFlags::IN));
            fds.push(PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN));
        }
        let lines = self.plane.iter().map(|line| (line, true));
        let reads = |session: &Session| session.waiting < self.limits.waiting && self.ends_by.is_none();
        let sessions = self.sessions.iter().map(|session| (&session.line, reads(session)));
        for (line, reads) in lines.chain(sessions) {
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::IN, reads && !line.ends);
            wanted.set(PollFlags::OUT, line.owes());
            // Of who has hung up `poll` tells whatever is asked: nobody is to be woken by who only waits for an answer.
            if !wanted.is_empty() {
                fds.push(PollFd::from_borrowed_fd(line.stream.as_fd(), wanted));
            }
        }
        let timed = self.ends_by.is_some()
            || !self.asked.is_empty()
            || self.sessions.iter().any(|session| session.line.is_timed());
        // A twentieth of a second late at most, and no wake-up where nothing is waited for.
        let tick = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        match poll(&mut fds, timed.then_some(&tick)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a new answering end over, and notes that this is to end.
    fn look_at_waker(&mut self, now: Instant) {
        let next = self.next_plane.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(plane) = next {
            self.plane = Some(Line::new(plane, REPLY_MAX_BYTES));
        }
        if self.ends_by.is_none() && matches!(self.woken.read(&mut [0; 16]), Ok(0)) {
            // What was asked is answered first: that the server is told to end, for one.
            self.ends_by = Some(now + LAST_WORDS);
        }
    }

    /// Takes those who connect, as many as may come at once, and refuses who may not.
    fn admit(&mut self, now: Instant) {
        for _ in 0..self.limits.sessions {
            let Ok((stream, _)) = self.listener.accept() else { return };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let mut line = Line::new(stream, REQUEST_MAX_BYTES);
            let uid = socket_peercred(&line.stream).map(|peer| peer.uid.as_raw());
            if !uid.is_ok_and(|uid| uid == 0 || uid == self.user) {
                line.say(0, encode(&Reply::Error("only root and the server's own user may govern it".to_owned())));
                line.write(now);
                continue;
            }
            if self.sessions.len() >= self.limits.sessions && !self.make_room(now) {
                line.say(0, encode(&Reply::Error("too many ask at the same time; try again".to_owned())));
                line.write(now);
                continue;
            }
            line.say(0, serde_json::to_vec(&Hello::new()).unwrap_or_default());
            self.begun += 1;
            self.sessions.push(Session { id: self.begun, line, waiting: 0, quiet_since: now });
        }
    }

    /// Ends the session that has asked nothing for longest, unless all wait for answers.
    fn make_room(&mut self, now: Instant) -> bool {
        let quiet = self.sessions.iter_mut().filter(|session| session.waiting == 0);
        let Some(longest) = quiet.min_by_key(|session| session.quiet_since) else { return false };
        longest.line.say(0, encode(&Reply::Error("others ask, and this connection was quiet".to_owned())));
        longest.line.write(now);
        let id = longest.id;
        self.sessions.retain(|session| session.id != id);
        true
    }

    fn read_sessions(&mut self, now: Instant) {
        for session in &mut self.sessions {
            if session.waiting < self.limits.waiting {
                session.line.read(now);
            }
            while session.waiting < self.limits.waiting {
                match session.line.decoder.next_frame() {
                    Ok(Some(Frame { number, body, carries })) => {
                        session.quiet_since = now;
                        let descriptor = if carries { session.line.handed.pop_front() } else { None };
                        if carries && descriptor.is_none() {
                            let why = "the descriptor that it speaks of has not come with it";
                            session.line.say(number, encode(&Reply::Error(why.to_owned())));
                            continue;
                        }
                        let Some(plane) = &mut self.plane else {
                            let why = "no cores run at the moment: they are being started again, or the server ends";
                            session.line.say(number, encode(&Reply::Error(why.to_owned())));
                            continue;
                        };
                        if plane.unread() > UNTAKEN_MAX_BYTES {
                            let why = "the cores have not taken what was asked before; they are stopped, or hang";
                            session.line.say(number, encode(&Reply::Error(why.to_owned())));
                            continue;
                        }
                        self.number = self.number.wrapping_add(1).max(1);
                        session.waiting += 1;
                        let asked = Asked { session: session.id, number, since: now };
                        self.asked.insert(self.number, asked);
                        match descriptor {
                            Some(descriptor) => plane.say_with(self.number, body, descriptor),
                            None => plane.say(self.number, body),
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        session.line.end_with(encode(&Reply::Error(format!("this is no request: {error}"))));
                        break;
                    }
                }
            }
            session.line.note_midway(session.waiting < self.limits.waiting, now);
        }
    }

    /// Passes answers on. Without the answering end every request is answered by an error.
    fn read_plane(&mut self, now: Instant) {
        let Some(plane) = &mut self.plane else { return };
        plane.read(now);
        let mut answers = Vec::new();
        let gone = loop {
            match plane.decoder.next_frame() {
                Ok(Some(frame)) => answers.push(frame),
                Ok(None) => break plane.ends,
                Err(_) => break true,
            }
        };
        for Frame { number, body, .. } in answers {
            self.pass_on(number, body);
        }
        if gone {
            self.plane = None;
            let left: Vec<u32> = self.asked.keys().copied().collect();
            for number in left {
                self.pass_on(number, encode(&Reply::Error("the cores ended before they answered".to_owned())));
            }
        }
    }

    /// Answers for an answering end that does not.
    fn answer_for(&mut self, now: Instant) {
        let limit = self.limits.answer;
        let late = |asked: &Asked| now.duration_since(asked.since) >= limit;
        let late: Vec<u32> = self.asked.iter().filter(|(_, asked)| late(asked)).map(|(number, _)| *number).collect();
        for number in late {
            self.pass_on(
                number,
                encode(&Reply::Error(format!("the cores have not answered for {} s", limit.as_secs()))),
            );
        }
    }

    fn pass_on(&mut self, number: u32, body: Vec<u8>) {
        // One that was answered for, or whose client has gone, is known no more.
        let Some(asked) = self.asked.remove(&number) else { return };
        let Some(session) = self.sessions.iter_mut().find(|session| session.id == asked.session) else { return };
        session.waiting -= 1;
        session.line.say(asked.number, body);
    }

    /// Sends what can be sent, and drops who has gone, does not read, or does not finish what it began.
    fn write(&mut self, now: Instant) {
        if let Some(plane) = &mut self.plane {
            plane.write(now);
        }
        let patience = self.limits.patience;
        self.sessions.retain_mut(|session| {
            let line = &mut session.line;
            if line.midway_for(now).is_some_and(|time| time >= patience) {
                line.end_with(encode(&Reply::Error(format!(
                    "the rest of a message has not come for {} s",
                    patience.as_secs()
                ))));
            }
            line.write(now);
            let stuck = line.stuck_for(now).is_some_and(|time| time >= patience);
            let over = line.failed || line.ends && !line.owes() && session.waiting == 0;
            !(stuck || over || line.unread() > UNREAD_MAX_BYTES)
        });
    }
}
