//! Neighbours: to which station a flow's frames go, when that changes, and who is asked.
//!
//! A flow answers the station that its handshake came from, so that a packet costs no look-up. It is *in doubt* when an
//! acceptable segment comes from another station, and when what it sent must be sent again and nothing is heard. What
//! happens then does not depend on what the frame says, but on what the link answers:
//!
//! | the peer is | who is asked by ARP | the flow moves |
//! |---|---|---|
//! | on the link | the peer | to the station that has answered, once the flow's own, asked by itself, has not (`resolve.rs`) |
//! | beyond a router whose address is known | the router | likewise, or when the table of routes names another (`routers.rs`) |
//! | beyond one that never said who it is, or does not answer; or anywhere, where ARP is the kernel's | nobody | to where its segments come from, once what it sent by the old way has gone unacknowledged for a second |
//!
//! A router is known by the table of routes, or by the ARP by which it found us. ARP packets that may matter
//! are passed round the cores as strays are, since they come over one queue only.
//! Read first: `neighbor.rs`, `resolve.rs`.

use std::net::Ipv4Addr;
use std::time::Duration;

use nic::Queue;

use super::NetStack;
use super::arrival::Arrival;
use crate::clock::Time;
use crate::drop_reason::DropReason;
use crate::flow_id::FlowKey;
use crate::link::{self, ETHERNET_BYTES, ETHERTYPE_IPV4, LinkHeader, Mac, TAGGED_BYTES};
use crate::neighbor::{self, Arp, REACHABLE, write_request};
use crate::phase::Marks;
use crate::port::Port;
use crate::resolve::{Answer, FOR_CLAIMS, FOR_CONNECTIONS, FOR_FLOWS, Over, Question};

/// Within this time of an answer nobody is asked again, whatever is claimed: Linux's `locktime`.
const SETTLED: Duration = Duration::from_secs(1);

/// Silence after which a flow that sends again doubts its way: a lossy way to a live peer brings something sooner.
const SILENCE: Duration = Duration::from_secs(1);

/// How long what was sent must have gone unacknowledged before a way that nobody can be asked about is given up
/// (RFC 1122 §4.2.3.5 (b): three retransmissions; the third leaves 1.4 seconds after the segment).
const DEAD_WAY: Duration = Duration::from_secs(1);

/// What has come of a flow's doubt of its station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// The next hop has left the flow's station, and the flow goes where it is now.
    Moved,
    /// The next hop was confirmed where the flow's frames go.
    Confirmed,
    /// Nobody has answered for the next hop, or it is not known who that is.
    Unsettled,
}

impl NetStack {
    /// Notes that `address` is at `mac`, as if it had answered by ARP: for a core that ARP answers do not reach.
    pub fn learn_neighbor(&mut self, now: Time, address: Ipv4Addr, mac: Mac) {
        self.resolver.answer(now, address, mac);
        self.settle_neighbor(now, address, mac, None);
    }

    /// Asks by the port numbered `port` for the Ethernet address of `address`, a host of the subnet, unless it is known
    /// or asked for already; [`neighbor`](Self::neighbor) has it once it has come. Returns false when too many others are
    /// asked for. Nobody is asked more than three times a second apart; ask again to go on.
    pub fn ask_neighbor(&mut self, now: Time, address: Ipv4Addr, port: u16) -> bool {
        let question = Question::new(now, address, self.local.address, port).tagged(self.local.tag());
        self.neighbors.find(now, address).is_some() || self.resolver.ask(question, FOR_CONNECTIONS)
    }

    /// The host to which packets for `remote` are handed; `None` when there is no way.
    pub fn next_hop(&self, remote: Ipv4Addr) -> Option<Ipv4Addr> {
        self.routes.hop(remote)
    }

    /// The header of frames to `mac`.
    pub(super) fn link_to(&self, mac: Mac) -> LinkHeader {
        LinkHeader::new(mac, self.local.mac, self.local.tag(), ETHERTYPE_IPV4)
    }

