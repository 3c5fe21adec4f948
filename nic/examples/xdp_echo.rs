//! Echoes UDP over AF_XDP, or drives such an echo and says how many frames come back a second.
//!
//! ```text
//! xdp_echo serve LINK ADDRESS [native|generic]
//! xdp_echo drive LINK ADDRESS TO_MAC TO_ADDRESS SECONDS [native|generic]
//! ```
//!
//! One thread a queue. `serve` ends when its standard input does. Neither answers ARP: `drive` is told the MAC address.

use std::error::Error;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sidestep_nic::xdp::{AttachMode, XdpConfig, XdpDevice, XdpQueue};
use sidestep_nic::{Burst, Doorbell, Queue, QueueError, Sleeper};

/// Frames that a driving queue has under way at most.
const WINDOW: usize = 128;

/// Length of a frame: Ethernet, IPv4 and UDP header and 22 bytes.
const FRAME_BYTES: usize = 64;

/// Where the bytes of a frame are that an echo exchanges.
const MACS: [usize; 3] = [0, 6, 6];
const ADDRESSES: [usize; 3] = [26, 30, 4];
const PORTS: [usize; 3] = [34, 36, 2];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xdp_echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", link, address, ref mode @ ..] => serve(&config(link, address, mode)?),
        ["drive", link, address, to_mac, to_address, seconds, ref mode @ ..] => {
            let to = (parse_mac(to_mac)?, to_address.parse()?);
            drive(&config(link, address, mode)?, address.parse()?, to, Duration::from_secs(seconds.parse()?))
        }
        _ => Err("usage: xdp_echo serve LINK ADDRESS | drive LINK ADDRESS TO_MAC TO_ADDRESS SECONDS".into()),
    }
}

fn config(link: &str, address: &str, mode: &[&str]) -> Result<XdpConfig, Box<dyn Error>> {
    let attach = match mode {
        [] => AttachMode::Auto,
        ["native"] => AttachMode::Native,
        ["generic"] => AttachMode::Generic,
        _ => return Err("the mode is native or generic".into()),
    };
    Ok(XdpConfig { attach, ..XdpConfig::new(link, address.parse::<Ipv4Addr>()?) })
}

fn parse_mac(text: &str) -> Result<[u8; 6], Box<dyn Error>> {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<u8>, _>>()?;
    bytes.try_into().map_err(|_| "a MAC address has six bytes".into())
}

