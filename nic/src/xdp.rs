//! `XdpDevice`: the AF_XDP back-end; opens a link's queues and steers the stack's frames to them.
//!
//! Invariant: sockets are bound, their fill rings filled and the sockets entered into the program's map before the
//! program is attached, so that no frame is redirected to where nobody waits for it; and the program is detached before
//! any socket closes. The device stays on the control side, each [`XdpQueue`](crate::xdp::XdpQueue) moves to the core
//! that polls it.
//!
//! ```text
//!   XdpDevice ── SteeringProgram (with maps and BPF link)    control side
//!       └── take_queue ──► XdpQueue (socket, rings, UMEM)    one core each
//! ```
//!
//! Read first: kernel `af_xdp.rst`; then `bpf/steer.bpf.c`.

/// `XdpConfig`: what to open and how large.
mod config;
/// `FillLevel`: how many frames lie ready for the kernel to fill.
mod fill_level;
/// `HeldProgram`: the program, held by a process that outlives its sockets.
mod held;
/// `AttachMode`, `CopyMode`, `Obtained`: which mode to try, and what was obtained.
mod mode;
/// `XskName`: the queues of an interface, on a command line.
mod name;
/// `SteeringProgram`: the XDP program, its maps and its link.
mod program;
/// `XdpQueue`: one bound socket behind the trait `Queue`.
mod queue;
/// `Segmenter`: merged frames become segments again.
pub(crate) mod segmenter;
mod socket;
/// `XdpDevice::open_together`: several links, or queues, over one UMEM.
mod together;
/// `TrainSender`: segments that follow each other leave as one packet.
pub(crate) mod train;

use std::fmt;
use std::io;
use std::time::Instant;

pub use crate::sys::rings::XskStatistics;
pub use config::{MTU_MAX, XdpConfig};
pub(crate) use config::{RING_MAX, RING_MIN, zero_copy_mtu_max};
pub use held::HeldProgram;
pub use mode::{Attach, AttachMode, Copy, CopyMode, Obtained};
pub use name::{AttachModeError, XskName, XskNameError};
pub use program::{AddressMode, AttachedLink, ProgramFault, SharedProgram, SteerCounters, SteeringProgram, Transport};
pub use queue::{XdpQueue, XdpQueueStats};

use crate::link::Link;
use crate::preflight::{Facts, OpenError, check, check_chunks, explain_bind, explain_program};
use crate::queue::QueueId;
use mode::{Attempt, attempts};
use program::Loading;
use socket::{bind, while_busy};

/// An open link. Dropping it detaches the program, after which every frame goes to the kernel.
#[derive(Debug)]
pub struct XdpDevice {
    // Before the queues: detached first.
    steering: SteeringProgram,
    queues: Vec<(QueueId, Option<XdpQueue>)>,
    link: Link,
    obtained: Obtained,
    huge: bool,
}

/// Said of a copy mode in which frames longer than a chunk are lost.
const NO_MERGED: &str =
    "this kernel, before Linux 6.6, loses frames that a link below has merged: switch gro off there";

/// Frames for the stack that came by queues without a socket, and so went to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unserved {
    /// The link.
    pub link: String,
    /// How many.
    pub frames: u64,
    /// The queues that were bound.
    pub bound: Vec<QueueId>,
}

impl fmt::Display for Unserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { link, frames, bound } = self;
        let (first, last) = (bound.iter().min().map_or(0, |id| id.0), bound.iter().max().map_or(0, |id| id.0));
        write!(
            f,
            "{frames} frames for us came by other queues of {link} than {first} to {last}, and were lost to the kernel; bind all queues that it has (ethtool -l {link})"
        )
    }
}

/// What was begun before the first attempt, and what the one needs that succeeds.
struct Begun {
    /// The program that is being loaded, if an earlier attempt has left it.
    loading: Option<Loading>,
    /// The link that is there already.
    over: Option<AttachedLink>,
}

/// How an attempt at one mode ended, when it failed.
enum Failed {
    /// The mode is not to be had here; another may be.
    Unsupported { what: String, error: OpenError },
    /// No other mode would do better.
    Fatal(OpenError),
}

impl XdpDevice {
    /// Opens what `config` says, in the network namespace of the calling thread. Takes up to a second when a queue was
    /// in use until just now, else some milliseconds a queue.
    ///
    /// # Errors
    /// [`OpenError`], each of which is one line for the operator. Nothing is left attached or bound.
    pub fn open(config: &XdpConfig) -> Result<Self, OpenError> {
        Self::open_over(config, None)
    }

