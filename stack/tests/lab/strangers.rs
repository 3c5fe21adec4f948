//! What strangers and hostile neighbours flood a host with, by family: frames drawn at random.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::PacketBuilder;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::RngCore;
use sidestep_stack::Mac;

use super::arp::{REPLY, REQUEST, arp};
use super::flooded::{Family, OLD_PORT};
use super::odd::{sum, sum_ip};
use super::raw::{ACK, PSH, SYN, Tcp};
use super::v6::{self, US6};
use super::{OWN, PEER, PORT, THEM, US};

type Rng = Xoshiro256PlusPlus;

/// An address that is nobody's here.
fn stranger(family: Family, rng: &mut Rng) -> IpAddr {
    let [a, b, c, _] = rng.next_u32().to_be_bytes();
    match family {
        Family::V4 => Ipv4Addr::new(10, 128 | a, b, c).into(),
        Family::V6 => far(rng).into(),
    }
}

fn far(rng: &mut Rng) -> Ipv6Addr {
    let mut octets = [0; 16];
    rng.fill_bytes(&mut octets);
    octets[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
    octets.into()
}

/// A station that is none.
fn station(rng: &mut Rng) -> Mac {
    let [_, a, b, c] = rng.next_u32().to_be_bytes();
    Mac([2, 9, 9, a, b, c])
}

/// A host of our subnet that is none.
fn nobody(family: Family, rng: &mut Rng) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 77, 0, 3 + (rng.next_u32() % 250) as u8).into(),
        Family::V6 => near(rng).into(),
    }
}

fn near(rng: &mut Rng) -> Ipv6Addr {
    let mut octets = US6.octets();
    rng.fill_bytes(&mut octets[8..]);
    octets[8] = 0x99;
    octets.into()
}

/// A router that is none.
fn router(rng: &mut Rng) -> Ipv6Addr {
    Ipv6Addr::from_bits(0xfe80 << 112 | near(rng).to_bits() & u128::from(u64::MAX))
}

fn coin(rng: &mut Rng) -> bool {
    rng.next_u32() & 1 == 0
}

/// A segment with these flags and with numbers that nobody knows.
fn segment(rng: &mut Rng, flags: u8) -> Tcp {
    Tcp::new(1_024 | rng.next_u32() as u16, flags, rng.next_u32(), rng.next_u32())
}

/// The frame of such a segment: of a stranger, or, one in four, on the honest client's old connection.
pub fn spoofed(family: Family, rng: &mut Rng, flags: u8) -> Vec<u8> {
    let mut spoofed = segment(rng, flags);
    if rng.next_u32().is_multiple_of(4) {
        spoofed.peer_port = OLD_PORT;
        return spoofed.frame_from(family.them());
    }
    spoofed.frame_from(stranger(family, rng))
}

pub fn syn(family: Family, rng: &mut Rng) -> Vec<u8> {
    segment(rng, SYN).frame_from(stranger(family, rng))
}

/// A request that acknowledges what was never sent.
pub fn guess(family: Family, rng: &mut Rng) -> Vec<u8> {
    segment(rng, ACK | PSH).with(b"get key\r\n").frame_from(stranger(family, rng))
}

/// A fragment of a packet whose rest never comes, at any place.
pub fn fragment(family: Family, rng: &mut Rng) -> Vec<u8> {
    let place = rng.next_u32() as u16 & 0x1fff;
    match stranger(family, rng) {
        IpAddr::V4(source) => {
            let mut frame = segment(rng, SYN).with(&[7; 24]).frame_from(source);
            frame[18..20].copy_from_slice(&(rng.next_u32() as u16).to_be_bytes());
            frame[20..22].copy_from_slice(&(place | 0x2000).to_be_bytes());
            sum_ip(&mut frame[14..34]);
            frame
        }
        IpAddr::V6(source) => {
            let place = (place << 3 | 1).to_be_bytes();
            let body = [&[6, 0][..], &place, &rng.next_u32().to_be_bytes(), &[7; 32]].concat();
            v6::packet(source, US6, v6::FRAGMENT, 64, &body)
        }
    }
}

