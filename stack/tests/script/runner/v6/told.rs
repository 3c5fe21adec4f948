//! What the host sends over IPv6 besides its connections: read from a frame into the words of a script, and compared with them.

use std::fmt;
use std::net::Ipv6Addr;

use nic::checksum;

use super::super::packet::{Ends, fits};
use super::super::parse::read_segment;
use super::super::syntax::Segment;
use super::build::ICMP;
use super::layers::{ADVERTISEMENT_FLAGS, CODES, Header};
use super::names::{Station, Where};

/// Most bytes of a packet that tells of an error (RFC 4443 §2.4 (c)).
const ERROR_BYTES_MAX: usize = 1_280;

/// A packet that the host is to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub text: String,
    pub header: Header,
    pub payload: Content,
}

/// What it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Segment(Segment),
    /// `*` is any word; `...` at the end any more of them.
    Words(Vec<String>),
}

impl Told {
    /// Reads a line; `None` for one of a segment alone.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let (header, payload) = match text.strip_prefix("ipv6").and_then(|rest| rest.split_once(" / ")) {
            Some((header, payload)) => (Header::parse(header)?, payload.trim()),
            None if text.starts_with("icmpv6 ") => (Header::default(), text),
            None => return Ok(None),
        };
        let payload = if payload.starts_with("icmpv6 ") {
            Content::Words(payload.split_whitespace().map(str::to_owned).collect())
        } else {
            Content::Segment(read_segment(payload)?)
        };
        Ok(Some(Self { text: text.to_owned(), header, payload }))
    }

    /// Whether `said`, which the host has sent, is this; `segment` is what it is of a connection.
    pub fn fits(&self, said: &Said, segment: Option<&Segment>, ends: &Ends) -> bool {
        let Header { source, destination, hop_limit, station, .. } = &self.header;
        let addresses = [(source, said.source), (destination, said.destination)];
        addresses.into_iter().all(|(wanted, got)| wanted.as_ref().is_none_or(|wanted| wanted.resolve(ends) == got))
            && hop_limit.is_none_or(|wanted| wanted == said.hop_limit)
            && station.is_none_or(|wanted| wanted.resolve(ends) == said.station)
            && match &self.payload {
                Content::Segment(wanted) => segment.is_some_and(|got| fits(wanted, got)),
                Content::Words(wanted) => fit_words(wanted, &said.words),
            }
    }
}

fn fit_words(wanted: &[String], got: &[String]) -> bool {
    let (wanted, open) = match wanted {
        [rest @ .., last] if last == "..." => (rest, true),
        wanted => (wanted, false),
    };
    (wanted.len() == got.len() || open && wanted.len() <= got.len())
        && wanted.iter().zip(got).all(|(wanted, got)| wanted == "*" || wanted == got)
}

/// A packet that the host has sent, in words; those of a segment are empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub station: [u8; 6],
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub hop_limit: u8,
    pub words: Vec<String>,
    names: (String, String, String),
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, destination, station) = &self.names;
        write!(f, "ipv6 {source} > {destination} hlim {} to {station} / {}", self.hop_limit, self.words.join(" "))
    }
}

impl Said {
    /// Reads a frame of the host's; `None` where it is not IPv6. Checks all that no script needs to say.
    ///
    /// # Errors
    /// It says something that no host may say.
    pub fn read(frame: &[u8], ends: &Ends) -> Option<Result<Self, String>> {
        let header = frame.get(14..54).filter(|_| frame[12..14] == [0x86, 0xdd])?;
        Some(Self::read_packet(frame, header, ends))
    }

    fn read_packet(frame: &[u8], header: &[u8], ends: &Ends) -> Result<Self, String> {
        let address = |at: usize| Ipv6Addr::from(*header[at..].first_chunk::<16>().expect("40 bytes"));
        let (source, destination, hop_limit) = (address(8), address(24), header[7]);
        let station: [u8; 6] = *frame.first_chunk().expect("14 bytes");
        let bytes = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let body = frame.get(54..54 + bytes).ok_or_else(|| format!("the packet is cut: {frame:02x?}"))?;
        if header[0] >> 4 != 6 || source.is_multicast() || frame[6..12] != ends.host_mac {
            return Err(format!("no host sends this: {frame:02x?}"));
        }
        let [.., a, b, c, d] = destination.octets();
        if destination.is_multicast() != (station == [0x33, 0x33, a, b, c, d]) {
            return Err(format!("to {destination} by the station {station:02x?}"));
        }
        let words = match header[6] {
            6 => Vec::new(),
            ICMP => message(body, (source, destination), hop_limit, ends)?,
            protocol => vec!["proto".to_owned(), protocol.to_string(), format!("({bytes})")],
        };
        let names = (Where::name(source, ends), Where::name(destination, ends), Station::name(station, ends));
        Ok(Self { station, source, destination, hop_limit, words, names })
    }
}