/// Opens the device and runs `work` on a thread for each queue until `end` returns.
fn on_every_queue<T: Send>(
    config: &XdpConfig,
    work: impl Fn(XdpQueue, &AtomicBool) -> Result<T, QueueError> + Sync,
    end: impl FnOnce(),
) -> Result<Vec<T>, Box<dyn Error>> {
    let mut device = XdpDevice::open(config)?;
    println!("{}: {} queues, {}", config.link, device.queue_ids().len(), device.obtained());
    let queues: Vec<_> = device.queue_ids().into_iter().filter_map(|id| device.take_queue(id)).collect();
    let stop = AtomicBool::new(false);
    let results = std::thread::scope(|scope| {
        let (work, stop) = (&work, &stop);
        let threads: Vec<_> = queues.into_iter().map(|queue| scope.spawn(move || work(queue, stop))).collect();
        end();
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    println!("{}: {:?}", config.link, device.steering().counters()?);
    results.into_iter().map(|result| Ok(result.map_err(|_| "a thread panicked")??)).collect()
}

fn serve(config: &XdpConfig) -> Result<(), Box<dyn Error>> {
    let until_input_ends = || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    };
    on_every_queue(config, echo, until_input_ends)?;
    Ok(())
}

fn echo(mut queue: XdpQueue, stop: &AtomicBool) -> Result<(), QueueError> {
    let (mut received, mut replies) = (Burst::default(), Burst::default());
    let mut sleeper = sleeper(&queue);
    while !stop.load(Ordering::Relaxed) {
        if queue.rx_burst(&mut received) == 0 && replies.is_empty() {
            // A moment, so that the end of the input is seen.
            let _ = sleeper.as_mut().map(|sleeper| sleeper.sleep(Some(Duration::from_millis(50)), || false));
        }
        while replies.room() > 0
            && let Some(mut frame) = received.pop()
        {
            if frame.len() >= FRAME_BYTES {
                for [one, other, len] in [MACS, ADDRESSES, PORTS] {
                    let (head, tail) = frame.bytes_mut().split_at_mut(other);
                    head[one..one + len].swap_with_slice(&mut tail[..len]);
                }
                let _ = replies.push(frame).map_err(|frame| queue.free(frame));
            } else {
                queue.free(frame);
            }
        }
        queue.tx_burst(&mut replies);
        queue.flush()?;
    }
    println!("queue {}: {:?} {:?}", queue.id().0, queue.stats(), queue.xdp_stats());
    Ok(())
}

fn drive(config: &XdpConfig, from: Ipv4Addr, to: ([u8; 6], Ipv4Addr), time: Duration) -> Result<(), Box<dyn Error>> {
    let header = header(from, to);
    let start = Instant::now();
    let echoes = on_every_queue(config, |queue, stop| exchange(queue, &header, stop), || std::thread::sleep(time))?;
    let (sum, seconds) = (echoes.iter().sum::<u64>(), start.elapsed().as_secs_f64());
    println!("{sum} echoes in {seconds:.2} s, {:.0} a second, by queue {echoes:?}", sum as f64 / seconds);
    Ok(())
}

/// Keeps a window of frames under way and counts those that come back. Frames lost are given up after a quiet moment.
fn exchange(mut queue: XdpQueue, header: &[u8; FRAME_BYTES], stop: &AtomicBool) -> Result<u64, QueueError> {
    let (mut received, mut requests) = (Burst::default(), Burst::default());
    let mut sleeper = sleeper(&queue);
    let (mut under_way, mut echoes) = (0, 0u64);
    while !stop.load(Ordering::Relaxed) {
        while under_way < WINDOW && requests.room() > 0 {
            let Some(mut frame) = queue.tx_alloc() else { break };
            if frame.resize(FRAME_BYTES).is_ok() {
                frame.bytes_mut().copy_from_slice(header);
            }
            let _ = requests.push(frame).map_err(|frame| queue.free(frame));
            under_way += 1;
        }
        queue.tx_burst(&mut requests);
        queue.flush()?;
        let count = queue.rx_burst(&mut received);
        echoes += count as u64;
        under_way = under_way.saturating_sub(count);
        while let Some(frame) = received.pop() {
            queue.free(frame);
        }
        if count == 0 && under_way == WINDOW {
            let woken = sleeper.as_mut().map(|sleeper| sleeper.sleep(Some(Duration::from_millis(20)), || false));
            if matches!(woken, Some(Ok(sidestep_nic::Woken::Idle))) {
                under_way = 0;
            }
        }
    }
    println!("queue {}: {:?} {:?}", queue.id().0, queue.stats(), queue.xdp_stats());
    Ok(echoes)
}

fn sleeper(queue: &XdpQueue) -> Option<Sleeper> {
    Some(Sleeper::new(Arc::new(Doorbell::new().ok()?), queue.raw_fd()))
}

fn header(from: Ipv4Addr, (to_mac, to): ([u8; 6], Ipv4Addr)) -> [u8; FRAME_BYTES] {
    let mut frame = [0; FRAME_BYTES];
    frame[0..6].copy_from_slice(&to_mac);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14] = 0x45;
    frame[17] = (FRAME_BYTES - 14) as u8;
    frame[22..24].copy_from_slice(&[64, 17]);
    frame[26..30].copy_from_slice(&from.octets());
    frame[30..34].copy_from_slice(&to.octets());
    frame[34..38].copy_from_slice(&[0, 7, 0, 7]);
    frame[39] = (FRAME_BYTES - 34) as u8;
    frame
}
