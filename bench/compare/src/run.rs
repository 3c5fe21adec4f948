//! One run: server up and ready, warm-up, generator, server down; with what the machine did meanwhile.
//!
//! The server is started anew for every run, so that no run inherits another's state and no XDP program of one side
//! stays on the other's path. Everything that was started is gone when `measure` returns, whatever it returns.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::Serialize;
use serde_json::Value;

use crate::child::{Child, Ended, StartError, Stop, Waited};
use crate::cpu::{CpuTime, Foreign, ProcessTimes, load_average};
use crate::plan::{Plan, PlanError, Ready, Role};
use crate::report::{Report, last_object};
use crate::rounds::Slot;
use crate::summary::figure;

/// Time between two looks at /proc/stat while the generator runs.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Time for a generator that has ended to have its output closed.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);

/// Everything that is known of one run; stored as it is.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Round, place in it, side and value of the sweep.
    #[serde(flatten)]
    pub slot: Slot,
    /// Why the run is void; empty when it is valid.
    pub void: Vec<String>,
    /// True when it is void since a program failed, not since something disturbed it.
    pub failed: bool,
    /// The figures.
    pub report: Option<Report>,
    /// Length of the measured part, in seconds: the time that `cpu` covers.
    pub window_seconds: f64,
    /// The whole machine's processor time in the measured part, in seconds.
    pub cpu: CpuTime,
    /// The whole machine's busy time per request, in microseconds.
    pub cpu_us_per_request: Option<f64>,
    /// Time given to others by the hypervisor, in percent of all processors' time.
    pub steal_percent: f64,
    /// What programs outside the run used while the generator ran.
    pub foreign: Foreign,
    /// Load average of the last minute before the server was started.
    pub load_before: f64,
    /// The server's command.
    pub server_command: Vec<String>,
    /// The warm-up's command; empty for none.
    pub warm_up_command: Vec<String>,
    /// The generator's command.
    pub generator_command: Vec<String>,
    /// The object that the generator printed, untouched.
    pub generator_output: Option<Value>,
}

/// Why measuring cannot go on; what only spoils one run makes it void instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A program could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A command of the plan cannot be formed.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A command before the first run failed.
    #[error("'{command}' {ended}: {errors}; the comparison cannot begin without it")]
    Before {
        /// The command.
        command: String,
        /// How it ended.
        ended: String,
        /// What it printed on standard error.
        errors: String,
    },
    /// /proc could not be read.
    #[error("cannot read the machine's processor time: {0}; mount /proc")]
    Proc(#[source] io::Error),
    /// A result could not be stored.
    #[error("cannot store a result: {0}")]
    Store(String),
    /// A side cannot be measured.
    #[error("{side} failed twice in a row, the last time so: {reason}")]
    KeepsFailing {
        /// The side's name.
        side: String,
        /// Why the last run is void.
        reason: String,
    },
    /// Asked to stop.
    #[error("interrupted; every process was ended, and the runs measured so far are in the output folder")]
    Interrupted,
}

/// Runs `argv` to its end, such as a command that makes namespaces.
///
/// # Errors
/// When it cannot be started, fails, or runs longer than `bound`.
pub fn run_to_end(argv: &[String], env: &[(String, String)], bound: Duration, stop: &Stop) -> Result<(), RunError> {
    let child = Child::start(argv, None, env)?;
    let ended = match child.wait_until(Instant::now() + bound, stop) {
        Waited::Ended(Ended::Code(0)) => return Ok(()),
        Waited::Ended(ended) => ended.to_string(),
        Waited::Not if stop.is_set() => return Err(RunError::Interrupted),
        Waited::Not => format!("ran longer than {} s", bound.as_secs()),
    };
    Err(RunError::Before { command: argv.join(" "), ended, errors: child.last_errors() })
}

/// Measures one run of `plan`.
///
/// # Errors
/// [`RunError`] when going on is useless; a run that merely failed comes back void.
pub fn measure(plan: &Plan, slot: Slot, stop: &Stop) -> Result<Run, RunError> {
    let commands = match slot.capacity {
        true => plan.commands_of_capacity()?,
        false => plan.commands_at(slot.role, slot.value, slot.rate)?,
    };
    let mut run = Run {
        slot,
        void: Vec::new(),
        failed: false,
        report: None,
        window_seconds: 0.0,
        cpu: CpuTime::default(),
        cpu_us_per_request: None,
        steal_percent: 0.0,
        foreign: Foreign::default(),
        load_before: load_average(),
        server_command: commands.server,
        warm_up_command: commands.warm_up,
        generator_command: commands.generator,
        generator_output: None,
    };
    if let Err(reason) = steps(plan, &commands.ready, &mut run, stop)? {
        run.void.push(reason);
        run.failed = true;
    }
    if stop.is_set() { Err(RunError::Interrupted) } else { Ok(run) }
}