/// The words of a message of ICMPv6.
fn message(body: &[u8], between: (Ipv6Addr, Ipv6Addr), hop_limit: u8, ends: &Ends) -> Result<Vec<String>, String> {
    let (source, destination) = (between.0.octets(), between.1.octets());
    let sum = checksum::pseudo_header_v6(source, destination, ICMP, body.len() as u32);
    if !checksum::is_right(checksum::add(sum, body)) {
        return Err(format!("a wrong checksum: {body:02x?}"));
    }
    let [kind, code, _, _, word @ ..] = body else { return Err(format!("a message of {} bytes", body.len())) };
    let is_discovery = (133..=137).contains(kind);
    // RFC 4861 §7.1; what else a host sends begins with its own hop limit.
    if is_discovery != (hop_limit == 255) || (is_discovery && *code != 0) {
        return Err(format!("type {kind} with hop limit {hop_limit} and code {code}"));
    }
    let short = || format!("type {kind} of {} bytes", body.len());
    let number = |at: usize| Some(u16::from_be_bytes([*word.get(at)?, *word.get(at + 1)?]));
    let mut words = vec!["icmpv6".to_owned()];
    match kind {
        1..=4 => error_words(&mut words, body, ends)?,
        129 => {
            let (id, seq) = (number(0).ok_or_else(short)?, number(2).ok_or_else(short)?);
            let data = &body[8..];
            if data.iter().enumerate().any(|(at, &byte)| byte != super::super::packet::pattern(at)) {
                return Err(format!("other bytes than were sent: {data:02x?}"));
            }
            words.extend(["echo_reply", "id"].map(str::to_owned));
            words.extend([id.to_string(), "seq".to_owned(), seq.to_string(), format!("({})", data.len())]);
        }
        135 | 136 => {
            let target = body.get(8..24).and_then(|octets| octets.first_chunk::<16>()).ok_or_else(short)?;
            words.push(if *kind == 135 { "ns" } else { "na" }.to_owned());
            words.extend(["target".to_owned(), Where::name(Ipv6Addr::from(*target), ends)]);
            if *kind == 136 {
                let letters: String = ADVERTISEMENT_FLAGS
                    .iter()
                    .filter(|(_, flag)| body[4] & flag != 0)
                    .map(|&(letter, _)| letter)
                    .collect();
                words.extend(["flags".to_owned(), if letters.is_empty() { "-".to_owned() } else { letters }]);
            }
            option_words(&mut words, &body[24..], ends)?;
        }
        kind => words.extend(["type".to_owned(), kind.to_string()]),
    }
    Ok(words)
}

/// Link-layer address options; others by their number.
fn option_words(words: &mut Vec<String>, mut bytes: &[u8], ends: &Ends) -> Result<(), String> {
    while !bytes.is_empty() {
        let len = bytes.get(1).map_or(0, |&units| 8 * usize::from(units));
        let (option, rest) =
            bytes.split_at_checked(len).filter(|_| len > 0).ok_or_else(|| format!("options: {bytes:02x?}"))?;
        match option {
            [kind @ (1 | 2), 1, mac @ ..] => {
                let mac = *mac.first_chunk().expect("eight bytes");
                words.extend([if *kind == 1 { "sll" } else { "tll" }.to_owned(), Station::name(mac, ends)]);
            }
            // A nonce, by which a host knows its own solicitations again (RFC 7527 §4.1).
            [14, ..] => {}
            option => words.extend(["option".to_owned(), option[0].to_string()]),
        }
        bytes = rest;
    }
    Ok(())
}

fn error_words(words: &mut Vec<String>, body: &[u8], ends: &Ends) -> Result<(), String> {
    let (kind, code) = (body[0], body[1]);
    let quoted = body.get(8..48).ok_or_else(|| format!("an error about nothing: {body:02x?}"))?;
    let source = Ipv6Addr::from(*quoted[8..].first_chunk::<16>().expect("40 bytes"));
    if quoted[0] >> 4 != 6 || Where::name(source, ends) != "peer" || 40 + body.len() > ERROR_BYTES_MAX {
        return Err(format!("an error about what nobody sent, or too long: {body:02x?}"));
    }
    let known = CODES.iter().find(|(known, of, ..)| (*known, *of) == (kind, code));
    let (kind_name, code_name) = known.map_or(("error", "?"), |(_, _, kind, code)| (*kind, *code));
    words.extend([kind_name.to_owned(), code_name.to_owned()]);
    if kind == 4 {
        let pointer = u32::from_be_bytes([body[4], body[5], body[6], body[7]]);
        words.extend(["pointer".to_owned(), pointer.to_string()]);
    }
    Ok(())
}
