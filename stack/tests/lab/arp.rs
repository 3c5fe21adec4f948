//! ARP packets made by hand and read back.

use std::net::Ipv4Addr;

use sidestep_stack::Mac;

pub const REQUEST: u8 = 1;
pub const REPLY: u8 = 2;

/// The frame to all of `sender`, which is at `mac`, that asks for or answers `target`.
pub fn arp(operation: u8, (sender, mac): (Ipv4Addr, Mac), target: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(mac.0);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(mac.0);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// A request for an address: to which station it was sent, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub to: Mac,
    pub target: Ipv4Addr,
}

/// The ARP requests among `frames`.
pub fn asked(frames: &[Vec<u8>]) -> Vec<Asked> {
    let requests = frames.iter().filter(|frame| frame[12..14] == [8, 6] && frame[20..22] == [0, REQUEST]);
    requests
        .map(|frame| Asked {
            to: Mac(frame[..6].try_into().expect("six bytes")),
            target: Ipv4Addr::new(frame[38], frame[39], frame[40], frame[41]),
        })
        .collect()
}
