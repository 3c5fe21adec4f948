//! What one input of the UDP target does: datagrams with their frame headers, to several cores, from those who are
//! trusted and those who are not, with a connection of TCP beside them.
//!
//! The input is a [`Script`] whose every piece between two marks is one datagram, header and all. The slot says who
//! sends it: 0 and 1 are trusted, 2 and 3 are not, each to another core. From `d` to `r` no frame is left to send in.
//! What follows `s` or `c` is not sent as a datagram but said by a connection of TCP, which `c` begins anew.

use std::collections::BTreeMap;

use sidestep_cache::{CacheConfig, Network, Protocol};

use super::script::{Mode, Script, Step};
use super::{Spoken, TURNS_MAX, Transcript, config_of, lines, packets, tells_of_the_pace};
use crate::loopback::{Loopback, Pace, SENDER};

/// Bytes of the frame header.
const HEADER: usize = 8;

/// The longest datagram of a reply.
const REPLY_MAX: usize = 1400;

/// The longest datagram that Ethernet carries.
const DATAGRAM_MAX: usize = 1472;

/// Who is never trusted.
const STRANGERS: [[u8; 4]; 2] = [[192, 0, 2, 1], [192, 0, 2, 2]];

/// A datagram, and what answered it.
#[derive(Debug, PartialEq, Eq)]
struct Exchange {
    slot: usize,
    datagram: Vec<u8>,
    replies: Vec<Vec<u8>>,
}

/// What went back and forth, and how many requests were given up.
struct Played {
    exchanges: Vec<Exchange>,
    given_up: u64,
}

/// Plays `input` and panics when a promise is broken: a datagram that no request explains, out of its place or too
/// long, a reply that is none, more than three times its due to a stranger, replies that depend on the order of the
/// cores' turns, anything held at the end.
pub fn drive(input: &[u8]) {
    let Some(script) = Script::read(input) else { return };
    let mut config = config_of(Spoken::Lines, &script);
    config.protocol = if script.asks_who { Protocol::Ascii } else { Protocol::Auto };
    config.datagram_places = if script.mode == Mode::Scarce { 2 } else { 16 };
    let pace = if script.mode == Mode::Settled { Pace::Even } else { Pace::Seeded };
    let whole = play(&config, &script, pace);
    check(&whole, config.protocol == Protocol::Auto);
    let told = |exchange: &Exchange| {
        exchange
            .replies
            .iter()
            .any(|reply| [Spoken::Lines, Spoken::Packets].iter().any(|&spoken| tells_of_the_pace(spoken, reply)))
    };
    if script.mode == Mode::Settled && !whole.exchanges.iter().any(told) {
        let again = play(&config, &script, Pace::Seeded);
        for (number, (even, seeded)) in whole.exchanges.iter().zip(&again.exchanges).enumerate() {
            let shown =
                |replies: &[Vec<u8>]| replies.iter().map(|reply| reply.escape_ascii().to_string()).collect::<Vec<_>>();
            assert!(
                even == seeded,
                "datagram {number} is answered {:?} and {:?}",
                shown(&even.replies),
                shown(&seeded.replies)
            );
        }
    }
}