    /// The same; its program takes the place of the one that another process holds at `over`, if there is one, in one step,
    /// so that no frame comes between.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_over(config: &XdpConfig, over: Option<AttachedLink>) -> Result<Self, OpenError> {
        let facts = Facts::gather(config)?;
        check(config, &facts)?;
        let link = facts.link;
        let shifts = |_| OpenError::GenericShiftsQueues { link: link.name.clone(), queues: link.rx_queues };
        let mut attempts = attempts(config.attach, config.copy, &link.driver, link.rx_queues).map_err(shifts)?;
        if let Some(over) = &over {
            // A link keeps the mode that it was made for.
            attempts.order.retain(|attempt| attempt.attach == over.attach);
        }
        let mut reasons: Vec<String> = Vec::new();
        reasons.extend(attempts.why.iter().map(|why| (*why).to_owned()));
        let limit = zero_copy_mtu_max(&link);
        if link.mtu > limit && attempts.without_zero_copy() {
            // Asked for, it has been refused by `check`.
            let (mtu, driver) = (link.mtu, &link.driver);
            reasons.push(format!(
                "no zero copy: {driver} loses frames of an MTU above {limit} bytes there, and it is {mtu}"
            ));
        }
        let bound = config.queues(&link).len();
        if bound < usize::from(link.rx_queues) {
            reasons
                .push(format!("{bound} of {} queues are bound, frames on the others go to the kernel", link.rx_queues));
        }
        let mut last_error = None;
        // While sockets are bound, which makes their memory. Whether frames are merged the first of them finds out.
        let merged = attempts.order.first().is_some_and(|first| first.may_be_merged());
        let mut begun = Begun { loading: Some(SteeringProgram::start_loading(link.rx_queues, merged)), over };
        if link.mtu > MTU_MAX {
            reasons
                .push(format!("packets of at most {MTU_MAX} bytes are sent and asked for, of an MTU of {}", link.mtu));
        }
        for attempt in attempts.order {
            match Self::open_as(config, &link, attempt, &mut begun) {
                Ok((steering, queues, merged)) => {
                    if attempt.copy == Copy::ZeroCopy {
                        reasons.push("the driver grants zero copy".to_owned());
                    } else if !merged {
                        reasons.push(NO_MERGED.to_owned());
                    }
                    let obtained = Obtained { attach: attempt.attach, copy: attempt.copy, why: reasons.join("; ") };
                    tracing::info!(link = link.name, queues = queues.len(), mode = %obtained, "AF_XDP is open");
                    let huge = queues.iter().all(XdpQueue::on_huge_pages);
                    let queues = queues.into_iter().map(|queue| (queue.id(), Some(queue))).collect();
                    return Ok(Self { steering, queues, link: as_served(link), obtained, huge });
                }
                Err(Failed::Unsupported { what, error }) => {
                    reasons.push(what);
                    last_error = Some(error);
                }
                Err(Failed::Fatal(error)) => return Err(error),
            }
        }
        let nothing_tried = || OpenError::Program(Box::new(ProgramFault::Missing("mode to try")));
        Err(last_error.unwrap_or_else(nothing_tried))
    }

    /// Opens the queues in one mode. Returns also whether frames longer than a chunk are received.
    fn open_as(
        config: &XdpConfig,
        link: &Link,
        attempt: Attempt,
        from_before: &mut Begun,
    ) -> Result<(SteeringProgram, Vec<XdpQueue>, bool), Failed> {
        let ids = config.queues(link);
        let begun = Instant::now();
        let mut queues = Vec::with_capacity(ids.len());
        let mut merged = attempt.may_be_merged();
        for id in ids {
            let bind = |merged| bind(config, link, id, attempt.copy == Copy::ZeroCopy, merged);
            let mut bound = bind(merged);
            // A kernel before 6.6 does not know the flag. Only the first queue finds that out.
            if merged && queues.is_empty() && matches!(&bound, Err(e) if e.raw_os_error() == Some(libc::EINVAL)) {
                merged = false;
                bound = bind(merged);
            }
            queues.push(bound.map_err(|source| failed_bind(config, link, id, attempt, source))?);
        }
        check_chunks(link, merged).map_err(Failed::Fatal)?;
        let bound = begun.elapsed();
        let loading = from_before.loading.take();
        let loading = loading.unwrap_or_else(|| SteeringProgram::start_loading(link.rx_queues, merged));
        let mut steering = Self::steer(config, loading, merged, &queues)
            .map_err(|fault| Failed::Fatal(explain_program(link, fault)))?;
        steering.set_station(link.mac).map_err(|fault| Failed::Fatal(explain_program(link, fault)))?;
        let loaded = begun.elapsed();
        attach(&mut steering, link, attempt, from_before.over.take())?;
        let (bind, program, attach) = (bound, loaded - bound, begun.elapsed() - loaded);
        tracing::debug!(link = link.name, ?bind, ?program, ?attach, "how long it took to open AF_XDP");
        Ok((steering, queues, merged))
    }

    /// The program with all that `config` says, before it is attached.
    fn steer(
        config: &XdpConfig,
        loading: Loading,
        merged: bool,
        queues: &[XdpQueue],
    ) -> Result<SteeringProgram, ProgramFault> {
        let mut steering = loading.finish(merged)?;
        for (address, mode) in &config.addresses {
            steering.set_address(*address, *mode)?;
        }
        for (transport, port) in &config.ports {
            steering.open_port(*transport, *port)?;
        }
        steering.set_dedicated(config.dedicated)?;
        steering.set_vlan(config.vlan)?;
        steering.allow(&config.allow)?;
        for queue in queues {
            steering.set_socket(queue.id().0, queue.socket_fd())?;
        }
        Ok(steering)
    }

    /// The mode obtained, and why. Print it.
    pub fn obtained(&self) -> &Obtained {
        &self.obtained
    }

    /// Whether the frames of all queues lie on huge pages: where enough were free.
    pub fn on_huge_pages(&self) -> bool {
        self.huge
    }

    /// The link as it was when opened, but that its MTU is at most [`MTU_MAX`]: no longer packet is sent, nor asked for.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The queues that were bound, taken or not.
    pub fn queue_ids(&self) -> Vec<QueueId> {
        self.queues.iter().map(|(id, _)| *id).collect()
    }

    /// Hands out a queue, to be moved to its core; `None` when it was handed out already or is not bound.
    ///
    /// At the end drop the device before the queues: frames then go to the kernel instead of being dropped by a socket
    /// that nobody polls. The other way round is safe too, since the kernel takes a closed socket out of the map.
    pub fn take_queue(&mut self, queue: QueueId) -> Option<XdpQueue> {
        self.queues.iter_mut().find(|(id, _)| *id == queue)?.1.take()
    }

    /// How many frames the program has sent each way. Costs a few system calls.
    ///
    /// # Errors
    /// [`ProgramFault::Map`]: the kernel refused.
    pub fn steer_counters(&self) -> Result<SteerCounters, ProgramFault> {
        self.steering.counters()
    }

    /// Descriptors by which another process holds the program ([`HeldProgram`]).
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn share(&self) -> io::Result<SharedProgram> {
        self.steering.share()
    }

    /// What to tell whoever bound some of the link's queues at the end of a run; `None` when nothing was lost by it.
    pub fn unserved(&self) -> Option<Unserved> {
        let frames = self.steer_counters().ok()?.no_socket;
        (frames > 0).then(|| Unserved { link: self.link.name.clone(), frames, bound: self.queue_ids() })
    }

    /// The program's maps: addresses, ports and counters, which may be used while it runs.
    pub fn steering(&mut self) -> &mut SteeringProgram {
        &mut self.steering
    }
}

