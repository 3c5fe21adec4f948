//! Several links, or several queues of one, over one UMEM, so that frames change places between them without a copy.
//!
//! The kernel has a fill and a completion ring for each queue (kernel `af_xdp.rst`, "XDP_SHARED_UMEM bind flag"), and each
//! queue has chunks of its own number, which it exchanges one for one (SAFETY.md, F6): what is shared is the memory alone,
//! and no lock, so that queues are what they are elsewhere. The first queue decides about zero copy for all of them: it is
//! had on every link or on none.

use super::mode::{Attempt, Attempts};
use super::socket::bind_together;
use super::*;
use crate::sys::rings::SocketShape;

/// A link that is to be opened.
struct Wanted<'a> {
    config: &'a XdpConfig,
    link: Link,
    attempts: Attempts,
}

impl XdpDevice {
    /// Opens what each of `configs` says, in the network namespace of the calling thread, as [`open`](Self::open) does, with
    /// the frames of all queues in one UMEM: frames of any two may change places ([`Frame::exchange`](crate::Frame::exchange),
    /// [`ring::forward`](crate::ring::forward)). All those queues are meant for one core. Segments do not leave together
    /// on any of them, and TCP checksums are left as they are.
    ///
    /// Of the devices, and of queues that were taken, the first queue of the first is the last to be given back to the kernel
    /// to bind again: when all of them are dropped.
    ///
    /// # Errors
    /// [`OpenError`], each of which is one line for the operator. Nothing is left attached or bound.
    pub fn open_together(configs: &[XdpConfig]) -> Result<Vec<Self>, OpenError> {
        let wanted = configs.iter().map(Wanted::gather).collect::<Result<Vec<_>, _>>()?;
        let mut reasons = Vec::new();
        let mut last_error = None;
        for copy in [Copy::ZeroCopy, Copy::Copy] {
            if wanted.iter().any(|wanted| wanted.tries(copy).next().is_none()) {
                continue;
            }
            match open_as(&wanted, copy, &reasons) {
                Ok(devices) => return Ok(devices),
                Err(Failed::Unsupported { what, error }) => {
                    reasons.push(what);
                    last_error = Some(error);
                }
                Err(Failed::Fatal(error)) => return Err(error),
            }
        }
        let nothing_tried = || OpenError::Program(Box::new(ProgramFault::Missing("mode that all links have")));
        Err(last_error.unwrap_or_else(nothing_tried))
    }
}

impl<'a> Wanted<'a> {
    fn gather(config: &'a XdpConfig) -> Result<Self, OpenError> {
        let facts = Facts::gather(config)?;
        check(config, &facts)?;
        let link = facts.link;
        let mut attempts = attempts(config.attach, config.copy, &link.driver, link.rx_queues)
            .map_err(|_| OpenError::GenericShiftsQueues { link: link.name.clone(), queues: link.rx_queues })?;
        if link.mtu > zero_copy_mtu_max(&link) {
            attempts.without_zero_copy();
        }
        Ok(Self { config, link, attempts })
    }

    /// The ways to attach with which this copy mode may be had, best first.
    fn tries(&self, copy: Copy) -> impl Iterator<Item = Attempt> + '_ {
        self.attempts.order.iter().copied().filter(move |attempt| attempt.copy == copy)
    }

    /// The program on this link, attached in the first way that it takes.
    fn attach(&self, copy: Copy, merged: bool, queues: &[XdpQueue]) -> Result<(SteeringProgram, Attach), Failed> {
        let link = &self.link;
        let loading = SteeringProgram::start_loading(link.rx_queues, merged);
        let mut steering = XdpDevice::steer(self.config, loading, merged, queues)
            .map_err(|fault| Failed::Fatal(explain_program(link, fault)))?;
        let mut failed = None;
        for attempt in self.tries(copy) {
            match attach(&mut steering, link, attempt, None) {
                Ok(()) => return Ok((steering, attempt.attach)),
                Err(error @ Failed::Unsupported { .. }) => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        let nothing_tried = || OpenError::Program(Box::new(ProgramFault::Missing("mode to try")));
        Err(failed.unwrap_or_else(|| Failed::Fatal(nothing_tried())))
    }
}

fn open_as(wanted: &[Wanted<'_>], copy: Copy, reasons: &[String]) -> Result<Vec<XdpDevice>, Failed> {
    let (queues, merged) = bind_all(wanted, copy)?;
    for wanted in wanted {
        check_chunks(&wanted.link, merged).map_err(Failed::Fatal)?;
    }
    let mut queues = queues.into_iter();
    let mut devices = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let count = wanted.config.queues(&wanted.link).len();
        let queues: Vec<XdpQueue> = queues.by_ref().take(count).collect();
        let (steering, attach) = wanted.attach(copy, merged, &queues)?;
        let mut why: Vec<&str> = vec!["one memory for several links"];
        why.extend(wanted.attempts.why.iter().copied().chain(reasons.iter().map(String::as_str)));
        if copy == Copy::Copy && !merged {
            why.push(NO_MERGED);
        }
        let obtained = Obtained { attach, copy, why: why.join("; ") };
        let huge = queues.iter().all(XdpQueue::on_huge_pages);
        tracing::info!(link = wanted.link.name, queues = count, mode = %obtained, "AF_XDP is open");
        let queues = queues.into_iter().map(|queue| (queue.id(), Some(queue))).collect();
        devices.push(XdpDevice { steering, queues, link: as_served(wanted.link.clone()), obtained, huge });
    }
    Ok(devices)
}

/// The queues of all links, in their order; and whether frames longer than a chunk are received.
fn bind_all(wanted: &[Wanted<'_>], copy: Copy) -> Result<(Vec<XdpQueue>, bool), Failed> {
    let zero_copy = copy == Copy::ZeroCopy;
    let shapes = |merged| -> Vec<(SocketShape, &Link)> {
        let of_one = |wanted: &'_ Wanted<'_>| {
            let ids = wanted.config.queues(&wanted.link);
            ids.into_iter().map(|id| wanted.config.shape(&wanted.link, id, zero_copy)).collect::<Vec<_>>()
        };
        let merge = |shape| SocketShape { merged, ..shape };
        wanted.iter().flat_map(|wanted| of_one(wanted).into_iter().map(|shape| (merge(shape), &wanted.link))).collect()
    };
    let mut merged = !zero_copy;
    let mut bound = bind_together(&shapes(merged));
    // A kernel before 6.6 does not know the flag. The first queue finds that out.
    if merged && matches!(&bound, Err((0, error)) if error.raw_os_error() == Some(libc::EINVAL)) {
        merged = false;
        bound = bind_together(&shapes(merged));
    }
    bound.map(|queues| (queues, merged)).map_err(|(number, source)| {
        let all: Vec<(&Wanted<'_>, QueueId)> = wanted
            .iter()
            .flat_map(|wanted| wanted.config.queues(&wanted.link).into_iter().map(move |id| (wanted, id)))
            .collect();
        match all.get(number) {
            Some((wanted, id)) => {
                let attempt = Attempt { attach: Attach::Native, copy };
                failed_bind(wanted.config, &wanted.link, *id, attempt, source)
            }
            None => Failed::Fatal(OpenError::Program(Box::new(ProgramFault::Missing("queue to bind")))),
        }
    })
}
