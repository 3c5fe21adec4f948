//! Neighbours of flows that we open: who is asked for, and what comes of it.
//!
//! Answers to frames go where the frames came from; only the first frame of an active flow needs its peer's Ethernet
//! address, or the gateway's. Read first: `resolve.rs`.

use std::net::Ipv4Addr;

use nic::Queue;

use super::NetStack;
use crate::block::{FLAG_CONNECTING, FLAG_RESOLVING};
use crate::clock::Time;
use crate::link::{ETHERTYPE_IPV4, LinkHeader, Mac};
use crate::neighbor::write_request;
use crate::port::Port;

impl NetStack {
    /// Notes that `address` is at `mac`, as if it had said so by ARP: for a core that ARP answers do not reach.
    pub fn learn_neighbor(&mut self, now: Time, address: Ipv4Addr, mac: Mac) {
        self.neighbors.learn(now, address, mac);
        self.neighbor_heard(address);
    }

    /// Asks by the port numbered `port` for the Ethernet address of `address`, a host of the subnet, unless it is known
    /// or asked for already; [`neighbor`](Self::neighbor) has it once it has come. Returns false when too many others are
    /// asked for. Nobody is asked more than three times a second apart; ask again to go on.
    pub fn ask_neighbor(&mut self, now: Time, address: Ipv4Addr, port: u16) -> bool {
        self.neighbors.find(address).is_some() || self.resolver.ask(now, address, self.local.address, port)
    }

    /// The host to which packets for `remote` are handed; `None` when there is no way.
    pub fn next_hop(&self, remote: Ipv4Addr) -> Option<Ipv4Addr> {
        if self.local.is_on_link(remote.to_bits()) { Some(remote) } else { self.config.gateway }
    }

    /// The header of frames to `mac`.
    pub(super) fn link_to(&self, mac: Mac) -> LinkHeader {
        LinkHeader::new(mac, self.local.mac, None, ETHERTYPE_IPV4)
    }

    /// Puts the flow on the list of those that wait for a neighbour.
    pub(super) fn wait_for_neighbor(&mut self, index: u32) {
        let block = &mut self.blocks[index as usize];
        if block.flags & FLAG_RESOLVING == 0 {
            block.flags |= FLAG_RESOLVING;
            self.resolver.wait(index);
        }
    }

    /// `address` has told its Ethernet address.
    pub(super) fn neighbor_heard(&mut self, address: Ipv4Addr) {
        if self.resolver.asking() > 0 && self.neighbors.find(address).is_some() && self.resolver.end(address) {
            self.wake_waiting(address);
        }
    }

    /// Has the next flush look at the flows that wait for `hop`: they find its address, or that there is none.
    fn wake_waiting(&mut self, hop: Ipv4Addr) {
        for _ in 0..self.resolver.waiting() {
            let Some(index) = self.resolver.pop() else { break };
            let block = &mut self.blocks[index as usize];
            block.flags &= !FLAG_RESOLVING;
            if !block.in_use() || block.flags & FLAG_CONNECTING == 0 || block.link != LinkHeader::EMPTY {
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

    /// Gives up neighbours that do not answer.
    pub(super) fn expire_neighbors(&mut self, now: Time) {
        while self.resolver.asking() > 0
            && let Some(hop) = self.resolver.give_up(now)
        {
            self.wake_waiting(hop);
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
                match write_request(&mut frame, self.local.mac, question.source, question.target) {
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
