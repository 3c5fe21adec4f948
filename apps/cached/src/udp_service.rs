//! `UdpService`: what passes between the stack's datagrams and the cache's requests over UDP, on one core.

use arrayvec::ArrayVec;
use cache::{ConnId, Core, DatagramOutlet, Datagrams, KeyHash, Network, Now};
use nic::{BURST, Queue};
use stack::{DatagramHandler, DatagramPeer, DatagramReplies, NetStack, Poll};

/// Requests over UDP that are resumed in one turn.
const RESUME_BUDGET: usize = 256;

/// The requests over UDP of one core. Where UDP is not served, the default, it does nothing.
#[derive(Debug, Default)]
pub struct UdpService {
    requests: Option<Datagrams<DatagramPeer>>,
}

/// Takes the datagrams of one turn.
#[derive(Debug)]
pub struct UdpHandler<'a> {
    requests: &'a mut Datagrams<DatagramPeer>,
    cache: &'a mut Core,
    now: Now,
    /// Of the datagrams of the burst, in order: where each lies, and the hash of the key that it asks for, if this core
    /// owns that key. One that came in fragments is not among them.
    foreseen: ArrayVec<(usize, Option<KeyHash>), BURST>,
    taken: usize,
}

/// Sends replies to the datagram that is being handled.
struct AtOnce<'a, 'b>(&'a mut DatagramReplies<'b>);

impl DatagramOutlet<DatagramPeer> for AtOnce<'_, '_> {
    #[inline]
    fn send(&mut self, _to: &DatagramPeer, len: usize, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        self.0.send(len, write).is_ok()
    }
}

/// Sends replies to datagrams that were handled before.
struct Later<'a, Q: Queue>(&'a mut Poll<Q>);

impl<Q: Queue> DatagramOutlet<DatagramPeer> for Later<'_, Q> {
    fn send(&mut self, to: &DatagramPeer, len: usize, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        self.0.send_datagram(to, len, write).is_ok()
    }
}

impl UdpService {
    /// Room for as many requests as `cache` was configured for, over `stack`. Sources inside `trusted` are answered in
    /// full, others with no more than three times what they send.
    pub fn new(cache: &Core, stack: &NetStack, trusted: &[Network]) -> UdpService {
        UdpService { requests: Some(Datagrams::new(cache, stack.max_datagram_payload(), trusted)) }
    }

    /// What takes the datagrams of a turn at `now`, if any are served.
    #[inline]
    pub fn handler<'a>(&'a mut self, cache: &'a mut Core, now: Now) -> Option<UdpHandler<'a>> {
        let requests = self.requests.as_mut()?;
        Some(UdpHandler { requests, cache, now, foreseen: ArrayVec::new(), taken: 0 })
    }

    /// Resumes requests whose answer from another core has come. Returns how many.
    pub fn serve<Q: Queue>(&mut self, cache: &mut Core, poll: &mut Poll<Q>, now: Now) -> usize {
        let Some(requests) = &mut self.requests else { return 0 };
        requests.serve(cache, RESUME_BUDGET, now, &mut Later(poll))
    }

    /// Has the request of `conn` resumed by the next [`serve`](Self::serve); `false` when it is no request over UDP.
    pub fn wake(&mut self, conn: ConnId) -> bool {
        self.requests.as_mut().is_some_and(|requests| requests.wake(conn))
    }

    /// Gives the request of `conn` up; `false` when it is none over UDP.
    pub fn abort(&mut self, conn: ConnId, cache: &mut Core, now: Now) -> bool {
        self.requests.as_mut().is_some_and(|requests| requests.abort(cache, conn, now))
    }

    /// Whether a request can go on.
    pub fn has_work(&self) -> bool {
        self.requests.as_ref().is_some_and(Datagrams::has_work)
    }

    /// Requests that are not answered.
    pub fn pending(&self) -> usize {
        self.requests.as_ref().map_or(0, Datagrams::pending)
    }

    /// Gives every request up.
    pub fn end_all(&mut self, cache: &mut Core, now: Now) {
        if let Some(requests) = &mut self.requests {
            requests.end_all(cache, now);
        }
    }
}

impl DatagramHandler for UdpHandler<'_> {
    #[inline]
    fn begin_burst(&mut self) {
        self.foreseen.clear();
        self.taken = 0;
    }

    #[inline]
    fn foresee(&mut self, payload: &[u8]) {
        let hash = self.requests.foresee(self.cache, payload);
        // A burst is never longer; what is not foreseen is hashed when it comes.
        let _ = self.foreseen.try_push((payload.as_ptr().addr(), hash));
    }

    #[inline]
    fn datagram(&mut self, peer: &DatagramPeer, payload: &[u8], replies: &mut DatagramReplies<'_>) {
        if self.taken == 0 {
            // The first is served at once; a prefetch would not be done by then.
            for hash in self.foreseen.iter().skip(1).filter_map(|(_, hash)| *hash) {
                self.cache.shard().prefetch_item(hash);
            }
        }
        let foreseen = match self.foreseen.get(self.taken) {
            Some(&(at, hash)) if at == payload.as_ptr().addr() => {
                self.taken += 1;
                hash
            }
            _ => None,
        };
        let source = peer.peer().ip();
        self.requests.receive(self.cache, *peer, source, payload, foreseen, self.now, &mut AtOnce(replies));
    }
}