/// The steps of a run. The inner error is the reason for which the run is void.
fn steps(plan: &Plan, ready: &Ready, run: &mut Run, stop: &Stop) -> Result<Result<(), String>, RunError> {
    let Some(side) = plan.side(run.slot.role) else { return Ok(Err("the plan lacks this side".into())) };
    let generator = match &plan.capacity {
        Some(capacity) if run.slot.capacity => &capacity.generator,
        _ => plan.generator_of(side),
    };
    let env = plan.environment()?;
    let bound = Duration::from_secs(plan.bound_seconds);
    if let Some(address) = &ready.tcp
        && connect(address, ready.namespace.as_deref()).is_ok()
    {
        return Ok(Err(format!("{address} answers before the server was started; end what listens there")));
    }
    let server = Child::start(&run.server_command, side.cpus.as_deref(), &env)?;
    if let Err(reason) = wait_ready(&server, ready, bound, stop) {
        return Ok(Err(reason));
    }
    if !run.warm_up_command.is_empty() {
        let warm_up = Child::start(&run.warm_up_command, generator.cpus.as_deref(), &env)?;
        let waited = warm_up.wait_until(Instant::now() + bound, stop);
        if waited != Waited::Ended(Ended::Code(0)) {
            return Ok(Err(failed("warm-up", &warm_up, waited, bound)));
        }
    }

    let processes = ProcessTimes::now();
    let load = Child::start(&run.generator_command, generator.cpus.as_deref(), &env)?;
    let (begun, deadline) = (Instant::now(), Instant::now() + bound);
    let mut samples = vec![(Instant::now(), CpuTime::now().map_err(RunError::Proc)?)];
    let waited = loop {
        let next = (Instant::now() + SAMPLE_EVERY).min(deadline);
        let waited = load.wait_until(next, stop);
        samples.push((Instant::now(), CpuTime::now().map_err(RunError::Proc)?));
        if waited != Waited::Not || Instant::now() >= deadline || stop.is_set() {
            break waited;
        }
    };
    let wall = begun.elapsed().as_secs_f64();
    run.foreign = ProcessTimes::now().foreign_since(&processes, std::process::id(), &[server.group(), load.group()]);
    if let Some(ended) = server.ended() {
        return Ok(Err(format!("the server {ended} during the measurement: {}", server.last_errors())));
    }
    if waited != Waited::Ended(Ended::Code(0)) {
        // Its object, if any, may still say what went wrong.
        run.generator_output = last_object(&load.output_so_far()).ok();
        return Ok(Err(failed("generator", &load, waited, bound)));
    }
    let output = match load.output(OUTPUT_GRACE) {
        Ok(output) => output,
        Err(reason) => return Ok(Err(reason)),
    };
    Ok(last_object(&output)
        .and_then(|object| {
            let report = Report::read(&object, &generator.report);
            run.generator_output = Some(object);
            report
        })
        .map(|report| judge(plan, run, report, &samples, wall))
        .map_err(|error| error.to_string()))
}

fn judge(plan: &Plan, run: &mut Run, report: Report, samples: &[(Instant, CpuTime)], wall: f64) {
    let seconds = report.seconds.unwrap_or(wall).min(wall);
    run.cpu = last_part(samples, seconds);
    run.window_seconds = seconds;
    run.steal_percent = run.cpu.steal_percent();
    let requests = report.requests.unwrap_or(report.requests_per_second * seconds);
    run.cpu_us_per_request = (requests > 0.0).then(|| run.cpu.busy() * 1e6 / requests);
    // Foreign programs are counted over the generator's whole run, loading included: they are as harmful there.
    run.void.extend(plan.void.reasons(&report, &run.cpu, &run.foreign, wall));
    if let (Some(capacity), Some(rate)) = (&plan.capacity, run.slot.rate)
        && run.slot.role != Role::Ours
        && report.requests_per_second * 100.0 < rate as f64 * capacity.least_percent
    {
        run.void.push(format!(
            "answered {:.0} of {rate} requests a second that were offered, limit {} %: the machine has become slower \
             since the capacity was measured",
            report.requests_per_second, capacity.least_percent
        ));
    }
    if figure(plan.metric, &report).is_none() && run.slot.role != Role::Null && !run.slot.capacity {
        run.void.push(format!("the generator reports no {}", plan.metric.label()));
    }
    run.report = Some(report);
}