fn play(config: &CacheConfig, script: &Script, pace: Pace) -> Played {
    let mut cache = Loopback::new(config, pace, script.seed);
    cache.trust(&[Network::new([10, 0, 0, 0], 8).expect("a network")]);
    let (mut exchanges, mut stream, mut client) = (Vec::<Exchange>::new(), false, None);
    for step in &script.steps {
        match *step {
            Step::Say { bytes, .. } if stream => {
                stream = false;
                let live = client.filter(|&client| !cache.is_closed(client));
                let live = live.unwrap_or_else(|| cache.connect(config.cores - 1));
                cache.send(live, bytes);
                client = Some(live);
            }
            Step::Say { slot, bytes } => {
                let datagram = &bytes[..bytes.len().min(DATAGRAM_MAX)];
                let source = if slot < 2 { SENDER } else { STRANGERS[slot - 2] };
                let number = exchanges.len() as u32;
                exchanges.push(Exchange { slot, datagram: datagram.to_vec(), replies: Vec::new() });
                cache.datagram_from(slot % config.cores, source, number, datagram);
            }
            Step::Pause => {}
            Step::Tick(secs) => cache.now.secs += secs,
            Step::Reads { reads, .. } => cache.mailbox.frames = if reads { None } else { Some(0) },
            Step::ShutDown { .. } => stream = true,
            Step::Die { .. } => {
                stream = true;
                client.take().into_iter().for_each(|client| cache.close(client));
            }
        }
        if script.mode == Mode::Settled || matches!(step, Step::Pause | Step::Tick(_)) {
            cache.run_within(TURNS_MAX);
        } else {
            for _ in 0..cache.below(6) {
                let core = cache.below(config.cores);
                cache.turn(core);
            }
        }
    }
    cache.mailbox.frames = None;
    cache.run_within(TURNS_MAX);
    // Who waits for what a connection holds, such as the room of a value that never ends, is given up after a while.
    cache.now.secs += 30;
    cache.run_within(TURNS_MAX);
    cache.close_all();
    cache.assert_nothing_held();
    for (number, datagram) in std::mem::take(&mut cache.mailbox.sent) {
        let exchange = exchanges.get_mut(number as usize).expect("an answer goes to one who has asked");
        exchange.replies.push(datagram);
    }
    let given_up = cache.cores.iter().map(|core| core.counters().udp_overdue.value()).sum();
    Played { exchanges, given_up }
}

fn check(played: &Played, auto: bool) {
    let (mut came, mut went) = (BTreeMap::<usize, usize>::new(), BTreeMap::<usize, usize>::new());
    for (number, exchange) in played.exchanges.iter().enumerate() {
        *came.entry(exchange.slot).or_default() += exchange.datagram.len();
        *went.entry(exchange.slot).or_default() += exchange.replies.iter().map(Vec::len).sum::<usize>();
        if let Err(why) = answers(exchange, auto, played.given_up > 0) {
            let shown: Vec<_> = exchange.replies.iter().map(|reply| reply.escape_ascii().to_string()).collect();
            panic!("{why}: datagram {number}, {}, is answered {shown:?}", exchange.datagram.escape_ascii());
        }
    }
    for slot in 2..4 {
        let (came, went) = (came.get(&slot).copied().unwrap_or(0), went.get(&slot).copied().unwrap_or(0));
        assert!(went <= 3 * came, "stranger {slot} has sent {came} bytes and got {went}");
    }
}

/// Checks that the replies are what a client can put together.
fn answers(exchange: &Exchange, auto: bool, some_given_up: bool) -> Result<(), String> {
    let Some((request_header, request)) = exchange.datagram.split_at_checked(HEADER) else {
        return if exchange.replies.is_empty() { Ok(()) } else { Err("an answer to no request".to_owned()) };
    };
    if !exchange.replies.is_empty() && (request.is_empty() || request_header[4..6] != [0, 1]) {
        return Err("an answer to what is no request".to_owned());
    }
    let (mut received, mut next, mut total) = (Vec::new(), 0, 0);
    for reply in &exchange.replies {
        let Some((header, body)) = reply.split_at_checked(HEADER) else { return Err("no frame header".to_owned()) };
        let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if header[..2] != request_header[..2] || field(6) != 0 || reply.len() > REPLY_MAX {
            return Err("a wrong frame header, or too long".to_owned());
        }
        if next == 0 {
            total = field(4);
        }
        let last = next + 1 >= total;
        if field(2) != next
            || field(4) != total
            || (body.is_empty() != (total == 0))
            || (!last && reply.len() != REPLY_MAX)
        {
            return Err("a datagram out of its place".to_owned());
        }
        next = if last { 0 } else { next + 1 };
        received.extend_from_slice(body);
    }
    if next != 0 && !some_given_up {
        return Err("a reply without its last datagrams".to_owned());
    }
    // What a stranger has not paid for is left out, message by message, and so is what was given up.
    let lossy = exchange.slot >= 2 || some_given_up;
    let transcript = Transcript { sent: request.to_vec(), received, torn: lossy, lossy };
    // The first byte decides, unless a server with users takes lines alone.
    let checked =
        if auto && request.first() == Some(&0x80) { packets::check(&transcript) } else { lines::check(&transcript) };
    checked.map_err(|(at, why)| format!("{why}, at byte {at}"))
}
