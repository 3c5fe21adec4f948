//! `World`: two ends on one wire, somebody who listens on it and says again what was said, and one seed for everything.
//!
//! One world in three is *pressed*: few flows, a short SYN queue, and a stranger whose SYNs nobody completes, so that
//! tables are full and SYN cookies are given. Nothing of a connection is kept then, and a segment that is said again may
//! open it a second time: there nobody says again what was said, nobody aborts, and the wire repeats nothing.

use std::time::Duration;

use nic::{BurstLoss, Corrupt, Faults, PortConfig, QueueId, RateLimit, Reorder, Wire, WirePort, WireQueue};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sidestep_stack::{CloseReason, DropReason, Mac, Rings, StackConfig, Time};

use super::datagrams::Datagrams;
use super::end::{End, MOMENTS, Then, WOKEN_BY};
use super::lab::family::configured;
use super::lab::raw::{SYN, Tcp};
use super::lab::station::Station;
use super::lab::{OWN, PEER, PORT, THEM, US};
use super::streams::Streams;

/// Frames that the listener remembers, to say them again.
const REMEMBERED: usize = 512;
/// Turns of both ends at one moment that no real work takes.
const TURNS_AT_ONCE: u32 = 2_000;
/// Turns in which nothing was received, sent or reported, in one second and for each flow that the ends may have: what
/// timers may cause. A flow's own are 5 ms apart at the least.
const IDLE_TURNS_A_FLOW: u64 = 200;
/// Steps between two times when all is closed and nothing may be left.
const STEPS_TO_REST: u64 = 4_000;
/// How long a flow may take to end on a good wire, whatever was before: a retransmission that waits for a minute.
const REST: Duration = Duration::from_secs(500);
/// For so long after the wire was hopeless a flow may be given up that is alive at the other end.
const HOPELESS: Duration = Duration::from_secs(200);

/// Everything.
pub struct World {
    wire: Wire,
    ends: [End; 2],
    streams: Streams,
    pressed: bool,
    /// By end: flows that rest are told to sleep after each turn (1), each other one, and so on; 0: after none.
    drowsy: [u64; 2],
    datagrams: Datagrams,
    station: Station,
    heard: Vec<Vec<u8>>,
    next_heard: usize,
    rng: Xoshiro256PlusPlus,
    pub seed: u64,
    pub step: u64,
    hopeless_at: Duration,
    /// Of the present second: when it began, and turns in which nothing happened.
    second: Duration,
    idle_turns: u64,
    most_idle_turns: u64,
    most_turns_at_once: u32,
    turns: u64,
    digest: u64,
}

/// Says which step of which seed it was, where one fails.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (seed, step, now) = (self.seed, self.step, self.wire.clock().now());
            println!(
                "FAILED: seed {seed} step {step} at {now:?}: SIDESTEP_SEED={seed} SIDESTEP_STEPS={step} repeats it"
            );
        }
    }
}

fn config(rng: &mut Xoshiro256PlusPlus, own: (std::net::Ipv4Addr, Mac), pressed: bool) -> StackConfig {
    let mut one_of = |choices: &[usize]| choices[rng.next_u32() as usize % choices.len()];
    let mut config = StackConfig::new(own.0, 24, own.1);
    (config.ports, config.udp_ports) = (vec![PORT], vec![PORT]);
    // Enough never to come under pressure, or too few of everything.
    (config.max_flows, config.flows_at_start, config.syn_queue) = (200, 64, 1_024);
    if pressed {
        (config.max_flows, config.flows_at_start) = (one_of(&[12, 30, 90]), one_of(&[1, 8]));
        config.syn_queue = one_of(&[2, 4, 16]);
    }
    config.rings = Rings::CHOICES[one_of(&[0, 1, 2, 3, 3, 3, 4, 5])];
    // None sleeps; whoever rests, since so few blocks are always wanted, and not all who come get one; or who is told to.
    let few = if pressed { &[usize::MAX, 8, 40] } else { &[usize::MAX, 199, 199] };
    config.awake_flows = one_of(few);
    // A flow that has sent its FIN gets no larger rings, and crawls from one time-out to the next as long as its peer sends
    // what was promised beyond its ring: 64 KiB, which is too many times 512 bytes to end in time.
    let larger = one_of(&[0, 4 << 20, 16 << 20, 16 << 20]);
    config.conn_memory = if config.rings.rx < Rings::DEFAULT.rx { 0 } else { larger };
    config.time_wait_records = one_of(&[2, 64]);
    config.neighbors = 4;
    config.ip_mtu = one_of(&[576, 1_400, 1_500, 1_500]);
    config.ephemeral_ports = (50_000, 50_000 + one_of(&[200, 1_000, 5_000]) as u16);
    config.ack_delay = Duration::from_millis(one_of(&[0, 5, 40]) as u64);
    // Without it one end may wait for ever for another that has given up on a hopeless wire.
    config.keep_alive = Some(Duration::from_secs(one_of(&[15, 60]) as u64));
    config
}

