//! `read`: the frames of a file of frames, pcap or pcapng, with an Ethernet header before each that has another.

use std::io::Read;
use std::time::Duration;

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::Block;
use pcap_file::pcapng::PcapNgReader;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::{PcapError, TsResolution};

use crate::lab::{OWN, PEER};

/// The first four bytes of a pcapng file.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// Those of a pcap file, in either order of bytes: microseconds and nanoseconds.
const PCAP: [u32; 2] = [0xa1b2_c3d4, 0xa1b2_3c4d];

/// A frame as it was captured.
#[derive(Debug, Clone)]
pub struct Captured {
    pub at: Duration,
    pub bytes: Vec<u8>,
    /// How long it was on its link, with the Ethernet header that was put before it.
    pub len: usize,
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Contents {
    pub frames: Vec<Captured>,
    /// By link type: frames that no Ethernet header can be put before.
    pub other_links: Vec<u32>,
    /// Frames whose end was not captured.
    pub cut: usize,
    /// Why reading ended before the file did.
    pub damage: Option<String>,
}

/// Reads all that can be read; `None` for what is no file of frames.
pub fn read(bytes: &[u8]) -> Option<Contents> {
    let magic: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    let mut contents = Contents::default();
    let outcome = if magic == PCAPNG {
        read_pcapng(bytes, &mut contents)
    } else if PCAP.contains(&u32::from_be_bytes(magic)) || PCAP.contains(&u32::from_le_bytes(magic)) {
        read_pcap(bytes, &mut contents)
    } else {
        return None;
    };
    contents.damage = outcome.err().map(|error| error.to_string());
    Some(contents)
}

fn read_pcap(source: impl Read, contents: &mut Contents) -> Result<(), PcapError> {
    let mut reader = PcapReader::new(source)?;
    let header = reader.header();
    let nanos = match header.ts_resolution {
        TsResolution::MicroSecond => 1_000,
        TsResolution::NanoSecond => 1,
    };
    while let Some(frame) = reader.next_raw_packet() {
        let frame = frame?;
        // Files that fuzzers have made have any number here.
        let at = Duration::from_secs(frame.ts_sec.into()) + Duration::from_nanos(u64::from(frame.ts_frac) * nanos);
        contents.add(header.datalink.into(), at, &frame.data, frame.orig_len);
    }
    Ok(())
}

fn read_pcapng(source: impl Read, contents: &mut Contents) -> Result<(), PcapError> {
    let mut reader = PcapNgReader::new(source)?;
    // By interface: its link type, and nanoseconds of its clock's tick.
    let mut interfaces: Vec<(u32, u64)> = Vec::new();
    while let Some(block) = reader.next_block() {
        let (interface, ticks, data, len) = match block? {
            Block::SectionHeader(_) => {
                interfaces.clear();
                continue;
            }
            Block::InterfaceDescription(interface) => {
                let tick = interface.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfTsResol(9) => Some(1),
                    InterfaceDescriptionOption::IfTsResol(3) => Some(1_000_000),
                    InterfaceDescriptionOption::IfTsResol(0) => Some(1_000_000_000),
                    _ => None,
                });
                interfaces.push((interface.linktype.into(), tick.unwrap_or(1_000)));
                continue;
            }
            // The reader takes every tick for a nanosecond.
            Block::EnhancedPacket(packet) => {
                (packet.interface_id as usize, packet.timestamp.as_nanos() as u64, packet.data, packet.original_len)
            }
            Block::Packet(packet) => {
                (usize::from(packet.interface_id), packet.timestamp, packet.data, packet.original_len)
            }
            Block::SimplePacket(packet) => (0, 0, packet.data, packet.original_len),
            _ => continue,
        };
        let (link, tick) = interfaces.get(interface).copied().unwrap_or((u32::MAX, 1));
        contents.add(link, Duration::from_nanos(ticks.saturating_mul(tick)), &data, len);
    }
    Ok(())
}

impl Contents {
    fn add(&mut self, link: u32, at: Duration, data: &[u8], len: u32) {
        let len = (len as usize).max(data.len());
        self.cut += usize::from(len > data.len());
        let Some((ethernet, skipped)) = ethernet(link, data) else { return self.other_links.push(link) };
        let bytes = [&ethernet[..], &data[skipped..]].concat();
        self.frames.push(Captured { at, len: len - skipped + ethernet.len(), bytes });
    }
}

/// The Ethernet header to be put before a frame of the link type `link`, and how many bytes of its own go; `None` where
/// there can be none.
fn ethernet(link: u32, data: &[u8]) -> Option<(Vec<u8>, usize)> {
    let header = |ether_type: [u8; 2]| [&OWN.0[..], &PEER.0, &ether_type].concat();
    let by_version = |skipped: usize| {
        let ether_type = match data.get(skipped)? >> 4 {
            4 => [8, 0],
            6 => [0x86, 0xdd],
            _ => return None,
        };
        Some((header(ether_type), skipped))
    };
    match link {
        1 => Some((Vec::new(), 0)),
        // BSD's loopback: four bytes of an address family, by whose order nobody agrees.
        0 | 108 => by_version(4),
        // Raw IP, by the numbers that several systems gave it.
        12 | 14 | 101 | 228 | 229 => by_version(0),
        // Linux's cooked captures, of either version.
        113 => Some((header([*data.get(14)?, *data.get(15)?]), 16)),
        276 if data.len() >= 20 => Some((header([data[0], data[1]]), 20)),
        _ => None,
    }
}
