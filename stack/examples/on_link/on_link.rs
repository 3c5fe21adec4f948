//! One core on the queues of a link, for the examples: everything that is the machine's and not the program's.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use nic::xdp::{XdpConfig, XdpDevice, XdpQueue};
use nic::{Doorbell, Queue, Sleeper};
use sidestep_stack::{Events, Mac, NetStack, Poll, Secrets, StackConfig, Time};

/// Takes turns at `address`/24 on all queues of `link`, set as `adjust` says, for ever; needs root. `begin` makes the program,
/// `turn` is one turn of it.
pub fn run<P>(
    link: &str,
    address: Ipv4Addr,
    adjust: impl FnOnce(&mut StackConfig),
    begin: impl FnOnce(&mut Poll<XdpQueue>) -> P,
    mut turn: impl FnMut(&mut P, &mut Poll<XdpQueue>, Time, &mut Events) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut device = XdpDevice::open(&XdpConfig::new(link, address))?;
    let mut config = StackConfig::new(address, 24, Mac(device.link().mac.0));
    adjust(&mut config);
    let mut seed = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let ids = device.queue_ids();
    let queues: Vec<_> = ids.into_iter().filter_map(|id| device.take_queue(id)).collect();
    let fds: Vec<_> = queues.iter().filter_map(|queue| queue.raw_fd()).collect();
    let mut sleeper = Sleeper::new(Arc::new(Doorbell::new()?), fds);
    let mut poll = Poll::new(NetStack::new(config, Secrets::from_bytes(seed))?, queues);
    let mut program = begin(&mut poll);
    let mut events = Events::with_capacity(256);
    let start = Instant::now();
    let now = || Time::from_duration(start.elapsed());
    loop {
        turn(&mut program, &mut poll, now(), &mut events)?;
        if events.is_empty() {
            sleeper.sleep(poll.idle(now()), || poll.has_work())?;
        }
    }
}