fn all_queues(port: &WirePort) -> Vec<WireQueue> {
    (0..port.queues()).map(|queue| port.take_queue(QueueId(queue)).expect("opened once")).collect()
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let own = [(US, OWN), (THEM, PEER)];
        let pressed = rng.next_u32().is_multiple_of(3);
        let configs = own.map(|own| configured(config(&mut rng, own, pressed)));
        let frames = 600 + rng.next_u32() as usize % 2_000;
        let (rx_ring, tx_ring) =
            ([64, 256, 512][rng.next_u32() as usize % 3], [8, 64, 256][rng.next_u32() as usize % 3]);
        let frames = frames.max(rx_ring + tx_ring);
        let queues = [1 + rng.next_u32() as u16 % 3, 1 + rng.next_u32() as u16 % 3];
        // Trains leave in two of three seeds: few, where the ring is so short that they are cut by the stack.
        let trains = !seed.is_multiple_of(3);
        let narrow =
            queues.map(|queues| PortConfig { rx_ring, tx_ring, frames, trains, ..PortConfig::with_queues(queues) });
        let [left, right] = narrow;
        let (wire, ports) = Wire::hub(vec![left, right, PortConfig::default()], seed).expect("a wire");
        let mut ports = ports.iter().map(all_queues);
        let mut queues = || ports.next().expect("there are three");
        let longest = configs.each_ref().map(|config| config.ip_mtu - 28);
        let [first, second] = configs;
        let ends = [End::new(first, 1, queues(), own[1]), End::new(second, 2, queues(), own[0])];
        let station = Station::new(queues().remove(0));
        let drowsy = [0; 2].map(|_: u64| [0, 1, 7][rng.next_u32() as usize % 3]);
        Self {
            wire,
            ends,
            streams: Streams::new(pressed),
            pressed,
            drowsy,
            datagrams: Datagrams::new(own, longest),
            station,
            heard: Vec::new(),
            next_heard: 0,
            rng,
            seed,
            step: 0,
            hopeless_at: Duration::ZERO,
            second: Duration::ZERO,
            idle_turns: 0,
            most_idle_turns: 0,
            most_turns_at_once: 0,
            turns: 0,
            digest: 0xcbf2_9ce4_8422_2325,
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        u64::from(self.rng.next_u32()) % limit
    }

    fn now(&self) -> Time {
        Time::from_duration(self.wire.clock().now())
    }

    /// Takes so many steps, and comes to rest.
    pub fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            self.step += 1;
            self.act();
            let span = self.span();
            self.pass(span);
            if self.step.is_multiple_of(STEPS_TO_REST) {
                self.rest();
            }
        }
        self.rest();
    }

    /// What one step does.
    fn act(&mut self) {
        let end = self.below(2) as usize;
        let now = self.now();
        match self.below(100) {
            0..12 => {
                let (known, bytes) = (self.below(4) > 0, self.amount());
                self.ends[end].open(now, known, bytes);
            }
            12..40 => self.with_flow(end, |world, end, slot| {
                let bytes = world.amount();
                let talk = world.ends[end].talk(slot);
                if talk.then == Then::Stay && talk.left < 1 << 20 {
                    talk.left += bytes;
                }
                world.ends[end].visit(slot, &mut world.streams);
            }),
            40..52 => self.with_flow(end, |world, end, slot| {
                let deaf = world.below(3) == 0;
                world.ends[end].talk(slot).deaf = deaf;
                world.ends[end].visit(slot, &mut world.streams);
            }),
            52..60 => self.with_flow(end, |world, end, slot| {
                let (closes, pressed) = (world.below(2) == 0, world.pressed);
                let talk = world.ends[end].talk(slot);
                // One that closes over what it has not read resets the other, as one that aborts.
                talk.then = if closes && !(pressed && talk.deaf) { Then::Close } else { Then::Shutdown };
                world.ends[end].visit(slot, &mut world.streams);
            }),
            60..64 if !self.pressed => self.with_flow(end, |world, end, slot| world.ends[end].abort(slot)),
            64..76 => self.with_flow(end, |world, end, slot| {
                let id = world.ends[end].talk(slot).id;
                world.ends[end].poll.enlarge(id);
                world.ends[end].visit(slot, &mut world.streams);
            }),
            76..80 => self.with_flow(end, |world, end, slot| {
                let id = world.ends[end].talk(slot).id;
                world.ends[end].poll.wake(id);
            }),
            60..64 | 80..83 if self.pressed => self.ask_without_end(end),
            80..87 if !self.pressed => self.say_again(),
            80..90 => {
                let len = self.below(4_000) as usize;
                self.datagrams.send(end, len, |frame| self.station.send(frame));
            }
            90..91 => self.say_nonsense(),
            91..92 => {
                let accepting = self.below(4) > 0;
                self.ends[end].poll.set_accepting(accepting);
            }
            92..96 => self.change_faults(end),
            _ => {}
        }
    }

    fn with_flow(&mut self, end: usize, act: impl FnOnce(&mut Self, usize, usize)) {
        let from = self.below(1 << 20);
        if let Some(slot) = self.ends[end].pick(from) {
            act(self, end, slot);
        }
    }

    /// How much is written at once.
    fn amount(&mut self) -> usize {
        let most = [20, 200, 2_000, 2_000, 20_000, 200_000][self.below(6) as usize];
        8 + self.below(most) as usize
    }

    /// How much time a step lets pass.
    fn span(&mut self) -> Duration {
        let (micros, jump) = (self.below(1_000), self.below(1_000));
        match jump {
            0..2 => Duration::from_millis(70 * micros),
            2..20 => Duration::from_millis(micros),
            20..200 => Duration::from_micros(10 * micros),
            200..700 => Duration::from_micros(micros),
            700..701 if !self.pressed => {
                // Nobody gets a turn for a while.
                let stall = Duration::from_millis(1 << self.below(17));
                self.wire.clock().advance(stall);
                self.hopeless_at = self.wire.clock().now();
                Duration::ZERO
            }
            _ => Duration::ZERO,
        }
    }

    fn change_faults(&mut self, end: usize) {
        let micros = |world: &mut Self, most| Duration::from_micros(world.below(most));
        let mut faults = Faults { delay: micros(self, 5_000), jitter: micros(self, 500), ..Faults::default() };
        let share = |world: &mut Self| [0.0, 0.01, 0.05, 0.2][world.below(4) as usize];
        match self.below(12) {
            0..3 => faults.delay = micros(self, 60),
            3..7 => {
                (faults.loss, faults.duplicate) = (share(self), share(self));
                if self.pressed {
                    faults.duplicate = 0.0;
                }
                let hold = micros(self, 3_000);
                faults.reorder = Some(Reorder { probability: share(self), depth: 1 + self.below(6) as u32, hold });
            }
            7 => faults.corrupt = Some(Corrupt { probability: share(self), bits: 15 }),
            8 => faults.cut = share(self),
            9 => faults.burst_loss = Some(BurstLoss { enter: 0.02, leave: 0.3, loss: 0.9 }),
            10 => {
                let queue_bytes = 3_000 + self.below(60_000) as usize;
                faults.rate = Some(RateLimit { bits_per_second: 1_000_000 << self.below(8), queue_bytes });
            }
            _ if self.pressed => faults.loss = 0.1,
            _ => faults.loss = [0.5, 1.0][self.below(2) as usize],
        }
        let lost = faults.loss + faults.cut + faults.corrupt.map_or(0.0, |corrupt| corrupt.probability);
        if lost >= 0.04 || faults.burst_loss.is_some() || faults.rate.is_some() {
            // Until a better wire comes, that is.
            self.hopeless_at = Duration::MAX;
        } else if self.hopeless_at == Duration::MAX {
            self.hopeless_at = self.wire.clock().now();
        }
        self.wire.set_inbound_faults(end, faults).expect("good faults");
    }

    /// Some frames of before, as they were.
    fn say_again(&mut self) {
        for _ in 0..1 + self.below(4) {
            let chosen = self.below(REMEMBERED as u64) as usize;
            if let Some(frame) = self.heard.get(chosen).filter(|frame| !frame.is_empty()) {
                self.station.send(frame);
            }
        }
    }

    /// SYNs of hosts that will not complete what they begin.
    fn ask_without_end(&mut self, end: usize) {
        for _ in 0..1 + self.below(20) {
            let (host, port, seq) =
                (100 + self.below(100) as u8, 1_024 + self.below(60_000) as u16, self.rng.next_u32());
            let mut frame = Tcp::new(port, SYN, seq, 0).frame_from([10, 77, 0, host]);
            self.datagrams.address(end, &mut frame);
            self.station.send(&frame);
        }
    }

    fn say_nonsense(&mut self) {
        let mut frame = vec![0; 14 + self.below(200) as usize];
        self.rng.fill_bytes(&mut frame);
        frame[..6].copy_from_slice([&OWN.0, &PEER.0, &[0xff; 6]][self.below(3) as usize]);
        if self.below(2) == 0 {
            frame[12..14].copy_from_slice(&[8, [0, 6][self.below(2) as usize]]);
        }
        self.station.send(&frame);
    }

    /// Lets `span` pass: both ends get a turn whenever something is due.
    fn pass(&mut self, span: Duration) {
        let end = self.wire.clock().now() + span;
        loop {
            self.settle();
            let here = self.wire.clock().now();
            if here >= end {
                return;
            }
            let next = self.next_event().unwrap_or(end).min(end);
            // A deadline is told in whole microseconds.
            self.wire.clock().set(next.max(here + Duration::from_micros(1)));
        }
    }

    fn next_event(&self) -> Option<Duration> {
        let (here, now) = (self.wire.clock().now(), self.now());
        let deadline = |end: &End| end.poll.stack().next_deadline(now).map(|wait| here + wait);
        self.ends.iter().filter_map(deadline).chain(self.wire.next_due()).min()
    }

    /// Turns at the present moment until neither end has anything to do. What must hold is checked after each.
    fn settle(&mut self) {
        let here = self.wire.clock().now();
        if here >= self.second + Duration::from_secs(1) {
            (self.second, self.idle_turns) = (here, 0);
        }
        for turn in 1..=TURNS_AT_ONCE {
            let now = self.now();
            let mut busy = false;
            for (end, drowsy) in self.ends.iter_mut().zip(self.drowsy) {
                busy |= end.turn(now, &mut self.streams);
                if drowsy > 0 && self.turns.is_multiple_of(drowsy) {
                    end.lay_down();
                }
                end.check(now);
            }
            self.listen();
            self.judge_losses();
            self.turns += 1;
            self.most_turns_at_once = self.most_turns_at_once.max(turn);
            busy |= self.wire.next_due().is_some_and(|due| due <= here);
            if !busy {
                if turn == 1 {
                    self.idle_turns += 1;
                    self.most_idle_turns = self.most_idle_turns.max(self.idle_turns);
                    let flows: usize = self.ends.iter().map(|end| end.poll.stack().config().max_flows).sum();
                    assert!(self.idle_turns < IDLE_TURNS_A_FLOW * flows as u64, "turns for nothing in one second");
                }
                return self.ends.iter().for_each(End::check_at_rest);
            }
        }
        panic!("no rest: {:?}", self.ends.each_ref().map(|end| end.poll.stack().census()));
    }

    /// What the third on the wire hears, it remembers.
    fn listen(&mut self) {
        let Self { station, datagrams, heard, next_heard, digest, .. } = self;
        station.receive(|frame| {
            datagrams.hear(frame);
            for &byte in &frame[..frame.len().min(66)] {
                *digest = (*digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
            let of_ipv6 = frame.len() >= 68 && frame[12..14] == [0x86, 0xdd] && frame[20] == 6 && frame[67] & 18 == 2;
            if frame.len() >= 48 && frame[12..14] == [8, 0] && frame[23] == 6 && frame[47] & 18 == 2 || of_ipv6 {
                // What was said on an earlier connection of the same ports may be taken for news of this one, if that
                // was reset and has sent more than its clock allows (RFC 6528 §3): TCP has no answer to that.
                let at = if of_ipv6 { 54 } else { 34 };
                let ports = [frame[at..at + 2].to_vec(), frame[at + 2..at + 4].to_vec()];
                let same = |old: &Vec<u8>| {
                    old.len() >= at + 4
                        && old[12..14] == frame[12..14]
                        && ports.contains(&old[at..at + 2].to_vec())
                        && ports.contains(&old[at + 2..at + 4].to_vec())
                };
                heard.iter_mut().filter(|old| same(old)).for_each(Vec::clear);
            }
            if heard.len() < REMEMBERED {
                heard.push(Vec::new());
            }
            heard[*next_heard].clear();
            heard[*next_heard].extend_from_slice(frame);
            *next_heard = (*next_heard + 1) % REMEMBERED;
        });
    }

    /// Nothing ends at one end that is alive at the other, unless the wire or the clock was hopeless.
    fn judge_losses(&mut self) {
        let here = self.wire.clock().now();
        let hopeless = here.saturating_sub(HOPELESS) < self.hopeless_at;
        for end in 0..2 {
            while let Some(loss) = self.ends[end].lost.pop() {
                // Who is slow gives way to others where there are no rings for these, or no block for one that sleeps.
                let stats = self.ends[end].poll.stack().stats();
                let short =
                    stats.rings_short > 0 || stats.drops.of(DropReason::NoFreeFlow) > 0 && stats.fell_asleep > 0;
                let gave_way = loss.reason == CloseReason::GaveWay && short;
                let excused = loss.reason == CloseReason::TimedOut && hopeless || gave_way;
                let alive = !excused && self.ends[1 - end].is_alive(&loss);
                assert!(!alive, "{loss:?} at end {end}, and the other end is well");
            }
        }
    }

    /// The wire is good, everybody reads and closes: in the end nothing may be left.
    fn rest(&mut self) {
        let good = Faults { delay: Duration::from_micros(50), ..Faults::default() };
        for end in 0..2 {
            self.wire.set_inbound_faults(end, good.clone()).expect("good faults");
            self.ends[end].poll.set_accepting(true);
        }
        if self.hopeless_at == Duration::MAX {
            self.hopeless_at = self.wire.clock().now();
        }
        let limit = self.wire.clock().now() + REST;
        self.settle();
        self.ends.iter_mut().for_each(|end| end.wind_up(true, &mut self.streams));
        loop {
            self.settle();
            let flows: usize = self.ends.iter().map(|end| end.poll.flows()).sum();
            if flows == 0 {
                break;
            }
            let census = self.ends.each_ref().map(|end| end.poll.stack().census());
            let next = self.next_event().unwrap_or_else(|| panic!("nothing will happen any more: {census:?}"));
            if next >= limit {
                let talks = self.ends.each_mut().map(End::talks).concat();
                panic!("{flows} flows are left after {REST:?}:\n{talks}{census:?}");
            }
            let here = self.wire.clock().now();
            self.wire.clock().set(next.max(here + Duration::from_micros(1)));
        }
        // TIME-WAIT and questions for neighbours run out.
        self.pass(Duration::from_secs(61));
        for end in &mut self.ends {
            end.check_nothing_left();
            end.wind_up(false, &mut self.streams);
        }
        // What was said before is of connections whose numbers may come again after minutes.
        self.heard.clear();
        self.next_heard = 0;
    }

    /// A number that is the run's alone: of all frames that were sent.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// How often flows were told to sleep at each of [`MOMENTS`], and woken by each of [`WOKEN_BY`].
    pub fn sleepers(&self) -> ([u64; MOMENTS.len()], [u64; WOKEN_BY.len()]) {
        let [left, right] = &self.ends;
        let (mut moments, mut woken) = (left.moments, left.woken());
        moments.iter_mut().zip(right.moments).for_each(|(sum, more)| *sum += more);
        woken.iter_mut().zip(right.woken()).for_each(|(sum, more)| *sum += more);
        (moments, woken)
    }

    /// What the run was, in a line.
    pub fn summary(&self) -> String {
        let sum = |of: fn(&End) -> u64| -> u64 { self.ends.iter().map(of).sum() };
        let reason = |reason: CloseReason| -> u64 { self.ends.iter().map(|end| end.reasons[reason as usize]).sum() };
        let wire = [self.wire.counts(0), self.wire.counts(1)];
        let drops =
            |reason: DropReason| self.ends.iter().map(|end| end.poll.stack().stats().drops.of(reason)).sum::<u64>();
        format!(
            "seed {} steps {} virtual_s {} turns {} frames {} lost {} duplicated {} reordered {} corrupted {} cut {} \
             connects {} opened {} bytes_exact {} streams_whole {} finished {} reset {} timed_out {} refused {} \
             unreachable {} aborted {} enlarged {} reduced {} short {} sent_again {} timeouts {} no_frame {} parked {} \
             contained {} fell_asleep {} woke {} cookies_sent {} cookies_accepted {} syn_queue_full {} no_free_flow {} queues {} datagrams {} \
             fragments {} datagrams_exact {} most_turns_at_once {} most_idle_turns_a_second {} digest {:016x}",
            self.seed,
            self.step,
            self.wire.clock().now().as_secs(),
            self.turns,
            sum(|end| end.poll.stack().stats().frames),
            wire.iter().map(|counts| counts.all_lost()).sum::<u64>(),
            wire.iter().map(|counts| counts.duplicated).sum::<u64>(),
            wire.iter().map(|counts| counts.reordered).sum::<u64>(),
            wire.iter().map(|counts| counts.corrupted).sum::<u64>(),
            wire.iter().map(|counts| counts.cut).sum::<u64>(),
            sum(|end| end.poll.stack().stats().connects),
            sum(|end| end.poll.stack().stats().opened),
            self.streams.exact,
            self.streams.whole,
            sum(|end| end.poll.stack().stats().finished),
            reason(CloseReason::Reset),
            reason(CloseReason::TimedOut),
            reason(CloseReason::Refused),
            reason(CloseReason::Unreachable),
            sum(|end| end.poll.stack().stats().aborted),
            sum(|end| end.poll.stack().stats().rings_enlarged),
            sum(|end| end.poll.stack().stats().rings_reduced),
            sum(|end| end.poll.stack().stats().rings_short),
            sum(|end| end.poll.stack().stats().sent_again),
            sum(|end| end.poll.stack().stats().retransmission_timeouts),
            drops(DropReason::NoFrame),
            sum(|end| end.poll.stack().stats().parked),
            sum(|end| end.poll.stack().stats().contained),
            sum(|end| end.poll.stack().stats().fell_asleep),
            sum(|end| end.poll.stack().stats().woke),
            sum(|end| end.poll.stack().stats().cookies_sent),
            sum(|end| end.poll.stack().stats().cookies_accepted),
            drops(DropReason::SynQueueFull),
            drops(DropReason::NoFreeFlow),
            sum(|end| end.poll.ports().len() as u64),
            sum(|end| end.poll.stack().stats().datagrams),
            sum(|end| end.poll.stack().stats().fragments),
            self.datagrams.exact,
            self.most_turns_at_once,
            self.most_idle_turns,
            self.digest,
        )
    }
}