/// A question for our address, or for another's, of a host that is none.
pub fn question(family: Family, rng: &mut Rng) -> Vec<u8> {
    let mac = station(rng);
    let for_us = coin(rng);
    match nobody(family, rng) {
        IpAddr::V4(asker) => arp(REQUEST, (asker, mac), if for_us { US } else { THEM }),
        IpAddr::V6(asker) => {
            let target = if for_us { US6 } else { asker };
            v6::from_station(&v6::solicitation(asker, v6::group_of(target), target, Some(mac)), mac)
        }
    }
}

/// An answer that nobody has asked for, of a host that is none.
pub fn answer(family: Family, rng: &mut Rng) -> Vec<u8> {
    let host = nobody(family, rng);
    say(rng, host)
}

/// The honest client's address, claimed by another station each time.
pub fn claim(family: Family, rng: &mut Rng) -> Vec<u8> {
    say(rng, family.them())
}

/// Somebody says that `host` is at a station that is none, to us or to all.
fn say(rng: &mut Rng, host: IpAddr) -> Vec<u8> {
    let (mac, to_us) = (station(rng), coin(rng));
    match host {
        IpAddr::V4(host) => arp(REPLY, (host, mac), if to_us { US } else { host }),
        IpAddr::V6(host) => {
            let to = if to_us { US6 } else { v6::ALL_NODES };
            v6::from_station(&v6::advertisement(host, to, host, Some(mac), to_us), mac)
        }
    }
}

/// A station that says it has our address, of us, of the honest client, or of nobody.
pub fn conflict(family: Family, rng: &mut Rng) -> Vec<u8> {
    let mac = station(rng);
    if family == Family::V6 {
        return v6::from_station(&v6::advertisement(US6, v6::ALL_NODES, US6, Some(mac), false), mac);
    }
    let target = [US, THEM, Ipv4Addr::UNSPECIFIED][rng.next_u32() as usize % 3];
    arp(if coin(rng) { REQUEST } else { REPLY }, (US, mac), target)
}

/// A router that is none, with a prefix, an MTU and a lifetime of its own. Over IPv6 alone.
pub fn router_advertisement(_: Family, rng: &mut Rng) -> Vec<u8> {
    let (from, mac) = (router(rng), station(rng));
    let lifetime = [0, 1_800, u16::MAX][rng.next_u32() as usize % 3];
    let mtu = [1_280, 1_400, 9_000_u32][rng.next_u32() as usize % 3];
    let prefix = Ipv6Addr::from_bits(far(rng).to_bits() >> 64 << 64);
    let options = [
        v6::prefix_option(prefix, 64, 3_600),
        [&[5, 1, 0, 0][..], &mtu.to_be_bytes()].concat(),
        v6::station_option(1, mac).to_vec(),
    ];
    v6::from_station(&v6::router_advertisement(from, lifetime, &options.concat()), mac)
}

/// That the honest client, or somebody else, is better reached by a router that is none.
pub fn redirect(family: Family, rng: &mut Rng) -> Vec<u8> {
    if family == Family::V6 {
        let (from, mac) = (router(rng), station(rng));
        let to = if coin(rng) { v6::THEM6 } else { far(rng) };
        return v6::from_station(&v6::redirect(from, from, to, mac), mac);
    }
    let mut quoted = segment(rng, ACK);
    if coin(rng) {
        quoted.peer_port = OLD_PORT;
    }
    // As it came; a redirect quotes what was sent.
    let quoted = quoted.frame();
    let mut frame = segment(rng, ACK).with(&[0; 16]).frame_from(stranger(family, rng));
    frame[23] = 1;
    let (ip, message) = frame[14..].split_at_mut(20);
    message[..4].copy_from_slice(&[5, 1, 0, 0]);
    message[4..8].copy_from_slice(&rng.next_u32().to_be_bytes());
    message[8..36].copy_from_slice(&quoted[14..42]);
    message[20..24].copy_from_slice(&US.octets());
    message[24..28].copy_from_slice(&THEM.octets());
    let right = sum(&[&*message]);
    message[2..4].copy_from_slice(&right);
    sum_ip(ip);
    frame
}

