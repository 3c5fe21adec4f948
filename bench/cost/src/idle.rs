//! `Idle`: what connections cost that are open and say nothing.
//!
//! Two workers with the same active connections, of which one has the idle ones besides, take batches of turns by turns;
//! their ratio is that of pairs. What the idle ones take is what the one worker has resident once they are open beyond what
//! the other has, both made anew, less what their clients are, and less the blocks of both, which are as many as may be
//! awake, however many there are that sleep. Then each is asked once, in turn, which wakes it; the active ones of the same worker, asked in
//! the same way, are what that is compared with.

use std::ops::Range;

use crate::Failure;
use crate::bench::Bench;
use crate::client::Client;
use crate::cycles::rate_hz;
use crate::workload::Shape;
use stack::Rings;

/// Turns of a batch.
const BATCH_TURNS: usize = 16;
/// Connections asked in one turn.
const GROUP: usize = 32;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct IdlePlan {
    /// Idle connections.
    pub idle: usize,
    /// Connections that ask all the time.
    pub active: usize,
    /// Most connections that are awake.
    pub awake: usize,
    /// Pairs of batches.
    pub pairs: usize,
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    plan: IdlePlan,
    /// Bytes resident of the worker without the idle connections, and of the one beside them, their blocks not counted.
    resident: [u64; 2],
    /// Bytes of the latter's blocks.
    blocks: u64,
    /// Of the pairs: what the active ones did beside the idle ones, over what they did without; least, median, most.
    ratio: [f64; 3],
    /// Microseconds of a GET, the median of all turns: of active connections, and of idle ones.
    micros: [f64; 2],
    /// Flows that slept when all were open, and that were woken when each was asked once.
    asleep: usize,
    woken: u64,
}

/// Measures what `plan` says.
///
/// # Errors
/// It asks for too few or too many connections, or the server did something wrong.
pub fn measure(plan: &IdlePlan) -> Result<Idle, Failure> {
    let IdlePlan { idle, active, awake, pairs } = *plan;
    if active < 2 * GROUP || !(1..=1 << 24).contains(&(active + idle)) || awake < 2 * active || pairs == 0 {
        return Err("choose at least 64 active ones, half as many as may be awake, and below 2^24 in all".into());
    }
    let hz = rate_hz();
    let nothing = resident()?;
    let mut without = Bench::of(Shape::beside_idle(active, 0, usize::MAX))?;
    rest(&mut without, 0..active)?;
    let one = resident()?;
    let mut beside = Bench::of(Shape::beside_idle(active, idle, awake))?;
    rest(&mut beside, 0..active)?;
    beside.open_more(idle)?;
    let both = resident()?;
    let clients = (idle * size_of::<Client>()) as u64;
    let blocks = [&mut without, &mut beside].map(|bench| {
        let made = bench.worker().poll.stack().sleepers().1;
        (made * Rings::DEFAULT.flow_bytes()) as u64
    });
    let resident = [one.saturating_sub(nothing + blocks[0]), both.saturating_sub(one + clients + blocks[1])];
    let asleep = beside.worker().poll.stack().sleepers().0;
    let ratio = compare(&mut without, &mut beside, pairs)?;
    rest(&mut beside, 0..active)?;
    let woke = beside.worker().poll.stack().stats().woke;
    let idle_micros = ask_each(&mut beside, active..active + idle)? / hz * 1e6;
    let woken = beside.worker().poll.stack().stats().woke - woke;
    // Twice: the first time the last of the idle ones have put them to sleep, or their memory is far.
    ask_each(&mut beside, 0..active)?;
    let active_micros = ask_each(&mut beside, 0..active)? / hz * 1e6;
    Ok(Idle { plan: *plan, resident, blocks: blocks[1], ratio, micros: [active_micros, idle_micros], asleep, woken })
}

/// Has the clients acknowledge all that they were answered.
fn rest(bench: &mut Bench, clients: Range<usize>) -> Result<(), Failure> {
    for group in groups(clients) {
        bench.acknowledge(group)?;
    }
    Ok(())
}