    /// An ARP packet that begins `at` in `frame` and has been looked at by `hops` other cores. Returns whether `frame`
    /// has become its answer.
    pub(super) fn ingest_arp(&mut self, now: Time, port_index: usize, frame: &mut [u8], at: usize, hops: u8) -> bool {
        let Some(arp) = Arp::read(frame, at) else { return false };
        let ours = self.local.has(arp.target.to_bits());
        if !ours && self.neighbors.get(arp.sender).is_none() && !self.resolver.is_asking(arp.sender) {
            // An announcement of a neighbour that is none of ours.
            self.stats.drops.add(DropReason::ArpNotOurs);
            return false;
        }
        // A probe has no address yet: answered, not heard.
        if !arp.sender.is_unspecified() && arp.mac.is_unicast() && arp.mac != self.local.mac {
            if hops < self.config.peers && self.neighbor_rate.allows(now) && self.strays.keep(frame, hops + 1) {
                self.stats.strays += 1;
            }
            let (from, tag) = link::source(frame);
            self.hear_neighbor(now, port_index, &arp, ours, from, tag);
        }
        if !(ours && arp.asks && hops == 0) {
            return false;
        }
        neighbor::answer(&self.local, frame, at);
        self.stats.arp_replies += 1;
        true
    }

    /// A neighbour has said where it is, in a frame of the station `from` that has the tag `tag`.
    fn hear_neighbor(&mut self, now: Time, port_index: usize, arp: &Arp, ours: bool, from: Mac, tag: Option<u16>) {
        match self.resolver.answer(now, arp.sender, arp.mac) {
            Answer::Settled => return self.settle_neighbor(now, arp.sender, arp.mac, None),
            Answer::HolderFirst => return,
            Answer::Unasked => {}
        }
        match self.neighbors.get(arp.sender) {
            Some(known) if known.mac != arp.mac && known.is_confirmed(now, SETTLED) => {}
            Some(known) if known.mac != arp.mac => {
                // It may have moved, or somebody else wants its frames: it is asked.
                let source = if ours { arp.target } else { self.local.address };
                let question = Question::new(now, arp.sender, source, port_index as u16);
                self.resolver.ask(question.about(known.mac, tag), FOR_CLAIMS);
            }
            // Unasked, a neighbour is learned only when it asks for us, as in Linux: it means to send us something. And
            // only when it claims the station that its frame comes from: an address claimed at a router's station would
            // pass for the router's.
            None if !(ours && arp.asks && from == arp.mac) => {}
            _ if self.next_hop(arp.sender) == Some(arp.sender) => self.neighbors.learn(now, arp.sender, arp.mac),
            _ => {}
        }
    }

    /// It is settled where `address` is, and which station it has left, if any.
    fn settle_neighbor(&mut self, now: Time, address: Ipv4Addr, mac: Mac, left: Option<Mac>) {
        self.neighbors.confirm(now, address, mac, left);
        self.wake_waiting(address);
    }

    /// An acceptable segment of the flow has come from another station than the flow's frames go to.
    #[cold]
    pub(super) fn heard_elsewhere(&mut self, now: Time, index: u32, frame: &[u8]) {
        if self.doubt(now, index, Some(SETTLED)) != Doubt::Unsettled {
            return;
        }
        let block = &mut self.blocks[index as usize];
        let beyond = !self.config.arp || !self.local.is_on_link(block.key.remote.to_bits());
        let unheard = block.marks.contains(Marks::SENT_AGAIN) && block.highest_ack == block.sent_again_from;
        if beyond && unheard && now.since(block.sent_again_at) >= DEAD_WAY {
            let (from, _) = link::source(frame);
            self.move_flow(index, from);
        }
    }

    /// A segment of the flow was received before. If it comes from another station than the flow's frames go to, the
    /// peer has not got our answer, which went where it no longer is. Believed only with numbers of the last window, as
    /// those of a segment that would be acceptable.
    #[cold]
    pub(super) fn repeated<Q: Queue>(&mut self, arrival: &Arrival<'_, Q>, index: u32) {
        let block = &self.blocks[index as usize];
        let behind = block.rcv_nxt().wrapping_sub(arrival.segment.seq);
        let unacknowledged = block.snd_nxt.wrapping_sub(arrival.segment.ack);
        let in_flight = block.snd_nxt.wrapping_sub(block.highest_ack);
        let believed = behind <= u32::from(u16::MAX) && unacknowledged <= in_flight;
        if believed && !block.link.is_from_peer(arrival.frame) {
            self.heard_elsewhere(arrival.now, index, arrival.frame);
        }
    }

