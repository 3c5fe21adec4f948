//! Neighbour discovery: what is heard is put in the words of ARP, and the same rules are for both (`neighbors.rs`).
//!
//! | what is heard | what comes of it |
//! |---|---|
//! | who has our address? | an advertisement, and the asker is learned as one that asks by ARP is |
//! | the same of nobody, who wants the address | while we ask ourselves whether anybody has it: it is not used; else it is told that we have it |
//! | a neighbour is here | as an answer by ARP; unasked, nothing is learned, and nothing that is known is overwritten |
//! | somebody else has our address | counted and said, not fought; an address that is not in use yet is not used (RFC 4862 §5.4.5) |
//! | a router says that it takes packets | it does, where no router was configured (`discovery.rs`) |
//!
//! An address of ours is in use a second after it was asked for in vain (RFC 4862 §5.4; not before: RFC 4429 is for hosts
//! that move). Read first: `ndp.rs`, RFC 4861 §7, RFC 4862 §5.4.

use std::net::{Ipv4Addr, Ipv6Addr};

use nic::{Frame, FrameTooShort, Queue};

use super::NetStack;
use crate::classify::Message;
use crate::clock::Time;
use crate::drop_reason::DropReason;
use crate::link::{self, Mac};
use crate::names::{self, is_name};
use crate::ndp::{Kind, Letter, Ndp, RouterSays};
use crate::neighbor::Arp;
use crate::own_addresses::{Standing, is_host, is_link_local, solicited_node};
use crate::port::Port;
use crate::resolve::Question;

impl NetStack {
    /// Has our IPv6 addresses be used once nobody has answered for them, and routers asked for where none is configured.
    pub(super) fn begin_to_use_addresses(&mut self) {
        if !self.names.are_there() || !self.config.arp {
            return;
        }
        self.probe_ipv6_addresses(Time::ZERO, 0);
        self.ask_for_routers(Time::ZERO, 0);
    }

    /// Asks by the port numbered `port` which routers there are, where none is configured.
    pub(super) fn ask_for_routers(&mut self, now: Time, port: u16) {
        if self.names.are_there() && self.discovery.is_wanted() {
            self.resolver.give_up(Question::ROUTERS);
            self.resolver.ask_for_own(Question::for_routers(now, port).tagged(self.local.tag()));
        }
    }

    /// Asks by the port numbered `port` whether somebody else has an IPv6 address of ours.
    pub(super) fn probe_ipv6_addresses(&mut self, now: Time, port: u16) {
        for number in 0..self.names.own.len() {
            let name = names::of_own(number);
            let standing = self.names.own.standing(number);
            if standing == Standing::Tentative && self.resolver.is_asking(name) {
                continue;
            }
            if standing == Standing::Duplicate {
                self.names.own.set_standing(number, Standing::Tentative);
            }
            // One that is announced just now is probed again.
            self.resolver.give_up(name);
            self.resolver.ask_for_own(Question::probe(now, name, port).tagged(self.local.tag()));
        }
    }

    /// A message of NDP in `frame`, which `hops` other cores have looked at. Returns from whom it is to be answered, and whom,
    /// if it is.
    pub(super) fn ingest_ndp(
        &mut self,
        now: Time,
        port_index: usize,
        frame: &[u8],
        place: Message,
        hops: u8,
    ) -> Option<(Letter, Ipv6Addr)> {
        let said = Ndp::read(frame, place).and_then(|ndp| self.heed(now, port_index, (frame, hops), &ndp));
        match said {
            Ok(answer) => answer,
            // Counted by the core that it came to.
            Err(reason) if hops == 0 => {
                self.stats.drops.add(reason);
                None
            }
            Err(_) => None,
        }
    }

