//! IPv6 packets of the peer's as a script writes them, header by header: `ipv6 peer > host hlim 64 / hbh pad 4 / udp 1 > 9 (5)`.

use std::net::Ipv6Addr;

use super::super::parse::{number, read_peer, read_range, read_segment};
use super::super::syntax::Segment;
use super::names::{Station, Where};

/// The IPv6 header, as far as a line says anything of it, and the station of the peer's side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    pub source: Option<Where>,
    pub destination: Option<Where>,
    pub hop_limit: Option<u8>,
    /// Whose the frame is, or for whom.
    pub station: Option<Station>,
    /// The payload length that it tells instead of the right one.
    pub length: Option<u16>,
}

impl Header {
    /// Reads what stands behind `ipv6`: `[SOURCE > DESTINATION] [hlim N] [from|to MAC] [len N]`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut header = Self::default();
        let mut words = text.split_whitespace().peekable();
        while let Some(word) = words.next() {
            if words.peek() == Some(&">") {
                words.next();
                header.source = Some(Where::parse(word)?);
                header.destination = Some(Where::parse(words.next().ok_or("an address stands behind >")?)?);
                continue;
            }
            let value = words.next().ok_or_else(|| format!("`{word}` wants a value"))?;
            match word {
                "hlim" => header.hop_limit = Some(number(value)?),
                "from" | "to" => header.station = Some(Station::parse(value)?),
                "len" => header.length = Some(number(value)?),
                _ => return Err(format!("`{word}` is none of hlim, from, to, len")),
            }
        }
        Ok(header)
    }
}

/// An extension header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extension {
    /// Of this number (0 hop-by-hop, 60 destination), with these bytes behind its first two; filled up to whole eights.
    Options(u8, Vec<u8>),
    /// A routing header of this type, with so many segments left (RFC 8200 §4.4).
    Routing(u8, u8),
    Fragment(Fragment),
    /// An authentication header (RFC 4302 §2).
    Authentication,
}

/// A fragment: which bytes of what follows it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    pub from: usize,
    pub to: Option<usize>,
    pub more: bool,
    pub id: u32,
    /// The offset that it tells, in bytes, instead of `from`.
    pub at: Option<u16>,
}

impl Extension {
    /// Reads a header; `None` where it is none.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let words: Vec<_> = text.split_whitespace().collect();
        Ok(Some(match words[..] {
            ["hbh", ref options @ ..] => Self::Options(0, read_options(options)?),
            ["dst", ref options @ ..] => Self::Options(60, read_options(options)?),
            ["routing", kind, "left", left] => Self::Routing(number(kind)?, number(left)?),
            ["frag", range, ref rest @ ..] => Self::Fragment(Fragment::parse(range, rest)?),
            ["ah"] => Self::Authentication,
            _ => return Ok(None),
        }))
    }
}

impl Fragment {
    /// `FROM:TO[+] [at N] id N`, where `end` for TO is the end.
    fn parse(range: &str, rest: &[&str]) -> Result<Self, String> {
        let (range, more) = range.strip_suffix('+').map_or((range, false), |range| (range, true));
        let (from, to) = range.split_once(':').ok_or("a fragment has the bytes FROM:TO")?;
        let to = if to == "end" { None } else { Some(number(to)?) };
        let (at, id) = match *rest {
            ["at", at, "id", id] => (Some(number(at)?), number(id)?),
            ["id", id] => (None, number(id)?),
            _ => return Err("behind the bytes of a fragment comes [at N] id N".to_owned()),
        };
        Ok(Self { from: number(from)?, to, more, id, at })
    }
}

/// Options: `pad N` fills N bytes, `opt TT` is one of this type without data, `jumbo N` and `alert` as RFC 2675 and
/// RFC 2711 have them.
fn read_options(words: &[&str]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().copied().ok_or_else(|| format!("`{word}` wants a value"));
        match *word {
            "pad" => {
                let mut left: usize = number(value()?)?;
                while left > 0 {
                    let piece = left.min(257);
                    match piece {
                        1 => bytes.push(0),
                        piece => {
                            bytes.extend([1, (piece - 2) as u8]);
                            bytes.resize(bytes.len() + piece - 2, 0);
                        }
                    }
                    left -= piece;
                }
            }
            "opt" => {
                let kind = value()?;
                let kind = u8::from_str_radix(kind, 16).map_err(|_| format!("`{kind}` is no byte in hex"))?;
                bytes.extend([kind, 0]);
            }
            "jumbo" => {
                bytes.extend([0xc2, 4]);
                bytes.extend(number::<u32>(value()?)?.to_be_bytes());
            }
            "alert" => bytes.extend([5, 2, 0, 0]),
            _ => return Err(format!("`{word}` is none of pad, opt, jumbo, alert")),
        }
    }
    Ok(bytes)
}

