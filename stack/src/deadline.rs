//! `Deadlines`: when a flow is given up, by what it waits for.

use std::time::Duration;

use crate::block::FlowBlock;
use crate::clock::{Span, Time};
use crate::config::StackConfig;
use crate::phase::{Marks, Phase};

/// Keep-alive intervals without an answer after which a flow is dead.
const KEEP_ALIVES: u32 = 3;

/// The longest pause between two of smoltcp's questions to a closed window.
const LONGEST_PAUSE: Duration = Duration::from_secs(12);

/// The time-outs of the settings, ready to be added: they are asked for whenever a flow is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    handshake: Span,
    connect: Span,
    give_up: Span,
    fin_wait_2: Span,
    linger: Span,
    /// How long nothing may be heard of the peer of a flow, whatever the flow waits for.
    silence: Span,
    keep_alive: Span,
    /// After what silence a peer whose window is closed is asked, where the pauses between smoltcp's own questions are longer than
    /// what is waited for: it may be there, and answer, and shall not be given up.
    closed_window: Span,
}

impl Deadlines {
    /// Those of the settings.
    pub(crate) fn new(config: &StackConfig) -> Self {
        let forever = Span::FOREVER;
        let idle = config.idle_timeout.map_or(forever, Span::of);
        let asks = config.keep_alive.unwrap_or(Duration::MAX).min(config.give_up_timeout / KEEP_ALIVES);
        let keep_alive =
            config.keep_alive.map_or(forever, |interval: Duration| Span::of(interval.saturating_mul(KEEP_ALIVES)));
        Self {
            handshake: Span::of(config.handshake_timeout),
            connect: Span::of(config.connect_timeout),
            give_up: Span::of(config.give_up_timeout),
            fin_wait_2: Span::of(config.fin_wait_2_timeout),
            linger: Span::of(config.linger_timeout),
            silence: idle.min(keep_alive),
            keep_alive: config.keep_alive.map_or(forever, Span::of),
            closed_window: if asks < LONGEST_PAUSE { Span::of(asks) } else { forever },
        }
    }

    /// After what silence a peer is asked whether it is there.
    pub(crate) fn keep_alive(&self) -> Span {
        self.keep_alive
    }

    /// The same for a peer whose window is closed, while something waits for it to open.
    pub(crate) fn closed_window(&self) -> Span {
        self.closed_window
    }

    /// When a handshake that began `since` then is given up.
    pub(crate) fn of_handshake(&self, since: Time) -> Time {
        since.plus(self.handshake)
    }

    /// When a flow that sleeps, and whose peer was last heard at `heard`, is to be given up or asked whether it is there;
    /// `closed_since`: when it came to FIN-WAIT-2, if it has.
    pub(crate) fn of_sleeper(&self, heard: Time, closed_since: Option<Time>) -> Time {
        let closing = closed_since.map_or(Time::NEVER, |since| since.plus(self.fin_wait_2));
        heard.plus(self.silence.min(self.keep_alive)).min(closing)
    }

    /// When the flow of `block` is to be given up, if nothing is heard of its peer until then.
    #[inline]
    pub(crate) fn of(&self, block: &FlowBlock) -> Time {
        if matches!(block.phase, Phase::Open) { self.of_open(block) } else { self.of_other(block) }
    }

    /// As [`of`](Self::of) for a flow that begins or ends.
    fn of_other(&self, block: &FlowBlock) -> Time {
        let closing = match block.phase {
            Phase::Connecting | Phase::Cancelled => return block.state_since.plus(self.connect),
            Phase::Closing => block.state_since.plus(self.linger),
            Phase::FinWait2 => block.state_since.plus(self.fin_wait_2),
            _ => Time::NEVER,
        };
        closing.min(self.of_open(block))
    }

    /// As [`of`](Self::of), by the peer's silence alone.
    #[inline]
    fn of_open(&self, block: &FlowBlock) -> Time {
        let mut deadline = block.heard_at.plus(self.silence);
        if block.marks.contains(Marks::WAITING) {
            deadline = deadline.min(block.heard_at.max(block.waiting_since).plus(self.give_up));
        }
        deadline
    }
}