    /// The flow has sent something again.
    #[cold]
    pub(super) fn sent_again(&mut self, now: Time, index: u32) {
        let block = &mut self.blocks[index as usize];
        block.marks.remove(Marks::DOUBTED);
        // A keep-alive, or a probe of a closed window: that nothing acknowledges it, and that nothing was heard before it,
        // says nothing of the way.
        let routine = block.snd_nxt == block.highest_ack || block.peer_window == 0;
        if routine {
            block.marks.remove(Marks::SENT_AGAIN);
        } else if !block.marks.contains(Marks::SENT_AGAIN) || block.highest_ack != block.sent_again_from {
            block.marks |= Marks::SENT_AGAIN;
            (block.sent_again_from, block.sent_again_at) = (block.highest_ack, now);
        }
        // Of a half-open flow it is not known that there is a peer: a flood of SYNs would have us ask for everybody.
        if block.phase.has_peer() {
            let silent = now.since(block.heard_at) >= SILENCE;
            self.doubt(now, index, silent.then_some(if routine { REACHABLE } else { SETTLED }));
        }
    }

    /// Looks at a flow that is in doubt, before it sends: the link may have answered.
    #[cold]
    pub(super) fn visit_doubtful(&mut self, now: Time, index: u32) {
        self.doubt(now, index, None);
    }

    /// Moves a flow in doubt to the station for which its next hop has left the flow's. Asks, unless the hop has answered
    /// within the span `ask`; `None`: does not ask.
    fn doubt(&mut self, now: Time, index: u32, ask: Option<Duration>) -> Doubt {
        let block = &mut self.blocks[index as usize];
        block.marks.remove(Marks::IN_DOUBT);
        let (key, port, link) = (block.key, block.port, block.link);
        let Some(hop) = self.hop_of(now, &key, &link) else { return Doubt::Unsettled };
        let known = self.neighbors.get(hop).filter(|known| known.is_confirmed(now, REACHABLE));
        let here = known.is_none_or(|known| known.mac == link.peer());
        if let Some(known) = known
            && !here
            && known.has_left(link.peer())
        {
            self.move_flow(index, known.mac);
            return Doubt::Moved;
        }
        // Of another flow's station it was settled that the hop is there; this one's has yet to have its last word.
        let ask = ask.map(|span| if here { span } else { SETTLED });
        if ask.is_some_and(|span| known.is_none_or(|known| !known.is_confirmed(now, span))) {
            let question = Question::new(now, hop, key.local, port).about(link.peer(), link.tag());
            self.resolver.ask(question, FOR_FLOWS);
        }
        if self.resolver.is_asking(hop) {
            self.blocks[index as usize].marks |= Marks::IN_DOUBT;
        }
        if known.is_some() && here { Doubt::Confirmed } else { Doubt::Unsettled }
    }

    /// Has the flow's frames go to another station.
    pub(super) fn move_flow(&mut self, index: u32, to: Mac) {
        let block = &mut self.blocks[index as usize];
        block.link.set_peer(to);
        block.marks.remove(Marks::SENT_AGAIN);
        self.stats.flows_moved += 1;
    }

    /// The neighbour by which frames with the header `link` reach the flow's peer, if it is known who that is.
    fn hop_of(&mut self, now: Time, key: &FlowKey, link: &LinkHeader) -> Option<Ipv4Addr> {
        if !self.config.arp {
            return None;
        }
        let hop = self.next_hop(key.remote);
        if hop.is_some() || !self.neighbor_rate.allows(now) {
            return hop;
        }
        self.neighbors.address_of(link.peer())
    }

    /// The header of an answer for a record of a flow, whose frames went to `link`: the peer may have moved since.
    pub(super) fn link_now(&self, now: Time, key: &FlowKey, mut link: LinkHeader) -> LinkHeader {
        if let Some(known) = self.next_hop(key.remote).and_then(|hop| self.neighbors.get(hop))
            && known.is_confirmed(now, REACHABLE)
        {
            link.set_peer(known.mac);
        }
        link
    }