/// What the headers carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    Segment(Segment),
    Udp {
        from: u16,
        to: u16,
        len: usize,
    },
    Icmp(Icmp),
    /// So many bytes of a protocol of this number; 59 is none.
    Other(u8, usize),
}

/// A message of ICMPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Icmp {
    Echo {
        id: u16,
        seq: u16,
        len: usize,
    },
    Solicitation {
        target: Where,
        source: Option<Station>,
    },
    Advertisement {
        target: Where,
        flags: u8,
        station: Option<Station>,
    },
    RouterAdvertisement {
        lifetime: u16,
        prefix: Option<(Ipv6Addr, u8)>,
        mtu: Option<u32>,
        source: Option<Station>,
    },
    Redirect {
        target: Where,
        destination: Where,
    },
    /// An error about a segment of the host's: type, code, the word behind them, the peer's port, first number and length.
    Error {
        kind: u8,
        code: u8,
        word: u32,
        peer: u8,
        seq: i64,
        len: usize,
    },
}

/// What is wrong with a payload on purpose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bend {
    pub code: Option<u8>,
    /// Its checksum is one too many.
    pub wrong_sum: bool,
    /// Its checksum is zero.
    pub no_sum: bool,
    /// So many bytes of it are left.
    pub cut: Option<usize>,
}

/// An IPv6 packet of the peer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub text: String,
    pub header: Header,
    pub extensions: Vec<Extension>,
    pub payload: Payload,
    pub bend: Bend,
}

impl Packet {
    /// Reads a packet; `None` for a line of a segment alone.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let is_packet = text.contains(" / ") || ["udp ", "proto ", "none"].iter().any(|word| text.starts_with(word));
        if !is_packet && !text.split_whitespace().any(|word| word == "icmpv6") {
            return Ok(None);
        }
        let mut layers: Vec<_> = text.split(" / ").map(str::trim).collect();
        let payload = layers.pop().ok_or("a packet has a payload")?;
        let mut layers = layers.into_iter().peekable();
        let header = match layers.peek().and_then(|layer| layer.strip_prefix("ipv6")) {
            Some(header) => {
                let header = Header::parse(header)?;
                layers.next();
                header
            }
            None => Header::default(),
        };
        let read = |layer: &str| Extension::parse(layer)?.ok_or_else(|| format!("`{layer}` is no header of IPv6"));
        let extensions = layers.map(read).collect::<Result<_, String>>()?;
        let (payload, bend) = read_payload(payload)?;
        Ok(Some(Self { text: text.to_owned(), header, extensions, payload, bend }))
    }
}

