//! `Datagrams`: requests over UDP. Each datagram is a conversation of its own, which gets all its input at once.
//!
//! ```text
//!  receive ─► a plain get of this core's shard ──────────────► written into the datagram that leaves
//!         └─► a place: Session::take, reply by reply ────────► sent at once, as far as it is known
//!                 └─ waits for another core, a frame, others ─► its rest is copied; serve goes on with it
//! ```
//!
//! Every command, and every item of a fetch, is answered by a message of its own, as memcached does: one or more
//! datagrams that repeat the request's id. What is not whole in a datagram is dropped and has no effect.
//!
//! Invariant: a core has a fixed number of places, each with room for one request; a request that finds none is dropped
//! and counted, and one that has stood in its place for [`DEADLINE_SECS`] is given up. Nothing of a datagram is
//! referred to once [`Datagrams::receive`] has returned. Nothing is sent that [`Network`]s and budgets do not allow.
//! Read first: [`crate::proto::udp_frame`], then [`crate::Session`].

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::clock::Now;
use crate::cluster::CLUSTER_KEY;
use crate::core::{ConnId, Core};
use crate::key::{Key, KeyHash};
use crate::lists::Lists;
use crate::proto::sink::Writer;
use crate::proto::text::{self, plain_fetch};
use crate::proto::udp_frame::{self, HEADER_BYTES, REPLY_MAX_BYTES};
use crate::session::get_at_once;

/// What may be sent to whom.
mod budget;
/// Where they leave.
mod outlet;
/// One request that is not answered yet.
mod place;

pub use budget::Network;
use budget::{Payer, Purse, Sources};
pub use outlet::DatagramOutlet;
use place::{Commons, DatagramPlace, Fate, With, room};

/// Seconds after which a request that could not be answered is given up: no client waits longer for a datagram.
const DEADLINE_SECS: u32 = 3;

/// Requests longer than a packet of the link, put together of fragments, that may wait for another core.
const LARGE: usize = 8;

/// Places kept free for requests that can be answered at their first visit.
const VISITORS: usize = 1;

/// The requests over UDP of one core. `P` says who sent a datagram and where replies go.
#[derive(Debug)]
pub struct Datagrams<P> {
    first: u32,
    places: Box<[DatagramPlace<P>]>,
    free: Vec<u32>,
    /// Places taken, the longest first.
    ages: Lists,
    /// Places that go on.
    ready: VecDeque<u32>,
    commons: Commons,
}

impl<P: Copy> Datagrams<P> {
    /// As many places as `core` was configured for. `payload_max`: bytes of the longest datagram in and out; `trusted`:
    /// sources that are answered in full.
    pub fn new(core: &Core, payload_max: usize, trusted: &[Network]) -> Datagrams<P> {
        let (first, count) = (core.clients.config.connections_per_core as u32, core.clients.config.datagram_places);
        let body_max = payload_max.clamp(HEADER_BYTES + 1, REPLY_MAX_BYTES) - HEADER_BYTES;
        let place = |index: u32| DatagramPlace::new(ConnId(first + index), payload_max, body_max);
        Datagrams {
            first,
            places: (0..count as u32).map(place).collect(),
            free: (0..count as u32).rev().collect(),
            ages: Lists::new(1, count),
            ready: VecDeque::with_capacity(count),
            commons: Commons {
                sources: Sources::new(trusted, core.here.hasher.clone()),
                body_max,
                telling: None,
                large: (0..LARGE.min(count)).map(|_| room(usize::from(u16::MAX))).collect(),
            },
        }
    }

    /// The hash of the key that a datagram asks for, if it is a plain get or gets of this core's shard; asks for its
    /// line of the index. Give it to [`Shard::prefetch_item`](crate::Shard::prefetch_item) when that has had time to
    /// come, and to [`receive`](Self::receive) with the same datagram.
    #[inline]
    pub fn foresee(&self, core: &Core, datagram: &[u8]) -> Option<KeyHash> {
        let (key, _, _) = plain_fetch(datagram.get(HEADER_BYTES..)?)?;
        core.here.prefetch(core.here.hasher.hash(key))
    }

    /// Takes a datagram in that `peer` has sent from `source`, and answers what can be answered now. `foreseen` is what
    /// [`foresee`](Self::foresee) said of it.
    #[expect(clippy::too_many_arguments, reason = "a datagram, whose it is, and where it goes")]
    pub fn receive(
        &mut self,
        core: &mut Core,
        peer: P,
        source: IpAddr,
        datagram: &[u8],
        foreseen: Option<KeyHash>,
        now: Now,
        out: &mut impl DatagramOutlet<P>,
    ) {
        let counters = core.counters();
        counters.udp_datagrams_in.add(1);
        counters.bytes_read.add(HEADER_BYTES.min(datagram.len()) as u64);
        let Ok((id, request)) = udp_frame::read(datagram) else {
            return counters.udp_bad_frames.add(1);
        };
        let payer = Payer::of(source);
        let mut purse = self.commons.sources.purse(source, datagram.len());
        if let Some((key, bytes, cas)) = plain_fetch(request)
            && bytes == request.len()
            && key != CLUSTER_KEY
        {
            debug_assert!(
                foreseen.is_none_or(|hash| hash == core.here.hasher.hash(key)),
                "another datagram was foreseen"
            );
            let key = foreseen.map_or_else(|| core.here.hasher.key(key), |hash| Key { hash, bytes: key });
            if core.here.owner_of(key.hash) == core.here.id {
                let fetch = PlainFetch { id, key, cas };
                if self.answer(core, &peer, payer, &fetch, &mut purse, now, out) {
                    core.counters().bytes_read.add(request.len() as u64);
                    return self.commons.sources.save(payer, purse, now.secs);
                }
            }
        }
        let Some(index) = self.free.pop() else {
            return core.counters().udp_table_full.add(1);
        };
        let place = &mut self.places[index as usize];
        place.begin(peer, payer, id, purse, request, now);
        let fate = place.visit(With { core, commons: &mut self.commons, now, out }, request);
        if fate == Fate::Over {
            place.end(core, &mut self.commons, now);
            return self.free.push(index);
        }
        if self.free.len() < VISITORS || !place.keep(&mut self.commons, request) {
            core.counters().udp_table_full.add(1);
            place.end(core, &mut self.commons, now);
            return self.free.push(index);
        }
        self.ages.push_back(0, index);
        if fate == Fate::Again {
            self.make_ready(index);
        }
    }

