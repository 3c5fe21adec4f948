//! Queues shared out among cores: each core gets those it polls, and where there are fewer queues than cores, a way to
//! each queue of the others.
//!
//! Invariant: all frames of a flow reach one core. With at least as many queues as cores it is the core that polls the
//! flow's queue; with fewer, the core that `SoftwareRss` says, whichever queue the frames come over.

use std::sync::Arc;

use nic::{
    Doorbell, FlowOwner, PoolConfig, Queue, QueueId, QueuePlan, RelayConfig, RelayError, Rss, SoftwareRss, relay_pair,
};

/// The queue of a core: of a kind that is chosen at start.
pub type AnyQueue = Box<dyn Queue>;

/// The queues of each core, by core, as `plan` has it: its own first, then the ways to those of others. `take` opens a
/// queue for the core that polls it (`None` leaves it out), `doorbells` are those of all cores, and `chunk_bytes` holds
/// the longest frame.
///
/// # Errors
/// What `take` said, or no memory for the frames handed over.
pub fn share_queues<E: From<RelayError>>(
    plan: &QueuePlan,
    doorbells: &[Arc<Doorbell>],
    chunk_bytes: usize,
    mut take: impl FnMut(usize, QueueId) -> Result<Option<AnyQueue>, E>,
) -> Result<Vec<Vec<AnyQueue>>, E> {
    let cores = plan.cores();
    let mut queues: Vec<Vec<AnyQueue>> = (0..cores).map(|_| Vec::new()).collect();
    for core in 0..cores {
        for &id in plan.polled_by(core) {
            let Some(queue) = take(core, id)? else { continue };
            if plan.flows_follow_queues() {
                queues[core].push(queue);
                continue;
            }
            let mut others = Vec::new();
            for other in (0..cores).filter(|other| *other != core) {
                let max_frame_bytes = queue.max_frame_bytes();
                // All of a chunk is for the frame: one that was cut from a merged frame takes more than the MTU.
                let pool = PoolConfig { chunk_bytes, headroom_bytes: 0, ..RelayConfig::default().pool };
                let (mut relay, port) = relay_pair(RelayConfig { max_frame_bytes, pool, ..RelayConfig::default() })?;
                relay.set_doorbell(doorbells[core].clone());
                queues[other].push(Box::new(relay));
                // At most 64 cores, the most that a cache may have.
                let core = QueueId(other as u16);
                others.push(FlowOwner { core, port, doorbell: doorbells[other].clone() });
            }
            let shared = SoftwareRss::new(queue, Rss::new(cores as u16), others);
            queues[core].insert(0, Box::new(shared));
        }
    }
    Ok(queues)
}
