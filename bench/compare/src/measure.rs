//! One run: server up and ready, warm-up, generator, server down; with what the machine did meanwhile.
//!
//! The server is started anew for every run, so that no run inherits another's state and no XDP program of one side
//! stays on the other's path. Everything that was started is gone when `measure` returns, whatever it returns.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::child::{Child, Ended, Stop};
use crate::cpu::{CpuTime, Foreign, ProcessTimes, load_average};
use crate::plan::{Plan, Ready, Role};
use crate::report::{Report, last_object};
use crate::run::{Run, RunError, RunId};

/// Time between two looks at /proc/stat while the generator runs.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Time for a generator that has ended to have its output closed.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);

/// Runs `argv` to its end, such as a command that makes namespaces.
///
/// # Errors
/// When it cannot be started, fails, or runs longer than `bound`.
pub fn run_to_end(argv: &[String], env: &[(String, String)], bound: Duration, stop: &Stop) -> Result<(), RunError> {
    let child = Child::start(argv, None, env)?;
    let ended = match child.wait_until(Instant::now() + bound, stop) {
        Some(Ended::Code(0)) => return Ok(()),
        Some(ended) => ended.to_string(),
        None if stop.is_set() => return Err(RunError::Interrupted),
        None => format!("ran longer than {} s", bound.as_secs()),
    };
    Err(RunError::Before { command: argv.join(" "), ended, errors: child.last_errors() })
}

/// Makes one run; what goes wrong in it is in the run.
///
/// # Errors
/// [`RunError`]: no run of this plan can be made, or the user asked to stop.
pub fn measure(plan: &Plan, id: RunId, stop: &Stop) -> Result<Run, RunError> {
    let commands = match id.capacity {
        true => plan.commands_of_capacity()?,
        false => plan.commands(id.role, id.value, id.rate)?,
    };
    let mut run = Run {
        id,
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
    match steps(plan, &commands.ready, &mut run, stop) {
        Err(RunError::Void(reason)) => {
            run.void.push(reason);
            run.failed = true;
        }
        result => result?,
    }
    if stop.is_set() { Err(RunError::Interrupted) } else { Ok(run) }
}

fn steps(plan: &Plan, ready: &Ready, run: &mut Run, stop: &Stop) -> Result<(), RunError> {
    let side = plan.side(run.id.role).ok_or_else(|| RunError::Void("the plan lacks this side".into()))?;
    let generator = match &plan.capacity {
        Some(capacity) if run.id.capacity => &capacity.generator,
        _ => plan.generator_of(side),
    };
    let (env, bound) = (plan.environment()?, Duration::from_secs(plan.bound_seconds));
    if let Some(address) = &ready.tcp
        && connect(address, ready.namespace.as_deref()).is_ok()
    {
        let problem = format!("{address} answers before the server was started; end what listens there");
        return Err(RunError::Void(problem));
    }
    let server = Child::start(&run.server_command, side.cpus.as_deref(), &env)?;
    wait_ready(&server, ready, bound, stop).map_err(RunError::Void)?;
    if !run.warm_up_command.is_empty() {
        let warm_up = Child::start(&run.warm_up_command, generator.cpus.as_deref(), &env)?;
        let ended = warm_up.wait_until(Instant::now() + bound, stop);
        succeeded("warm-up", &warm_up, ended, bound)?;
    }

    let (watched, processes) = (Instant::now(), ProcessTimes::now());
    let load = Child::start(&run.generator_command, generator.cpus.as_deref(), &env)?;
    let (begun, deadline) = (Instant::now(), Instant::now() + bound);
    let mut samples = vec![(Instant::now(), CpuTime::now().map_err(RunError::Proc)?)];
    let ended = loop {
        let next = (Instant::now() + SAMPLE_EVERY).min(deadline);
        let ended = load.wait_until(next, stop);
        samples.push((Instant::now(), CpuTime::now().map_err(RunError::Proc)?));
        if ended.is_some() || Instant::now() >= deadline || stop.is_set() {
            break ended;
        }
    };
    let wall = begun.elapsed().as_secs_f64();
    // Both looks at all processes take their time; what is used meanwhile belongs to it.
    let processes_after = ProcessTimes::now();
    let watched = watched.elapsed().as_secs_f64();
    run.foreign = processes_after.foreign_since(&processes, std::process::id(), &[server.group(), load.group()]);
    if let Some(ended) = server.ended() {
        let problem = format!("the server {ended} during the measurement: {}", server.last_errors());
        return Err(RunError::Void(problem));
    }
    if let Err(failure) = succeeded("generator", &load, ended, bound) {
        // Its object, if any, may still say what went wrong.
        run.generator_output = last_object(&load.output_so_far()).ok();
        return Err(failure);
    }
    let output = load.output(OUTPUT_GRACE).map_err(RunError::Void)?;
    let object = last_object(&output).map_err(|error| RunError::Void(error.to_string()))?;
    let report = Report::read(&object, &generator.report);
    run.generator_output = Some(object);
    judge(plan, run, report.map_err(|error| RunError::Void(error.to_string()))?, &samples, (wall, watched));
    Ok(())
}

/// `wall` and `watched`: how long the generator ran, and how long foreign programs were watched, in seconds.
fn judge(plan: &Plan, run: &mut Run, report: Report, samples: &[(Instant, CpuTime)], (wall, watched): (f64, f64)) {
    let seconds = report.seconds.unwrap_or(wall).min(wall);
    run.cpu = last_part(samples, seconds);
    run.window_seconds = seconds;
    run.steal_percent = run.cpu.steal_percent();
    let requests = report.requests.unwrap_or(report.requests_per_second * seconds);
    run.cpu_us_per_request = (requests > 0.0).then(|| run.cpu.busy() * 1e6 / requests);
    // Foreign programs are counted over the generator's whole run, loading included: they are as harmful there.
    run.void.extend(plan.void.reasons(&report, &run.cpu, &run.foreign, watched));
    if let (Some(capacity), Some(rate)) = (&plan.capacity, run.id.rate)
        && run.id.role != Role::Ours
        && report.requests_per_second * 100.0 < rate as f64 * capacity.least_percent
    {
        run.void.push(format!(
            "answered {:.0} of {rate} requests a second that were offered, limit {} %: the machine has become slower \
             since the capacity was measured",
            report.requests_per_second, capacity.least_percent
        ));
    }
    if plan.metric.of(&report).is_none() && run.id.role != Role::Null && !run.id.capacity {
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
    partly.with(&wholly, |part, whole| part * share + whole)
}

/// Whether a program ended well.
fn succeeded(what: &str, child: &Child, ended: Option<Ended>, bound: Duration) -> Result<(), RunError> {
    let how = match ended {
        Some(Ended::Code(0)) => return Ok(()),
        Some(ended) => ended.to_string(),
        None => format!("ran longer than {} s and was ended; see bound_seconds", bound.as_secs()),
    };
    let errors = child.last_errors();
    Err(RunError::Void(format!("the {what} {how}{}{errors}", if errors.is_empty() { "" } else { ": " })))
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
        if let Some(ended) = server.wait_until((Instant::now() + nap).min(deadline), stop) {
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
    // setns(2) moves one thread: one of its own, so that no other thread leaves its namespace.
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
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