fn groups(clients: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    clients.clone().step_by(GROUP).map(move |first| first..clients.end.min(first + GROUP))
}

/// How much the active connections of `beside` did over those of `without`: least, median and most of the pairs.
fn compare(without: &mut Bench, beside: &mut Bench, pairs: usize) -> Result<[f64; 3], Failure> {
    let mut ratios = Vec::with_capacity(pairs);
    for pair in 0..pairs {
        // Each goes first every other time.
        let (first, second) = if pair % 2 == 0 { (&mut *without, &mut *beside) } else { (&mut *beside, &mut *without) };
        let spent = [batch(first)?, batch(second)?];
        let [without, beside] = if pair % 2 == 0 { spent } else { [spent[1], spent[0]] };
        ratios.push(without / beside);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    Ok([ratios[0], ratios[pairs / 2], ratios[pairs - 1]])
}

/// Cycles of a request, in one batch.
fn batch(bench: &mut Bench) -> Result<f64, Failure> {
    let (mut spent, mut answered) = (0, 0);
    for _ in 0..BATCH_TURNS {
        answered += bench.turn(|worker, time, now| {
            let begin = cpu::cycles();
            let outcome = worker.turn(time, now);
            spent += cpu::cycles() - begin;
            outcome
        })?;
    }
    Ok(spent as f64 / answered.max(1) as f64)
}

/// Each of `clients` asks once, 32 in a turn. Returns cycles of a request, the median of the turns.
fn ask_each(bench: &mut Bench, clients: Range<usize>) -> Result<f64, Failure> {
    let mut spent = Vec::with_capacity(clients.len() / GROUP + 1);
    for group in groups(clients) {
        let count = group.len() as f64;
        bench.ask(group.clone(), |worker, time, now| {
            let begin = cpu::cycles();
            let outcome = worker.turn(time, now);
            spent.push((cpu::cycles() - begin) as f64 / count);
            outcome
        })?;
        bench.acknowledge(group)?;
    }
    spent.sort_unstable_by(f64::total_cmp);
    Ok(spent[spent.len() / 2])
}

/// Bytes of this process that are resident (`proc_pid_status(5)`, VmRSS).
fn resident() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|line| line.trim().strip_suffix("kB")).ok_or("no VmRSS")?.trim().parse()?;
    Ok(kib << 10)
}

impl Idle {
    /// Bytes of an idle connection, all that the server keeps of it counted.
    pub fn bytes_each(&self) -> f64 {
        self.resident[1].saturating_sub(self.resident[0]) as f64 / self.plan.idle as f64
    }

    /// In words and figures.
    pub fn table(&self) -> String {
        let IdlePlan { idle, active, awake, pairs } = self.plan;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let ([without, beside], blocks) = (self.resident.map(mib), mib(self.blocks));
        let ([least, median, most], [hot, woken]) = (self.ratio, self.micros);
        format!(
            "{idle} idle connections beside {active} active ones, {awake} awake at most\n\
             resident MiB without them, beside them     {without:.1} {beside:.1}, and blocks of those awake {blocks:.1}\n\
             bytes of each idle one                     {:.1}\n\
             asleep once all were open                  {}\n\
             active ones beside them / without, {pairs} pairs: median [least, most]  {median:.3} [{least:.3}, {most:.3}]\n\
             us of a GET, 32 a turn: active, woken      {hot:.3} {woken:.3}\n\
             a wake's                                   {:.3}\n\
             woken when each was asked once             {}\n",
            self.bytes_each(),
            self.asleep,
            woken - hot,
            self.woken,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_connections_sleep_and_each_is_woken_by_what_it_asks() {
        let plan = IdlePlan { idle: 5_000, active: 64, awake: 1_024, pairs: 3 };
        let idle = measure(&plan).unwrap();
        assert!(idle.asleep >= 5_000 - 1_024 && idle.woken >= 4_000, "{idle:?}");
        assert!(idle.table().contains("bytes of each"));
    }
}