    /// Asks on the link of the port numbered `port` whether somebody else has one of the stack's addresses; of those for
    /// whom nobody answers it tells everyone there where they are, three times a second apart (RFC 5227 §2.1.1, §2.3): a
    /// neighbour that asked before the stack was there need not wait until it asks again, and one that knows another
    /// Ethernet address of ours learns the new one. To be called at the start, and when the link has been away. Does nothing
    /// where ARP is the kernel's.
    pub fn announce(&mut self, now: Time, port: u16) {
        if !self.config.arp {
            return;
        }
        let first = self.local.address.to_bits();
        for address in (0..self.local.addresses).map(|nth| Ipv4Addr::from_bits(first.wrapping_add(nth))) {
            // One that is announced just now is probed again.
            self.resolver.give_up(address);
            if !self.resolver.ask(Question::probe(now, address, port).tagged(self.local.tag()), FOR_CONNECTIONS) {
                break;
            }
        }
    }

    /// The address of ours that another station said last that it has, and that station.
    pub fn conflict(&self) -> Option<(Ipv4Addr, Mac)> {
        self.conflict
    }

    /// An ARP packet, somewhere behind the link header of `frame`, which `hops` other cores have looked at, says that another
    /// station has an address of ours. Not fought: the address is announced no more, and who asks for it is answered as before
    /// (RFC 5227 §2.4 would have us defend it once, and then give it up, which connections would not survive). The packet goes
    /// round the cores, since one of them announces.
    #[cold]
    pub(super) fn note_conflict(&mut self, now: Time, frame: &[u8], hops: u8) {
        let at = if link::source(frame).1.is_some() { TAGGED_BYTES } else { ETHERNET_BYTES };
        let Some(arp) = Arp::read(frame, at) else { return };
        self.resolver.give_up(arp.sender);
        self.conflict = Some((arp.sender, arp.mac));
        if hops < self.config.peers && self.neighbor_rate.allows(now) && self.strays.keep(frame, hops + 1) {
            self.stats.strays += 1;
        }
    }

    /// Puts the flow on the list of those that wait for a neighbour.
    pub(super) fn wait_for_neighbor(&mut self, index: u32) {
        let block = &mut self.blocks[index as usize];
        if !block.marks.contains(Marks::RESOLVING) {
            block.marks |= Marks::RESOLVING;
            self.resolver.wait(index);
        }
    }

    /// Has the next flush look at the flows that wait for `hop`: they find its address, or that there is none.
    fn wake_waiting(&mut self, hop: Ipv4Addr) {
        for _ in 0..self.resolver.waiting() {
            let Some(index) = self.resolver.pop() else { break };
            let block = &mut self.blocks[index as usize];
            block.marks.remove(Marks::RESOLVING);
            if !block.phase.is_connecting() || block.link != LinkHeader::EMPTY {
                continue;
            }
            let remote = block.key.remote;
            if self.next_hop(remote) == Some(hop) {
                self.touch(index);
            } else {
                self.wait_for_neighbor(index);
            }
        }
    }

    /// Ends questions that nothing more is waited for.
    pub(super) fn expire_neighbors(&mut self, now: Time) {
        while self.resolver.asking() > 0
            && let Some(over) = self.resolver.conclude(now)
        {
            match over {
                Over::Believed { address, mac, left } => self.settle_neighbor(now, address, mac, Some(left)),
                Over::Silent { address } => self.wake_waiting(address),
                // An announcement is a request for the sender's own address, to which nobody replies.
                Over::Free { announcement } => {
                    self.resolver.ask(announcement, FOR_CONNECTIONS);
                }
            }
        }
    }

    /// Sends the ARP requests that are due.
    pub(super) fn ask_neighbors<Q: Queue>(&mut self, now: Time, ports: &mut [Port<Q>]) {
        while let Some(question) = self.resolver.due(now) {
            // Counts as asked even where there is no such port, so that the question ends.
            if let Some(port) = ports.get_mut(usize::from(question.port)) {
                if !port.has_room() {
                    return;
                }
                let Some(mut frame) = port.take_frame() else { return };
                let own = (self.local.mac, question.source);
                match write_request(&mut frame, own, question.to(), question.tag, question.target) {
                    Ok(()) => {
                        self.stats.arp_requests += 1;
                        port.send(frame);
                    }
                    Err(_) => port.return_frame(frame),
                }
            }
            self.resolver.sent(now, question.target);
        }
    }
}