    /// Writes the answer to a plain get straight into the datagram that leaves. `false` when that cannot be done.
    #[expect(clippy::too_many_arguments, reason = "what is asked, by whom, and where it goes")]
    #[inline]
    fn answer(
        &mut self,
        core: &mut Core,
        peer: &P,
        payer: Payer,
        fetch: &PlainFetch<'_>,
        purse: &mut Option<Purse>,
        now: Now,
        out: &mut impl DatagramOutlet<P>,
    ) -> bool {
        let sources = &mut self.commons.sources;
        let mut answered = false;
        let sent = out.send(peer, HEADER_BYTES + self.commons.body_max, |buffer| {
            let (head, body) = buffer.split_at_mut(HEADER_BYTES);
            let mut body = Writer::new(body);
            core.here.now = now;
            answered = body.room() >= text::ITEM_MAX_BYTES
                && get_at_once(&mut core.here, fetch.key, fetch.cas, true, &mut body);
            if !answered {
                return 0;
            }
            core.counters().requests.add(1);
            let bytes = HEADER_BYTES + body.len();
            if !sources.pay(payer, purse, bytes, 1, now.secs) {
                core.counters().udp_budget_drops.add(1);
                return 0;
            }
            head.copy_from_slice(&udp_frame::header(fetch.id, 0, 1));
            core.counters().udp_datagrams_out.add(1);
            core.counters().bytes_written.add(bytes as u64);
            bytes
        });
        sent && answered
    }

    /// Notes that `conn`, which [`Core::next_resumable`] has named, can go on; `false` when it is no request over UDP.
    pub fn wake(&mut self, conn: ConnId) -> bool {
        let Some(index) = self.index_of(conn) else { return false };
        if self.places[index as usize].is_taken() {
            self.make_ready(index);
        }
        true
    }

    /// Gives up the request of `conn`, which [`Core::next_overdue`] has named; `false` when it is no request over UDP.
    pub fn abort(&mut self, core: &mut Core, conn: ConnId, now: Now) -> bool {
        let Some(index) = self.index_of(conn) else { return false };
        core.counters().udp_overdue.add(1);
        self.end(core, index, now);
        true
    }

    /// Goes on with at most `most` requests that can, and gives up those that have taken too long. Returns how many it
    /// has gone on with.
    pub fn serve(&mut self, core: &mut Core, most: usize, now: Now, out: &mut impl DatagramOutlet<P>) -> usize {
        let visits = self.ready.len().min(most);
        for _ in 0..visits {
            let Some(index) = self.ready.pop_front() else { break };
            let place = &mut self.places[index as usize];
            place.ready = false;
            if !place.is_taken() {
                continue;
            }
            match place.resume(With { core, commons: &mut self.commons, now, out }) {
                Fate::Over => self.end(core, index, now),
                Fate::Again => self.make_ready(index),
                Fate::Wait => {}
            }
        }
        while let Some(index) = self.ages.first(0) {
            if now.secs.saturating_sub(self.places[index as usize].since_secs) < DEADLINE_SECS {
                break;
            }
            core.counters().udp_overdue.add(1);
            self.end(core, index, now);
        }
        visits
    }

    /// Whether a request can go on.
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Requests that are not answered.
    pub fn pending(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Gives up every request.
    pub fn end_all(&mut self, core: &mut Core, now: Now) {
        while let Some(index) = self.ages.first(0) {
            self.end(core, index, now);
        }
    }

    fn index_of(&self, conn: ConnId) -> Option<u32> {
        conn.0.checked_sub(self.first).filter(|&index| (index as usize) < self.places.len())
    }

    fn make_ready(&mut self, index: u32) {
        if !std::mem::replace(&mut self.places[index as usize].ready, true) {
            self.ready.push_back(index);
        }
    }

    fn end(&mut self, core: &mut Core, index: u32, now: Now) {
        let place = &mut self.places[index as usize];
        if place.is_taken() {
            place.end(core, &mut self.commons, now);
            self.ages.remove(index);
            self.free.push(index);
        }
    }
}

/// A get or gets of one key, and nothing else.
struct PlainFetch<'a> {
    id: udp_frame::RequestId,
    key: Key<'a>,
    cas: bool,
}
