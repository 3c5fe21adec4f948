//! `Relay`: two links, and the frames that are under way from one to the other.
//!
//! A round takes in what has come over both links, sends what is due, and sleeps in `ppoll` until a frame comes or the
//! next one is due. Everything is bounded: frames a round, and frames under way (`LIMIT_FRAMES`), beyond which a frame
//! is lost and counted. Read first: `nic::OneWay`.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nic::link::Link;
use nic::packet::PacketSocket;
use nic::{FaultError, Faults, OneWay, WireCounts};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Frames under way in one direction at most: a gigabit a second for a second, in frames of 1,500 bytes.
const LIMIT_FRAMES: usize = 83_000;

/// Frames taken from one link before the other has its turn.
const ROUND_FRAMES: usize = 64;

/// The longest frame relayed: a packet of 65,535 bytes, as GRO may leave it.
const FRAME_BYTES: usize = 65_536 + 14;

/// The kernel wakes a sleeper late by about so much, so for less than this the relay looks again instead of sleeping.
const SPIN: Duration = Duration::from_micros(60);

/// A sleep ends after so long at the latest, so that a signal that came just before it is noticed.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// Why the relay cannot be built or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// A fault that cannot be had.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// A link cannot be opened.
    #[error("cannot open {link} for all frames: {source}; it needs CAP_NET_RAW and CAP_NET_ADMIN")]
    Open {
        /// Its name.
        link: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A link does not work any more.
    #[error("{link} cannot be used any more: {source}; is it there and up?")]
    Link {
        /// Its name.
        link: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused to wait.
    #[error("cannot wait for frames: {0}")]
    Wait(#[source] io::Error),
}

/// One end: a link, and the way that leads to it.
#[derive(Debug)]
struct End {
    name: String,
    socket: PacketSocket,
    way: OneWay,
}

impl End {
    fn open(link: &Link, faults: Faults, seed: u64) -> Result<Self, RelayError> {
        let socket = PacketSocket::open(link).map_err(|source| RelayError::Open { link: link.name.clone(), source })?;
        Ok(Self { name: link.name.clone(), socket, way: OneWay::new(faults, LIMIT_FRAMES, seed)? })
    }

    fn broken(&self, source: io::Error) -> RelayError {
        RelayError::Link { link: self.name.clone(), source }
    }
}

/// Two links and what is under way between them.
#[derive(Debug)]
pub struct Relay {
    left: End,
    right: End,
    began: Instant,
    buffer: Vec<u8>,
}

impl Relay {
    /// A relay between two links that are up, with the faults of what is sent to each. Each direction draws from a
    /// generator of its own.
    ///
    /// # Errors
    /// [`RelayError`]: a link cannot be opened, or a fault cannot be had.
    pub fn new(left: &Link, right: &Link, to_left: Faults, to_right: Faults, seed: u64) -> Result<Self, RelayError> {
        Ok(Self {
            left: End::open(left, to_left, seed)?,
            right: End::open(right, to_right, seed.wrapping_add(1))?,
            began: Instant::now(),
            buffer: vec![0; FRAME_BYTES],
        })
    }

    /// Relays until `stop` says so.
    ///
    /// # Errors
    /// [`RelayError`]: a link is gone.
    pub fn run(&mut self, stop: impl Fn() -> bool) -> Result<(), RelayError> {
        while !stop() {
            let now = self.began.elapsed();
            let taken = take_in(&self.left, &mut self.right.way, now, &mut self.buffer)?
                + take_in(&self.right, &mut self.left.way, now, &mut self.buffer)?;
            for end in [&mut self.left, &mut self.right] {
                send_due(end, now)?;
            }
            if taken == 0 {
                self.sleep()?;
            }
        }
        Ok(())
    }

    /// What became of the frames sent to the left and to the right.
    pub fn counts(&self) -> (WireCounts, WireCounts) {
        (self.left.way.counts(), self.right.way.counts())
    }

    /// Waits until a frame comes or the next one is due.
    fn sleep(&self) -> Result<(), RelayError> {
        let due = self.left.way.next_due().into_iter().chain(self.right.way.next_due()).min();
        let wait = due.map_or(LONGEST_SLEEP, |due| due.saturating_sub(self.began.elapsed()).min(LONGEST_SLEEP));
        // Close to the time, only looking keeps it: a sleep ends late.
        let wait = wait.saturating_sub(SPIN);
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait.as_nanos() as _ };
        let mut fds = [&self.left, &self.right].map(|end| PollFd::from_borrowed_fd(end.socket.as_fd(), PollFlags::IN));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(RelayError::Wait(error.into())),
        }
    }
}

/// Takes frames from a link and puts them on their way to the other. Returns how many.
fn take_in(from: &End, way: &mut OneWay, now: Duration, buffer: &mut [u8]) -> Result<usize, RelayError> {
    for taken in 0..ROUND_FRAMES {
        match from.socket.receive(buffer).map_err(|source| from.broken(source))? {
            Some(bytes) => way.send(now, &buffer[..bytes]),
            None => return Ok(taken),
        }
    }
    Ok(ROUND_FRAMES)
}

/// Sends what has arrived at an end over its link.
fn send_due(end: &mut End, now: Duration) -> Result<(), RelayError> {
    let mut broken = None;
    let socket = &end.socket;
    end.way.deliver(now, |frame| match socket.send(frame) {
        Ok(sent) => sent,
        Err(error) => {
            broken = broken.take().or(Some(error));
            false
        }
    });
    match broken {
        // A frame that GRO has merged, or that the other link's MTU does not let pass: lost and counted, as in a
        // switch.
        Some(error) if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => Ok(()),
        Some(error) => Err(end.broken(error)),
        None => Ok(()),
    }
}