impl Drop for XdpDevice {
    fn drop(&mut self) {
        self.steering.detach();
    }
}

/// A link whose frames are longer than a chunk is served as one whose frames are not. Who speaks TCP sends no longer segments
/// than it was told; what is longer all the same comes in several chunks, of which a [`segmenter`] makes frames if it is TCP.
fn as_served(link: Link) -> Link {
    Link { mtu: link.mtu.min(MTU_MAX), ..link }
}

/// Attaches the program, `over` another if that is there, else with patience for one that was there until just now.
fn attach(
    steering: &mut SteeringProgram,
    link: &Link,
    attempt: Attempt,
    over: Option<AttachedLink>,
) -> Result<(), Failed> {
    let is_busy = |fault: &ProgramFault| fault.raw_os_error() == Some(libc::EBUSY);
    let redirects = link.driver == "veth" && attempt.attach == Attach::Native;
    steering.set_answer_by_redirect(redirects).map_err(|fault| Failed::Fatal(explain_program(link, fault)))?;
    match over {
        Some(over) => steering.attach_over(over, link.index),
        None => while_busy(|| steering.attach(link.index, attempt.attach), is_busy),
    }
    .map_err(|fault| failed_attach(link, attempt, fault))
}

fn failed_bind(config: &XdpConfig, link: &Link, queue: QueueId, attempt: Attempt, source: io::Error) -> Failed {
    let refused = matches!(source.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP));
    if attempt.copy == Copy::ZeroCopy && refused {
        let what = format!("no zero copy: {source}");
        let error = OpenError::NoZeroCopy { link: link.name.clone(), driver: link.driver.clone(), source };
        return Failed::Unsupported { what, error };
    }
    Failed::Fatal(explain_bind(config, link, queue, source))
}

fn failed_attach(link: &Link, attempt: Attempt, fault: ProgramFault) -> Failed {
    let refused = matches!(fault.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ERANGE));
    let what = match fault.raw_os_error() {
        Some(code) => format!("no {} mode: {}", attempt.attach, io::Error::from_raw_os_error(code)),
        None => format!("no {} mode: {fault}", attempt.attach),
    };
    let error = explain_program(link, fault);
    if refused { Failed::Unsupported { what, error } } else { Failed::Fatal(error) }
}