    fn heed(
        &mut self,
        now: Time,
        port_index: usize,
        (frame, hops): (&[u8], u8),
        ndp: &Ndp,
    ) -> Result<Option<(Letter, Ipv6Addr)>, DropReason> {
        let (from, tag) = link::source(frame);
        let station = ndp.station.unwrap_or(from);
        if let Kind::Router(says) = ndp.kind {
            return self.hear_router(now, (frame, hops), ndp.source, station, says);
        }
        let target = self.names.own.position(&ndp.target);
        let claimed = match ndp.kind {
            Kind::Advertisement { .. } => target,
            _ => self.names.own.position(&ndp.source),
        };
        let ours = station == self.local.mac;
        let wants = ndp.source.is_unspecified();
        if let Some(number) = claimed.filter(|_| !ours) {
            return self.hear_of_other_holder(now, (frame, hops), number, station);
        }
        if ours {
            // What we have said ourselves.
            return Err(DropReason::NdpSource);
        }
        match (ndp.kind, target) {
            (Kind::Solicitation, None) => Err(DropReason::NdpNotOurs),
            (Kind::Solicitation, Some(number)) if wants => match self.names.own.standing(number) {
                Standing::Tentative => self.hear_of_other_holder(now, (frame, hops), number, from),
                Standing::Assigned if hops == 0 => Ok(Some((self.letter_of(number, tag), ndp.source))),
                _ => Ok(None),
            },
            (Kind::Solicitation, Some(number)) => {
                self.check_neighbor(&ndp.source, station)?;
                let arp = Arp {
                    asks: true,
                    sender: self.names.see(&ndp.source),
                    mac: station,
                    target: names::of_own(number),
                };
                self.pass_neighbor_on(now, frame, hops);
                self.hear_neighbor(now, port_index, &arp, true, from, tag);
                let answers = hops == 0 && self.names.own.standing(number) == Standing::Assigned;
                Ok(answers.then(|| (self.letter_of(number, tag), ndp.source)))
            }
            _ => {
                self.check_neighbor(&ndp.target, station)?;
                let sender = self.names.see(&ndp.target);
                // RFC 4861 §7.2.5: who is not known says where it is, unless it alone was asked.
                let known = self.neighbors.get(sender).is_some() || self.resolver.asks_holder(sender);
                if ndp.station.is_none() && !known {
                    return Err(DropReason::NdpMalformed);
                }
                let to = self.names.own.position(&ndp.destination);
                if to.is_none() && self.neighbors.get(sender).is_none() && !self.resolver.is_asking(sender) {
                    return Err(DropReason::NdpNotOurs);
                }
                let target = to.map_or(sender, names::of_own);
                self.pass_neighbor_on(now, frame, hops);
                let arp = Arp { asks: false, sender, mac: station, target };
                self.hear_neighbor(now, port_index, &arp, to.is_some(), from, tag);
                Ok(None)
            }
        }
    }

    /// The address of ours that is named so is in use, if it is of IPv6: nobody else has it.
    pub(super) fn assign(&mut self, name: Ipv4Addr) {
        if is_name(name) {
            let address = self.names.address(name);
            if let Some(number) = self.names.own.position(&address) {
                self.names.own.set_standing(number, Standing::Assigned);
            }
        }
    }

    /// Asks a question about IPv6 in `frame`; about an address of our own it is said first that its group is listened in.
    pub(super) fn ask_by_ndp<Q: Queue>(&mut self, port: &mut Port<Q>, mut frame: Frame, question: &Question) {
        let source = if question.source.is_unspecified() || question.target == Question::ROUTERS {
            Ipv6Addr::UNSPECIFIED
        } else {
            self.names.address(question.source)
        };
        let letter = Letter { own: self.local.mac, tag: question.tag, source };
        let target = self.names.address(question.target);
        let own = self.names.own.position(&target).is_some();
        if !self.config.speaks && (own || question.target == Question::ROUTERS) {
            // Another core asks.
            return port.return_frame(frame);
        }
        if own && let Some(mut report) = port.take_frame() {
            let nobody = Letter { source: Ipv6Addr::UNSPECIFIED, ..letter };
            let written = nobody.report_groups(&mut report, &[solicited_node(&target)]);
            self.stats.group_reports += u64::from(written.is_ok());
            send_if(port, report, written);
        }
        let written = if question.target == Question::ROUTERS {
            letter.solicit_routers(&mut frame)
        } else if question.source == question.target {
            letter.announce(&mut frame)
        } else {
            let to = Some(question.to()).filter(|&to| to != Mac::BROADCAST);
            letter.solicit(&mut frame, target, to)
        };
        self.stats.solicitations += u64::from(written.is_ok());
        send_if(port, frame, written);
    }

