//! `Lists`: the connections of a core, which only it can tell. Any number are asked for at a time, each of its own core.

use std::time::{Duration, Instant};

use control::{ConnectionRow, Reply};

use super::core_answers::{CoreAnswers, takes_no_more};
use crate::orders::{ConnectionLook, Listed, Listing, Order, Orders};

/// Connections told in one reply: some 80 KiB of JSON.
const CONNECTIONS_AT_ONCE: usize = 400;

/// Orders that may wait with a core that is asked for a list, so that lists leave room for what is to change.
const WAITING_MOST: usize = 8;

/// A list that a core is asked for.
#[derive(Debug)]
struct List {
    number: u32,
    since: Instant,
    core: usize,
    answer: CoreAnswers<Listed>,
}

/// Those that are waited for.
#[derive(Debug, Default)]
pub(super) struct Lists(Vec<List>);

impl Lists {
    /// Asks `core`, at `now`, for its connections from the place `from` on. Returns a reply if it cannot be asked.
    pub(super) fn ask(
        &mut self,
        orders: &Orders,
        (number, core, from): (u32, usize, u32),
        now: Instant,
    ) -> Option<Reply> {
        if core >= orders.cores() {
            return Some(Reply::Error(format!("there are {} cores, the first of them 0", orders.cores())));
        }
        if orders.waiting(core) >= WAITING_MOST {
            return Some(unknown(core, orders.cores(), takes_no_more(core)));
        }
        let list = |to| Order::Connections(Listing::new(from, CONNECTIONS_AT_ONCE, to));
        self.0.push(List { number, since: now, core, answer: CoreAnswers::ask(orders, [core], list) });
        None
    }

    /// A list that has come, or does not within `limit`.
    pub(super) fn owed(&mut self, orders: &Orders, now: Instant, limit: Duration) -> Option<(u32, Reply)> {
        let (place, reply) = self.0.iter_mut().enumerate().find_map(|(place, list)| {
            let listed = list.answer.look(now.duration_since(list.since) >= limit).transpose()?;
            let (core, cores) = (list.core, orders.cores());
            let reply = listed.map(|listed| page(core, cores, listed));
            Some((place, reply.unwrap_or_else(|why| unknown(core, cores, why))))
        })?;
        Some((self.0.swap_remove(place).number, reply))
    }

    /// Whether any is waited for.
    pub(super) fn are_owed(&self) -> bool {
        !self.0.is_empty()
    }
}

/// The core that is asked after this one of `cores`, from its first place on.
fn following(core: usize, cores: usize) -> Option<(usize, u32)> {
    (core + 1 < cores).then_some((core + 1, 0))
}

/// Why nothing is known of the connections of one of `cores` cores; of those of others more may be.
fn unknown(core: usize, cores: usize, why: String) -> Reply {
    Reply::Connections { connections: Vec::new(), next: following(core, cores), unknown: Some(why) }
}

/// What one of `cores` cores has told, and which is asked next.
fn page(core: usize, cores: usize, listed: &mut Vec<Listed>) -> Reply {
    // One core was asked.
    let listed = listed.pop().unwrap_or(Listed { found: Vec::new(), next: None });
    let next = listed.next.map(|place| (core, place)).or(following(core, cores));
    let row = |ConnectionLook { look, idle_secs }: ConnectionLook| ConnectionRow {
        peer: look.peer.to_string(),
        state: look.state.to_owned(),
        core,
        idle_secs,
        unread_bytes: look.unread,
        unsent_bytes: look.unsent,
        rtt_us: look.round_trip.map(|time| time.as_micros() as u64),
    };
    Reply::Connections { connections: listed.found.into_iter().map(row).collect(), next, unknown: None }
}
