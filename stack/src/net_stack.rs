//! `NetStack`: one core's TCP/IP.
use std::time::Duration;

use nic::Queue;

use crate::block::FlowBlock;
use crate::clock::Time;
use crate::config::{ConfigError, Secrets, StackConfig};
use crate::flow::{Flow, FlowId, Readiness};
use crate::port::Port;
use crate::stats::{Census, StackStats, Work};

/// One core's TCP/IP.
#[derive(Debug)]
pub struct NetStack {
    blocks: Vec<&'static mut FlowBlock>,
    stats: StackStats,
    work: Work,
}

impl NetStack {
    /// Makes a stack. All memory that the packet path needs is reserved here.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn new(config: StackConfig, _secrets: Secrets) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self { blocks: Vec::new(), stats: StackStats::default(), work: Work::default() })
    }

    /// Ingests the frames that `port` (number `port_index` of those given to [`flush`](Self::flush)) has received.
    /// Returns how many; the rest stay in the port when no frame is left to answer with.
    pub fn ingest<Q: Queue>(&mut self, _now: Time, port: &mut Port<Q>, _port_index: usize) -> usize {
        let mut frames = 0;
        while let Some(frame) = port.rx.pop() {
            port.free(frame);
            frames += 1;
        }
        frames
    }

    /// Ingests a frame that another core's stack gave out as a stray, with the `hops` it came with. The bytes are
    /// changed. A segment that is unknown here too becomes a stray again, or is answered with RST when every core
    /// has seen it.
    pub fn ingest_stray<Q: Queue>(&mut self, _now: Time, _ports: &mut [Port<Q>], _frame: &mut [u8], _hops: u8) {}

    /// Gives the oldest stray, as the bytes of its frame and its hops, to `offer`, which passes it on to the next core.
    /// Returns false when there is none.
    pub fn next_stray(&mut self, _offer: impl FnOnce(&[u8], u8)) -> bool {
        false
    }

    /// Fires timers that are due. Once a turn, before [`flush`](Self::flush).
    pub fn expire(&mut self, _now: Time) {}

    /// Takes the next flow off the ready list. The application bounds how many it takes in a turn.
    pub fn next_ready(&mut self) -> Option<(FlowId, Readiness)> {
        None
    }

    /// The flow `id`, or `None` when it has ended. The next [`flush`](Self::flush) looks at the flow.
    pub fn flow(&mut self, id: FlowId) -> Option<Flow<'_>> {
        self.blocks.get_mut(id.index()).map(|block| Flow { block })
    }

    /// Puts the flow on the ready list again, as when an answer for it has come from another core.
    pub fn wake(&mut self, _id: FlowId) {}

    /// Writes what the touched flows have to say into frames and arms their timers. Once a turn, last.
    pub fn flush<Q: Queue>(&mut self, _now: Time, _ports: &mut [Port<Q>]) {}

    /// How long after `now` the next timer is due; zero when there is work already; `None` when nothing is pending.
    pub fn next_deadline(&self, _now: Time) -> Option<Duration> {
        None
    }

    /// Whether flows are on the ready list, or parked for want of frames: the caller must not sleep.
    pub fn has_work(&self) -> bool {
        false
    }

    /// Flows at present, half-open and closing ones included.
    pub fn flows(&self) -> usize {
        self.blocks.len()
    }

    /// The counters.
    pub fn stats(&self) -> &StackStats {
        &self.stats
    }

    /// What the stack has worked on.
    pub fn work(&self) -> Work {
        self.work
    }

    /// What the stack holds, counted by walking every flow.
    pub fn census(&self) -> Census {
        Census::default()
    }
}
