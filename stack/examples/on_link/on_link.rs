//! One core on the queues of a link, for the examples: everything that is the machine's and not the program's.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nic::Doorbell;
use nic::xdp::{XdpConfig, XdpDevice, XdpQueue};
use sidestep_stack::{Mac, NetStack, Poll, Secrets, StackConfig, Time, Waiter};

/// How long it looks for frames before it sleeps.
const SPIN: Duration = Duration::from_micros(50);

/// How long it sleeps at most: a program may have something to do that the network knows nothing of.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// Takes turns at `address`/24 on all queues of `link`, set as `adjust` says, for ever; needs root. `begin` makes the program,
/// `turn` is one turn of it, and says whether anything came or left.
pub fn run<P>(
    link: &str,
    address: Ipv4Addr,
    adjust: impl FnOnce(&mut StackConfig),
    begin: impl FnOnce(&mut Poll<XdpQueue>) -> P,
    mut turn: impl FnMut(&mut P, &mut Poll<XdpQueue>, Time) -> Result<bool, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut device = XdpDevice::open(&XdpConfig::new(link, address))?;
    let mut config = StackConfig::new(address, 24, Mac(device.link().mac.0));
    adjust(&mut config);
    let mut seed = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let ids = device.queue_ids();
    let queues: Vec<_> = ids.into_iter().filter_map(|id| device.take_queue(id)).collect();
    let mut poll = Poll::new(NetStack::new(config, Secrets::from_bytes(seed))?, queues);
    let mut waiter = Waiter::new(poll.sleeper(Arc::new(Doorbell::new()?)), SPIN);
    let mut program = begin(&mut poll);
    let start = Instant::now();
    loop {
        let now = Time::from_duration(start.elapsed());
        if turn(&mut program, &mut poll, now)? {
            waiter.note_busy(now);
        }
        let limit = poll.idle(now).unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP);
        waiter.wait(now, Some(limit), || poll.has_work())?;
    }
}
