//! Frames of IPv6 that are neither segments nor for the application: echo requests, messages about the link, packets of which
//! something is wrong, and datagrams on whose port nobody listens. Each is answered in the frame that it came in, if at all.

use std::net::Ipv6Addr;

use arrayvec::ArrayVec;
use nic::{Frame, Queue};

use super::NetStack;
use super::ndp::send_if;
use crate::classify::{Class, Problem};
use crate::clock::Time;
use crate::config::StackConfig;
use crate::drop_reason::DropReason;
use crate::icmpv6::{self, Complaint};
use crate::link;
use crate::names::payer_of;
use crate::ndp::{Letter, REPORTED};
use crate::own_addresses::solicited_node;
use crate::port::Port;

impl NetStack {
    /// Ingests a frame of one of the classes that are IPv6's alone.
    #[cold]
    #[inline(never)]
    pub(super) fn ingest_control_ipv6<Q: Queue>(
        &mut self,
        now: Time,
        port: &mut Port<Q>,
        port_index: usize,
        mut frame: Frame,
        class: &Class,
    ) {
        let answered = match *class {
            Class::Echo6(place) => {
                let payer = payer_of(&icmpv6::sender(frame.bytes(), usize::from(place.at)));
                let may = self.echo_limit.allows(now, payer);
                if may {
                    self.stats.echo_replies += 1;
                    icmpv6::answer_echo(frame.bytes_mut(), place);
                } else {
                    self.stats.drops.add(DropReason::IcmpRate);
                }
                may
            }
            Class::Ndp(message) => match self.ingest_ndp(now, port_index, frame.bytes(), message, 0) {
                Some((letter, asker)) => {
                    let to = link::source(frame.bytes()).0;
                    let written = letter.advertise(&mut frame, asker, to).is_ok();
                    self.stats.advertisements += u64::from(written);
                    written
                }
                None => false,
            },
            Class::GroupQuery(_) => self.answer_group_query(now, port, &mut frame),
            Class::Problem(problem) => self.tell_of_problem(now, &mut frame, &problem),
            _ => false,
        };
        if answered {
            port.send(frame);
        } else {
            port.free(frame);
        }
    }

    /// Answers the question of a router, or of a switch that stands in for one, by the groups of our addresses.
    fn answer_group_query<Q: Queue>(&mut self, now: Time, port: &mut Port<Q>, frame: &mut Frame) -> bool {
        let (_, tag) = link::source(frame.bytes());
        if !self.config.arp || !self.neighbor_rate.allows(now) {
            self.stats.drops.add(DropReason::IcmpOther);
            return false;
        }
        let letter = Letter { own: self.local.mac, tag, source: Ipv6Addr::UNSPECIFIED };
        let mut groups: ArrayVec<Ipv6Addr, { StackConfig::MOST_OTHERS }> = ArrayVec::new();
        for group in self.names.own.iter().map(|own| solicited_node(&own)) {
            if !groups.contains(&group) && !groups.is_full() {
                groups.push(group);
            }
        }
        // They are more than one report may name only with as many addresses as there may be.
        let (first, more) = groups.split_at(groups.len().min(REPORTED));
        if !more.is_empty()
            && let Some(mut report) = port.take_frame()
        {
            let written = letter.report_groups(&mut report, more);
            self.stats.group_reports += u64::from(written.is_ok());
            send_if(port, report, written);
        }
        let written = letter.report_groups(frame, first).is_ok();
        self.stats.group_reports += u64::from(written);
        written
    }

    /// Tells the sender of a packet what is wrong with it, at a limited rate.
    fn tell_of_problem(&mut self, now: Time, frame: &mut Frame, problem: &Problem) -> bool {
        self.stats.drops.add(problem.reason);
        let at = usize::from(problem.at);
        let payer = payer_of(&icmpv6::sender(frame.bytes(), at));
        let told = self.problem_limit.allows(now, payer) && icmpv6::complain(frame, at, Complaint::of(problem)).is_ok();
        self.stats.parameter_problems += u64::from(told);
        told
    }

    /// Tells the sender of a datagram over IPv6 that nobody listens on its port, at a limited rate.
    #[cold]
    pub(super) fn refuse_ipv6_datagram<Q: Queue>(&mut self, now: Time, port: &mut Port<Q>, mut frame: Frame) {
        let at = link::packet_at(frame.bytes());
        let payer = payer_of(&icmpv6::sender(frame.bytes(), at));
        if self.unreachable_limit.allows(now, payer)
            && icmpv6::complain(&mut frame, at, Complaint::NO_SUCH_PORT).is_ok()
        {
            self.stats.port_unreachables += 1;
            port.send(frame);
        } else {
            port.free(frame);
        }
    }
}
