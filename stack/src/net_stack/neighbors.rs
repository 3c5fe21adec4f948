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
//! are passed round the cores as strays are, since they come over one queue only. All of it is true of NDP and neighbours of IPv6
//! too (`ndp.rs`).
//! Read first: `neighbor.rs`, `resolve.rs`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use nic::Queue;

use super::NetStack;
use super::arrival::Arrival;
use crate::clock::Time;
use crate::drop_reason::DropReason;
use crate::flow_id::FlowKey;
use crate::link::{self, ETHERNET_BYTES, LinkHeader, Mac, TAGGED_BYTES};
use crate::names::{self, is_name};
use crate::neighbor::{self, Arp, REACHABLE, write_request};
use crate::own_addresses::is_link_local;
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
    /// Notes that `address` is at `mac`, as if it had answered by ARP or NDP: for a core that the answers do not reach.
    pub fn learn_neighbor(&mut self, now: Time, address: impl Into<IpAddr>, mac: Mac) {
        let passing = self.name(address.into());
        // Where there is no room for it, it is asked for when it is wanted.
        if let Some(name) = self.know(passing) {
            self.resolver.answer(now, name, mac);
            self.settle_neighbor(now, name, mac, None);
        }
    }

    /// Asks by the port numbered `port` for the Ethernet address of `address`, a host of the subnet, unless it is known
    /// or asked for already; [`neighbor`](Self::neighbor) has it once it has come. Returns false when too many others are
    /// asked for. Nobody is asked more than three times a second apart; ask again to go on.
    pub fn ask_neighbor(&mut self, now: Time, address: impl Into<IpAddr>, port: u16) -> bool {
        let address = address.into();
        let passing = self.name(address);
        let source = match address {
            IpAddr::V4(address) => self.local.facing(address),
            IpAddr::V6(address) => self.names.own.facing(&address).map(names::of_own),
        };
        let (Some(name), Some(source)) = (self.know(passing), source) else { return false };
        let question = Question::new(now, name, source, port).tagged(self.local.tag());
        self.neighbors.find(now, name).is_some() || self.resolver.ask(question, FOR_CONNECTIONS)
    }

    /// The host to which packets for `remote` are handed; `None` when there is no way.
    pub fn next_hop(&self, remote: impl Into<IpAddr>) -> Option<IpAddr> {
        let remote = remote.into();
        match remote {
            // Of use on its link alone.
            IpAddr::V6(address) if is_link_local(&address) => Some(remote),
            IpAddr::V6(address) => {
                let said = || self.discovery.is_on_link(self.now, &address).then_some(remote);
                let router = || self.discovery.router(self.now).map(|name| self.names.ip(name));
                self.routes.hop(remote).or_else(said).or_else(router)
            }
            IpAddr::V4(_) => self.routes.hop(remote),
        }
    }

    /// The same by names.
    pub(super) fn hop_to(&self, remote: Ipv4Addr) -> Option<Ipv4Addr> {
        if !is_name(remote) {
            return match self.routes.hop(remote.into())? {
                IpAddr::V4(hop) => Some(hop),
                IpAddr::V6(_) => None,
            };
        }
        let address = self.names.ip(remote);
        let hop = self.next_hop(address)?;
        // A router is held, so that it has a name.
        if hop == address { Some(remote) } else { self.name_if_known(hop) }
    }

    /// The header of frames of the flow `key` to `mac`.
    pub(super) fn link_to(&self, mac: Mac, key: &FlowKey) -> LinkHeader {
        LinkHeader::of_flow(mac, self.local.mac, self.local.tag(), key)
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
    pub(super) fn hear_neighbor(
        &mut self,
        now: Time,
        port_index: usize,
        arp: &Arp,
        ours: bool,
        from: Mac,
        tag: Option<u16>,
    ) {
        match self.resolver.answer(now, arp.sender, arp.mac) {
            Answer::Settled => return self.settle_neighbor(now, arp.sender, arp.mac, None),
            Answer::HolderFirst => return,
            Answer::Unasked => {}
        }
        match self.neighbors.get(arp.sender) {
            Some(known) if known.mac != arp.mac && known.is_confirmed(now, SETTLED) => {}
            Some(known) if known.mac != arp.mac => {
                // It may have moved, or somebody else wants its frames: it is asked.
                let source = if ours { Some(arp.target) } else { self.facing(arp.sender) };
                let Some(source) = source else { return };
                let question = Question::new(now, arp.sender, source, port_index as u16);
                self.resolver.ask(question.about(known.mac, tag), FOR_CLAIMS);
            }
            // Unasked, a neighbour is learned only when it asks for us, as in Linux: it means to send us something. And
            // only when it claims the station that its frame comes from: an address claimed at a router's station would
            // pass for the router's.
            None if !(ours && arp.asks && from == arp.mac) => {}
            _ if self.hop_to(arp.sender) == Some(arp.sender) => {
                if let Some(name) = self.know(arp.sender) {
                    self.neighbors.learn(now, name, arp.mac);
                }
            }
            _ => {}
        }
    }

    /// The address of ours that is nearest to `address`; of IPv6 by names.
    fn facing(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        if is_name(address) {
            return self.names.own.facing(&self.names.address(address)).map(names::of_own);
        }
        self.local.facing(address)
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
        let remote = block.key.remote;
        let beyond = !self.config.arp || !self.is_on_link(remote);
        let block = &mut self.blocks[index as usize];
        let unheard = block.marks.contains(Marks::SENT_AGAIN) && block.highest_ack == block.sent_again_from;
        if beyond && unheard && now.since(block.sent_again_at) >= DEAD_WAY {
            let (from, _) = link::source(frame);
            self.move_flow(index, from);
        }
    }

    /// Whether the host that `remote` names is on the link, as far as our addresses say, or routers.
    fn is_on_link(&self, remote: Ipv4Addr) -> bool {
        if !is_name(remote) {
            return self.local.is_on_link(remote.to_bits());
        }
        let address = self.names.address(remote);
        self.names.own.is_on_link(&address) || self.discovery.is_on_link(self.now, &address)
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
        // Of a flow that connects it is not known that there is a peer.
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
        let hop = self.hop_to(key.remote);
        if hop.is_some() || !self.neighbor_rate.allows(now) {
            return hop;
        }
        self.neighbors.address_of(link.peer(), key.is_ipv6())
    }

    /// The header of an answer for a record of a flow, whose frames went to `link`: the peer may have moved since.
    pub(super) fn link_now(&self, now: Time, key: &FlowKey, mut link: LinkHeader) -> LinkHeader {
        if let Some(known) = self.hop_to(key.remote).and_then(|hop| self.neighbors.get(hop))
            && known.is_confirmed(now, REACHABLE)
        {
            link.set_peer(known.mac);
        }
        link
    }

    /// Asks on the link of the port numbered `port` whether somebody else has one of the stack's addresses; of those for
    /// whom nobody answers it tells everyone there where they are, three times a second apart (RFC 5227 §2.1.1, §2.3): a
    /// neighbour that asked before the stack was there need not wait until it asks again, and one that knows another
    /// Ethernet address of ours learns the new one. Routers of IPv6 are asked for too, where none is set: the link may lead elsewhere
    /// now. To be called at the start, and when the link has been away. Does nothing where ARP is the kernel's; a core that does not
    /// [speak](crate::StackConfig::speaks) waits for as long as another takes to ask.
    pub fn announce(&mut self, now: Time, port: u16) {
        if !self.config.arp {
            return;
        }
        self.probe_ipv6_addresses(now, port);
        self.ask_for_routers(now, port);
        if !self.config.speaks {
            // Addresses of IPv4 are in use whoever answers.
            return;
        }
        for number in 0.. {
            let Some(address) = self.local.nth(number) else { break };
            // One that is announced just now is probed again.
            self.resolver.give_up(address);
            if !self.resolver.ask_for_own(Question::probe(now, address, port).tagged(self.local.tag())) {
                break;
            }
        }
    }

    /// The address of ours that another station said last that it has, and that station.
    pub fn conflict(&self) -> Option<(IpAddr, Mac)> {
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
        self.conflict = Some((arp.sender.into(), arp.mac));
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
            if self.hop_to(remote) == Some(hop) {
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
                    self.assign(announcement.target);
                    self.resolver.ask_for_own(announcement);
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
                if is_name(question.target) {
                    self.ask_by_ndp(port, frame, &question);
                    self.resolver.sent(now, question.target);
                    continue;
                }
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
