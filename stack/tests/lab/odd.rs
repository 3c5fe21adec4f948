//! Frames as links and middle boxes make them: padded, with IPv4 options, with a byte bent; and their checksums put right.

use etherparse::checksum::Sum16BitWords;

/// The IPv4 packet of an untagged frame with `options`, filled up to whole words, behind its header.
pub fn with_ip_options(frame: &[u8], options: &[u8]) -> Vec<u8> {
    let mut options = options.to_vec();
    options.resize(options.len().next_multiple_of(4), 0);
    assert!(options.len() <= 40, "a header has room for 40 bytes of options");
    let mut with = [&frame[..34], &options, &frame[34..]].concat();
    with[14] = 0x45 + (options.len() / 4) as u8;
    let len = u16::from_be_bytes([frame[16], frame[17]]) + options.len() as u16;
    with[16..18].copy_from_slice(&len.to_be_bytes());
    let end = 34 + options.len();
    sum_ip(&mut with[14..end]);
    with
}

/// The frame as Ethernet pads it, to 60 bytes, and with `more` bytes behind.
pub fn padded(frame: &[u8], more: usize) -> Vec<u8> {
    let mut padded = frame.to_vec();
    padded.resize(frame.len().max(60) + more, 0xee);
    padded
}

/// Writes the right checksum into an IPv4 header.
pub fn sum_ip(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = sum(&[header]);
    header[10..12].copy_from_slice(&sum);
}

/// Writes the right checksum into the TCP segment, datagram or ICMP message `body` behind the IPv4 header `ip`; not if it is
/// too short to have one.
pub fn sum_body(ip: &[u8], body: &mut [u8]) {
    let at = match ip[9] {
        6 if body.len() >= 20 => 16,
        17 if body.len() >= 8 => 6,
        1 if body.len() >= 8 => 2,
        _ => return,
    };
    body[at..at + 2].fill(0);
    let [high, low] = (body.len() as u16).to_be_bytes();
    let sum = if ip[9] == 1 { sum(&[body]) } else { sum(&[&ip[12..20], &[0, ip[9], high, low], body]) };
    body[at..at + 2].copy_from_slice(&sum);
}

/// The Internet checksum of `parts` (RFC 1071), of which only the last may have an odd number of bytes.
pub fn sum(parts: &[&[u8]]) -> [u8; 2] {
    let sum = parts.iter().fold(Sum16BitWords::new(), |sum, part| sum.add_slice(part));
    sum.ones_complement().to_ne_bytes()
}

/// The frames of a packet that a router has cut into fragments with at most `most` bytes of its payload each.
pub fn cut(whole: &[u8], id: u16, most: usize) -> Vec<Vec<u8>> {
    let link = if whole[12..14] == [0x81, 0] { 18 } else { 14 };
    let (headers, payload) = whole.split_at(link + 20);
    let most = most / 8 * 8;
    let fragment = |(index, part): (usize, &[u8])| {
        let last = (index + 1) * most >= payload.len();
        let mut frame = [headers, part].concat();
        let ip = &mut frame[link..link + 20];
        ip[2..4].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
        ip[4..6].copy_from_slice(&id.to_be_bytes());
        let offset = (index * most / 8) as u16 | if last { 0 } else { 0x2000 };
        ip[6..8].copy_from_slice(&offset.to_be_bytes());
        sum_ip(ip);
        frame
    };
    payload.chunks(most).enumerate().map(fragment).collect()
}

/// Has a frame of TCP go to `address`, with right sums.
pub fn readdress(frame: &mut [u8], address: std::net::Ipv4Addr) {
    frame[30..34].copy_from_slice(&address.octets());
    let (ip, body) = frame[14..].split_at_mut(20);
    sum_ip(ip);
    sum_body(ip, body);
}
