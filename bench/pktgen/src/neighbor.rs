//! Finding each other, whichever the family: ARP for IPv4, neighbour discovery for IPv6.

use std::net::IpAddr;

use nic::{Frame, Mac};

use crate::station::Station;
use crate::{arp, ndp};

/// Longest frame that asks or answers.
pub const FRAME_BYTES_MAX: usize = ndp::FRAME_BYTES;

/// What a frame means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbor {
    /// It asked for our address; the frame is now the answer, to be sent.
    Answer,
    /// It answers: this address has this Ethernet address.
    Learned(IpAddr, Mac),
    /// It is nothing to us.
    Other,
}

/// Looks at a frame, and turns a question for our address into the answer.
pub fn receive(frame: &mut Frame, ours: Station) -> Neighbor {
    match ours.address {
        IpAddr::V4(address) => match arp::receive(frame.bytes_mut(), arp::Host { mac: ours.mac, address }) {
            arp::Arp::Answer => Neighbor::Answer,
            arp::Arp::Learned(address, mac) => Neighbor::Learned(address.into(), mac),
            arp::Arp::Other => Neighbor::Other,
        },
        IpAddr::V6(address) => {
            let ours = ndp::Host { mac: ours.mac, address };
            match ndp::receive(frame.bytes(), ours) {
                // An asker without an address asks in fewer bytes than the answer has.
                ndp::Ndp::Asked(mac, asker) if frame.resize(ndp::FRAME_BYTES).is_ok() => {
                    frame.bytes_mut().copy_from_slice(&ndp::advertisement(ours, mac, asker));
                    Neighbor::Answer
                }
                ndp::Ndp::Learned(address, mac) => Neighbor::Learned(address.into(), mac),
                ndp::Ndp::Asked(..) | ndp::Ndp::Other => Neighbor::Other,
            }
        }
    }
}

/// Makes `frame` the question for `wanted`; `false` where it has no room for that, or the families differ.
pub fn ask(frame: &mut Frame, ours: Station, wanted: IpAddr) -> bool {
    let mut write = |bytes: &[u8]| {
        let fits = frame.resize(bytes.len()).is_ok();
        if fits {
            frame.bytes_mut().copy_from_slice(bytes);
        }
        fits
    };
    match (ours.address, wanted) {
        (IpAddr::V4(address), IpAddr::V4(wanted)) => write(&arp::request(arp::Host { mac: ours.mac, address }, wanted)),
        (IpAddr::V6(address), IpAddr::V6(wanted)) => {
            write(&ndp::solicitation(ndp::Host { mac: ours.mac, address }, wanted))
        }
        _ => false,
    }
}