/// Takes what is bent on purpose off the end of a payload's words.
fn read_bend<'a>(mut words: &'a [&'a str]) -> Result<(&'a [&'a str], Bend), String> {
    let mut bend = Bend::default();
    loop {
        words = match words {
            [rest @ .., "badsum"] => {
                bend.wrong_sum = true;
                rest
            }
            [rest @ .., "nosum"] => {
                bend.no_sum = true;
                rest
            }
            [rest @ .., "cut", bytes] => {
                bend.cut = Some(number(bytes)?);
                rest
            }
            [rest @ .., "code", code] => {
                bend.code = Some(number(code)?);
                rest
            }
            words => return Ok((words, bend)),
        };
    }
}

fn read_payload(text: &str) -> Result<(Payload, Bend), String> {
    let all: Vec<_> = text.split_whitespace().collect();
    let (words, bend) = read_bend(&all)?;
    let payload = match words {
        ["udp", from, ">", to, len] => Payload::Udp { from: number(from)?, to: number(to)?, len: read_len(len)? },
        ["proto", protocol, len] => Payload::Other(number(protocol)?, read_len(len)?),
        ["none"] => Payload::Other(59, 0),
        words if words.contains(&"icmpv6") => Payload::Icmp(read_icmp(words)?),
        words => Payload::Segment(read_segment(&words.join(" "))?),
    };
    Ok((payload, bend))
}

/// `(8)`.
fn read_len(text: &str) -> Result<usize, String> {
    let len = text.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
    number(len.ok_or_else(|| format!("`{text}` is no length in brackets"))?)
}

fn read_icmp(words: &[&str]) -> Result<Icmp, String> {
    let options = |words: &[&str], name: &str| -> Result<Option<String>, String> {
        let Some(at) = words.iter().position(|word| *word == name) else { return Ok(None) };
        words.get(at + 1).map(|value| Some((*value).to_owned())).ok_or_else(|| format!("`{name}` wants a value"))
    };
    let station = |words: &[&str], name: &str| options(words, name)?.map(|text| Station::parse(&text)).transpose();
    Ok(match *words {
        ["icmpv6", "echo_request", "id", id, "seq", seq, len] => {
            Icmp::Echo { id: number(id)?, seq: number(seq)?, len: read_len(len)? }
        }
        ["icmpv6", "ns", "target", target, ref rest @ ..] => {
            Icmp::Solicitation { target: Where::parse(target)?, source: station(rest, "sll")? }
        }
        ["icmpv6", "na", "target", target, "flags", flags, ref rest @ ..] => Icmp::Advertisement {
            target: Where::parse(target)?,
            flags: read_flags(flags)?,
            station: station(rest, "tll")?,
        },
        ["icmpv6", "ra", "lifetime", lifetime, ref rest @ ..] => Icmp::RouterAdvertisement {
            lifetime: number(lifetime)?,
            prefix: options(rest, "prefix")?.map(|text| read_prefix(&text)).transpose()?,
            mtu: options(rest, "mtu")?.map(|text| number(&text)).transpose()?,
            source: station(rest, "sll")?,
        },
        ["icmpv6", "redirect", "target", target, "dst", destination] => {
            Icmp::Redirect { target: Where::parse(target)?, destination: Where::parse(destination)? }
        }
        _ => read_error(words)?,
    })
}

fn read_prefix(text: &str) -> Result<(Ipv6Addr, u8), String> {
    let (address, len) = text.split_once('/').ok_or_else(|| format!("`{text}` is no prefix"))?;
    Ok((number(address)?, number(len)?))
}

/// The letters of an advertisement's flags: router, solicited, override; `-` for none.
pub const ADVERTISEMENT_FLAGS: [(char, u8); 3] = [('R', 0x80), ('S', 0x40), ('O', 0x20)];

fn read_flags(text: &str) -> Result<u8, String> {
    text.chars().filter(|&letter| letter != '-').try_fold(0, |flags, letter| {
        let known = ADVERTISEMENT_FLAGS.iter().find(|(known, _)| *known == letter);
        known.map(|(_, flag)| flags | flag).ok_or_else(|| format!("`{letter}` is none of R, S, O"))
    })
}

/// The codes of errors by name, as packetdrill has them (RFC 4443 §3).
pub const CODES: [(u8, u8, &str, &str); 11] = [
    (1, 0, "unreachable", "no_route"),
    (1, 1, "unreachable", "admin_prohib"),
    (1, 2, "unreachable", "beyond_scope"),
    (1, 3, "unreachable", "address"),
    (1, 4, "unreachable", "port"),
    (3, 0, "time_exceeded", "hop_limit"),
    (3, 1, "time_exceeded", "reassembly"),
    (4, 0, "parameter_problem", "header"),
    (4, 1, "parameter_problem", "next_header"),
    (4, 2, "parameter_problem", "option"),
    // RFC 7112 §5.
    (4, 3, "parameter_problem", "first_fragment"),
];

/// `[@2] [first:next(length)] icmpv6 KIND CODE|mtu N`.
fn read_error(words: &[&str]) -> Result<Icmp, String> {
    let text = words.join(" ");
    let (peer, text) = read_peer(&text)?;
    let words: Vec<_> = text.split_whitespace().collect();
    let [quoted, "icmpv6", kind, ref rest @ ..] = words[..] else {
        return Err("an error is [first:next(length)] icmpv6 KIND CODE".to_owned());
    };
    let quoted = quoted.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let (seq, len) = read_range(quoted.ok_or("what is quoted stands in brackets")?)?;
    let (kind, code, word) = match (kind, rest) {
        ("packet_too_big", ["mtu", mtu]) => (2, 0, number(mtu)?),
        (kind, [code]) => {
            let known = CODES.iter().find(|(_, _, known, name)| *known == kind && name == code);
            let (kind, code, ..) = known.ok_or_else(|| format!("`{kind} {code}` is no error of ICMPv6"))?;
            (*kind, *code, 0)
        }
        _ => return Err(format!("`{text}` is no error of ICMPv6")),
    };
    Ok(Icmp::Error { kind, code, word, peer, seq, len })
}