    /// Our voice, at the address with this number, in the VLAN `tag`.
    fn letter_of(&self, number: usize, tag: Option<u16>) -> Letter {
        let source = self.names.own.get(number).unwrap_or(Ipv6Addr::UNSPECIFIED);
        Letter { own: self.local.mac, tag, source }
    }

    /// Checks that a host of the link may be at `station` and called `address`.
    fn check_neighbor(&self, address: &Ipv6Addr, station: Mac) -> Result<(), DropReason> {
        let may = is_host(address) && station.is_unicast();
        if may { Ok(()) } else { Err(DropReason::NdpSource) }
    }

    /// Has the other cores hear of it too.
    fn pass_neighbor_on(&mut self, now: Time, frame: &[u8], hops: u8) {
        if hops < self.config.peers && self.neighbor_rate.allows(now) && self.strays.keep(frame, hops + 1) {
            self.stats.strays += 1;
        }
    }

    /// The station `mac` says that it has our address with this number, or that it will.
    fn hear_of_other_holder(
        &mut self,
        now: Time,
        (frame, hops): (&[u8], u8),
        number: usize,
        mac: Mac,
    ) -> Result<Option<(Letter, Ipv6Addr)>, DropReason> {
        let Some(address) = self.names.own.get(number) else { return Ok(None) };
        self.resolver.give_up(names::of_own(number));
        if self.names.own.standing(number) == Standing::Tentative {
            self.names.own.set_standing(number, Standing::Duplicate);
        }
        self.conflict = Some((address.into(), mac));
        self.pass_neighbor_on(now, frame, hops);
        Err(DropReason::AddressConflict)
    }

    /// A router of the link, at `station`, has said what it takes.
    fn hear_router(
        &mut self,
        now: Time,
        (frame, hops): (&[u8], u8),
        router: Ipv6Addr,
        station: Mac,
        says: RouterSays,
    ) -> Result<Option<(Letter, Ipv6Addr)>, DropReason> {
        if !is_link_local(&router) || !station.is_unicast() || station == self.local.mac {
            return Err(DropReason::NdpSource);
        }
        if !self.discovery.is_wanted() {
            return Err(DropReason::NdpNotOurs);
        }
        self.pass_neighbor_on(now, frame, hops);
        let passing = self.names.see(&router);
        let known = self.discovery.knows(now, passing);
        if !known && !self.discovery.has_room(now, says) {
            return if self.discovery.heed_other(now, says) { Ok(None) } else { Err(DropReason::NdpNotOurs) };
        }
        let name = if known { Some(passing) } else { self.hold(passing) };
        let Some(name) = name else { return Err(DropReason::NoStation) };
        let kept = self.discovery.heed(now, name, says);
        // A router is held for as long as it has a place.
        for forgotten in kept.forgotten {
            self.names.release(forgotten);
        }
        if !known && !kept.is_kept {
            self.names.release(name);
        }
        self.resolver.give_up(Question::ROUTERS);
        if hops == 0 {
            self.stats.router_advertisements += 1;
        }
        if kept.is_kept {
            // Believed as one that asks for us: it overwrites nothing.
            self.neighbors.learn(now, name, station);
        }
        Ok(None)
    }
}

/// Sends a frame if it was written. Returns whether it was sent.
pub(super) fn send_if<Q: Queue>(port: &mut Port<Q>, frame: Frame, written: Result<(), FrameTooShort>) -> bool {
    match written {
        Ok(()) => port.send(frame),
        Err(_) => {
            port.return_frame(frame);
            false
        }
    }
}