/// Processor time of the last `seconds` of `samples`; between two samples the machine is taken to be even.
fn last_part(samples: &[(Instant, CpuTime)], seconds: f64) -> CpuTime {
    let Some((end, last)) = samples.last() else { return CpuTime::default() };
    let age = |sample: &(Instant, CpuTime)| end.duration_since(sample.0).as_secs_f64();
    let Some(at) = samples.iter().rposition(|sample| age(sample) >= seconds) else {
        return last.since(&samples[0].1);
    };
    let Some(after) = samples.get(at + 1) else { return CpuTime::default() };
    let (early, late) = (age(&samples[at]), age(after));
    let share = if early > late { (seconds - late) / (early - late) } else { 0.0 };
    let (partly, wholly) = (after.1.since(&samples[at].1), last.since(&after.1));
    let sum = |part: f64, whole: f64| part * share + whole;
    CpuTime {
        user: sum(partly.user, wholly.user),
        system: sum(partly.system, wholly.system),
        irq: sum(partly.irq, wholly.irq),
        softirq: sum(partly.softirq, wholly.softirq),
        idle: sum(partly.idle, wholly.idle),
        steal: sum(partly.steal, wholly.steal),
    }
}

fn failed(what: &str, child: &Child, waited: Waited, bound: Duration) -> String {
    let how = match waited {
        Waited::Ended(ended) => ended.to_string(),
        Waited::Not => format!("ran longer than {} s and was ended; see bound_seconds", bound.as_secs()),
    };
    let errors = child.last_errors();
    format!("the {what} {how}{}{errors}", if errors.is_empty() { "" } else { ": " })
}

/// Waits until the server is ready.
fn wait_ready(server: &Child, ready: &Ready, bound: Duration, stop: &Stop) -> Result<(), String> {
    let deadline = Instant::now() + bound;
    let nap = Duration::from_millis(20);
    let mut last_problem = String::new();
    loop {
        let printed = match (&ready.stdout, &ready.stderr) {
            (Some(text), _) => Some((text, "output", server.output_so_far())),
            (_, Some(text)) => Some((text, "error", server.errors_so_far())),
            (None, None) => None,
        };
        if let Some((text, stream, printed)) = printed {
            if printed.lines().any(|line| line.contains(text.as_str())) {
                return Ok(());
            }
            last_problem = format!("no line of its standard {stream} contains '{text}'");
        }
        if let Some(address) = &ready.tcp {
            match connect(address, ready.namespace.as_deref()) {
                Ok(()) => return Ok(()),
                Err(error) => last_problem = format!("{address} does not answer: {error}"),
            }
        }
        if let Waited::Ended(ended) = server.wait_until((Instant::now() + nap).min(deadline), stop) {
            return Err(format!("the server {ended} before it was ready: {}", server.last_errors()));
        }
        if stop.is_set() || Instant::now() >= deadline {
            let errors = server.last_errors();
            return Err(format!("the server was not ready within {} s: {last_problem}; {errors}", bound.as_secs()));
        }
    }
}

/// Connects once and closes, from inside `namespace` when given.
fn connect(address: &str, namespace: Option<&str>) -> io::Result<()> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let once = || TcpStream::connect_timeout(&address, Duration::from_secs(1)).map(drop);
    let Some(namespace) = namespace else { return once() };
    let file = std::fs::File::open(Path::new("/run/netns").join(namespace))?;
    // A namespace belongs to a thread: one that ends right after never leads the rest of us astray.
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))?;
            once()
        });
        inside.join().unwrap_or_else(|_| Err(io::Error::other("the connecting thread failed")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_is_cut_between_samples() {
        let start = Instant::now();
        let at = |ms: u64, user: f64| (start + Duration::from_millis(ms), CpuTime { user, ..CpuTime::default() });
        // One second of loading at full speed, then two seconds at half.
        let samples = [at(0, 0.0), at(1000, 1.0), at(2000, 1.5), at(3000, 2.0)];
        assert!((last_part(&samples, 2.0).user - 1.0).abs() < 1e-9);
        assert!((last_part(&samples, 1.5).user - 0.75).abs() < 1e-9);
        assert!((last_part(&samples, 2.5).user - 1.5).abs() < 1e-9);
        assert!((last_part(&samples, 3.0).user - 2.0).abs() < 1e-9);
        assert!((last_part(&samples, 9.0).user - 2.0).abs() < 1e-9);
        assert_eq!(last_part(&[], 1.0), CpuTime::default());
    }
}