pub fn ping(family: Family, rng: &mut Rng) -> Vec<u8> {
    let id = rng.next_u32();
    match stranger(family, rng) {
        IpAddr::V4(source) => {
            let mut frame = Vec::new();
            PacketBuilder::ethernet2(PEER.0, OWN.0)
                .ipv4(source.octets(), US.octets(), 64)
                .icmpv4_echo_request(id as u16, 1)
                .write(&mut frame, &[1; 32])
                .expect("written to memory");
            frame
        }
        IpAddr::V6(source) => v6::icmp(source, US6, 64, &[&[128, 0, 0, 0][..], &id.to_be_bytes(), &[1; 32]].concat()),
    }
}

/// A packet whose headers have options for each hop, as many as one header holds. Over IPv6 alone.
pub fn hop_by_hop(_: Family, rng: &mut Rng) -> Vec<u8> {
    let source = far(rng);
    let segment = segment(rng, SYN).frame_from(source);
    let units = rng.next_u32() as usize % 100;
    let mut header = vec![6, units as u8];
    // Options of one byte each, which only fill.
    header.resize(8 + 8 * units, 0);
    v6::packet(source, US6, 0, 64, &[&header, &segment[54..]].concat())
}

/// A packet of which something is wrong that its sender is to be told of. Over IPv6 alone.
pub fn problem(_: Family, rng: &mut Rng) -> Vec<u8> {
    let source = far(rng);
    let segment = segment(rng, SYN).frame_from(source);
    let (next, header): (u8, &[u8]) = match rng.next_u32() % 5 {
        0 => (60, &[6, 0, 0x9e, 4, 0, 0, 0, 0]),
        1 => (43, &[6, 0, 0, 1, 0, 0, 0, 0]),
        2 => (60, &[0, 0, 1, 4, 0, 0, 0, 0]),
        3 => (v6::FRAGMENT, &[6, 0, 0, 1, 0, 0, 0, 9]),
        _ => (200, &[]),
    };
    v6::packet(source, US6, next, 64, &[header, &segment[54..]].concat())
}

pub fn garbage(family: Family, rng: &mut Rng) -> Vec<u8> {
    let mut data = [0; 64];
    rng.fill_bytes(&mut data);
    let ports = (1_024 | rng.next_u32() as u16, if data[0] & 1 == 0 { PORT } else { rng.next_u32() as u16 });
    match stranger(family, rng) {
        IpAddr::V4(source) => {
            let mut frame = Vec::new();
            PacketBuilder::ethernet2(PEER.0, OWN.0)
                .ipv4(source.octets(), US.octets(), 64)
                .udp(ports.0, ports.1)
                .write(&mut frame, &data)
                .expect("written to memory");
            frame
        }
        IpAddr::V6(source) => v6::datagram(source, ports, &data),
    }
}

/// Any of the others.
fn any(family: Family, rng: &mut Rng) -> Vec<u8> {
    let kinds = if family == Family::V4 { 7 } else { 10 };
    match rng.next_u32() % kinds {
        0 => syn(family, rng),
        1 => guess(family, rng),
        2 => fragment(family, rng),
        3 => question(family, rng),
        4 => answer(family, rng),
        5 => ping(family, rng),
        6 => garbage(family, rng),
        7 => router_advertisement(family, rng),
        8 => hop_by_hop(family, rng),
        _ => problem(family, rng),
    }
}

pub fn cut(family: Family, rng: &mut Rng) -> Vec<u8> {
    let mut frame = any(family, rng);
    frame.truncate(14 + rng.next_u32() as usize % (frame.len() - 14));
    frame
}

pub fn mutated(family: Family, rng: &mut Rng) -> Vec<u8> {
    let mut frame = any(family, rng);
    for _ in 0..1 + rng.next_u32() % 4 {
        let at = rng.next_u32() as usize % frame.len();
        frame[at] = rng.next_u32() as u8;
    }
    frame
}
