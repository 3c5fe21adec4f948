//! Packets of the binary protocol: requests as they are put together, responses as lines that people can read.
//!
//! A line is `opcode status opaque=... cas=... extras=... key=... value=...`, numbers in hexadecimal but for the unique,
//! bytes that are no printable ASCII as `%NN`.

use std::fmt::Write;

/// Bytes of a header.
pub const HEADER: usize = 24;

/// A request. The lengths are those of its parts unless they are set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// 0x80 in a good one.
    pub magic: u8,
    /// What is asked for.
    pub opcode: u8,
    /// Comes back as it is.
    pub opaque: u32,
    /// 0 is any version.
    pub cas: u64,
    /// Before the key.
    pub extras: Vec<u8>,
    /// The key.
    pub key: Vec<u8>,
    /// After the key.
    pub value: Vec<u8>,
    /// Instead of the key's length.
    pub key_len: Option<u16>,
    /// Instead of the extras' length.
    pub extras_len: Option<u8>,
    /// Instead of all parts' length.
    pub body_len: Option<u32>,
}

impl Packet {
    /// A good packet without any part.
    pub fn new(opcode: u8) -> Self {
        Self {
            magic: 0x80,
            opcode,
            opaque: 0,
            cas: 0,
            extras: Vec::new(),
            key: Vec::new(),
            value: Vec::new(),
            key_len: None,
            extras_len: None,
            body_len: None,
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let body = self.extras.len() + self.key.len() + self.value.len();
        let mut out = vec![self.magic, self.opcode];
        out.extend(self.key_len.unwrap_or(self.key.len() as u16).to_be_bytes());
        out.extend([self.extras_len.unwrap_or(self.extras.len() as u8), 0, 0, 0]);
        out.extend(self.body_len.unwrap_or(body as u32).to_be_bytes());
        out.extend(self.opaque.to_be_bytes());
        out.extend(self.cas.to_be_bytes());
        out.extend([&self.extras[..], &self.key, &self.value].concat());
        out
    }

    /// Reads `opcode name=value ...`: `opaque magic extlen keylen bodylen` in hexadecimal, `cas` in decimal, `extras` as
    /// hexadecimal digits, `key` and `value` as they are but for `%NN`.
    ///
    /// # Errors
    /// The word that means nothing.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        let hex = |text: &str| u32::from_str_radix(text, 16).map_err(|error| format!("'{text}': {error}"));
        let mut packet = Packet::new(hex(words.next().ok_or("no opcode")?)? as u8);
        for word in words {
            let (name, value) = word.split_once('=').ok_or_else(|| format!("'{word}' is not name=value"))?;
            match name {
                "opaque" => packet.opaque = hex(value)?,
                "magic" => packet.magic = hex(value)? as u8,
                "keylen" => packet.key_len = Some(hex(value)? as u16),
                "extlen" => packet.extras_len = Some(hex(value)? as u8),
                "bodylen" => packet.body_len = Some(hex(value)?),
                "cas" => packet.cas = value.parse().map_err(|error| format!("'{value}': {error}"))?,
                "extras" => {
                    let digits = |at: usize| value.get(at..at + 2).ok_or_else(|| format!("'{value}' has odd length"));
                    packet.extras = (0..value.len())
                        .step_by(2)
                        .map(|at| Ok(hex(digits(at)?)? as u8))
                        .collect::<Result<_, String>>()?;
                }
                "key" => packet.key = unescape(value),
                "value" => packet.value = unescape(value),
                other => return Err(format!("'{other}' is no part of a packet")),
            }
        }
        Ok(packet)
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let digits = if first == b'%' { after.get(..2) } else { None };
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

/// A response, its parts borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response<'a> {
    /// That of the request.
    pub opcode: u8,
    /// 0 is success.
    pub status: u16,
    /// That of the request.
    pub opaque: u32,
    /// The item's unique.
    pub cas: u64,
    /// Before the key.
    pub extras: &'a [u8],
    /// The key.
    pub key: &'a [u8],
    /// After the key.
    pub value: &'a [u8],
}

impl<'a> Response<'a> {
    /// The response at the start of `bytes` and what follows it; `None` when it is not whole, or none.
    pub fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let header: &[u8; HEADER] = bytes.first_chunk()?;
        let &[0x81, opcode, k0, k1, extras, _, s0, s1, b0, b1, b2, b3, o0, o1, o2, o3, ref cas @ ..] = header else {
            return None;
        };
        let body = u32::from_be_bytes([b0, b1, b2, b3]) as usize;
        let (body, rest) = (bytes.get(HEADER..HEADER + body)?, bytes.get(HEADER + body..)?);
        let (extras, key_and_value) = body.split_at_checked(usize::from(extras))?;
        let (key, value) = key_and_value.split_at_checked(usize::from(u16::from_be_bytes([k0, k1])))?;
        let response = Response {
            opcode,
            status: u16::from_be_bytes([s0, s1]),
            opaque: u32::from_be_bytes([o0, o1, o2, o3]),
            cas: u64::from_be_bytes(*cas),
            extras,
            key,
            value,
        };
        Some((response, rest))
    }

    /// The line for people; `cas` is shown as given.
    pub fn line(&self, cas: &str) -> String {
        let mut out = format!("{:02x} {:02x} opaque={:08x} cas={cas} extras=", self.opcode, self.status, self.opaque);
        for byte in self.extras {
            // Writing to a string cannot fail.
            let _ = write!(out, "{byte:02x}");
        }
        out + " key=" + &escape(self.key) + " value=" + &escape(self.value) + "\r\n"
    }
}

/// Printable ASCII as it is, anything else, and blanks and percent signs, as `%NN`.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_graphic() && byte != b'%' {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02x}");
        }
    }
    out
}

/// All responses as lines, each unique shown as `cas` says; what is no whole response comes last, as it is.
pub fn lines(replies: &[u8], mut cas: impl FnMut(&Response<'_>) -> String) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), replies);
    while let Some((response, after)) = Response::read(rest) {
        let unique = cas(&response);
        out.extend(response.line(&unique).into_bytes());
        rest = after;
    }
    if !rest.is_empty() {
        out.extend(format!("rest={}\r\n", escape(rest)).into_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_from_its_words_and_a_response_becomes_a_line() {
        let packet = Packet::read("01 key=k%20y extras=00000007000000ff value=v cas=9 opaque=a1").unwrap();
        let bytes = packet.encode();
        assert_eq!(&bytes[..12], b"\x80\x01\0\x03\x08\0\0\0\0\0\0\x0c");
        assert_eq!(&bytes[12..], b"\0\0\0\xa1\0\0\0\0\0\0\0\x09\0\0\0\x07\0\0\0\xffk yv");
        let response = [&b"\x81"[..], &bytes[1..]].concat();
        let text = lines(&[&response[..], b"\x81\x01"].concat(), |response| response.cas.to_string());
        let line = "01 00 opaque=000000a1 cas=9 extras=00000007000000ff key=k%20y value=v\r\nrest=%81%01\r\n";
        assert_eq!(String::from_utf8(text).unwrap(), line);
        assert!(Packet::read("01 colour=red").is_err() && Packet::read("").is_err());
    }
}
