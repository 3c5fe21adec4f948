//! The frame header in front of every UDP datagram, requests and replies alike.
//!
//! ```text
//!  0        2          4                    6          8
//!  | id     | sequence | datagrams in total | reserved | what is said …
//! ```
//!
//! All big-endian. A request is one datagram; its sequence and reserved fields are not looked at, as memcached does
//! not. A reply repeats the request's id and goes out in as many datagrams as it needs, numbered from 0.
//! Read first: memcached `protocol.txt`, "UDP protocol"; `try_read_udp` and `build_udp_header` in `memcached.c`.

/// Bytes of the header.
pub const HEADER_BYTES: usize = 8;

/// Most bytes of a reply's datagram, header included (memcached.h, `UDP_MAX_PAYLOAD_SIZE`).
pub const REPLY_MAX_BYTES: usize = 1400;

/// What a client calls its request; repeated in every datagram of the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(pub u16);

/// Why a datagram is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadFrame {
    /// Nothing follows the header, or not even that is whole.
    Empty,
    /// It says that it is not the only datagram of its request.
    Split,
}

/// The request in a datagram: what it is called, and what it says.
///
/// # Errors
/// [`BadFrame`]: memcached passes over such a datagram without a word.
#[inline]
pub fn read(datagram: &[u8]) -> Result<(RequestId, &[u8]), BadFrame> {
    match datagram.split_first_chunk::<HEADER_BYTES>() {
        Some((&[id_high, id_low, _, _, total_high, total_low, _, _], request)) if !request.is_empty() => {
            match [total_high, total_low] {
                [0, 1] => Ok((RequestId(u16::from_be_bytes([id_high, id_low])), request)),
                _ => Err(BadFrame::Split),
            }
        }
        _ => Err(BadFrame::Empty),
    }
}

/// The header of datagram `sequence` of the `total` of a reply. A reply of 0 datagrams is a header alone, as memcached
/// answers quit.
#[inline]
pub fn header(id: RequestId, sequence: u16, total: u16) -> [u8; HEADER_BYTES] {
    let ([i0, i1], [s0, s1], [t0, t1]) = (id.0.to_be_bytes(), sequence.to_be_bytes(), total.to_be_bytes());
    [i0, i1, s0, s1, t0, t1, 0, 0]
}

/// Datagrams of `body_max` bytes of reply each that `len` bytes need; `None` when they are more than can be numbered.
#[inline]
pub fn datagrams_of(len: usize, body_max: usize) -> Option<u16> {
    u16::try_from(len.div_ceil(body_max.max(1))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_datagram_with_something_in_it() {
        assert_eq!(read(b"\x01\x02\0\0\0\x01\0\0get a\r\n"), Ok((RequestId(0x0102), &b"get a\r\n"[..])));
        // Sequence and reserved are not looked at.
        assert_eq!(read(b"\xff\xff\x12\x34\0\x01\x56\x78x"), Ok((RequestId(0xffff), &b"x"[..])));
        for total in [[0, 0], [0, 2], [1, 0], [1, 1], [0xff, 0xff]] {
            let datagram = [&[0, 7, 0, 0][..], &total, b"\0\0get a\r\n"].concat();
            assert_eq!(read(&datagram), Err(BadFrame::Split), "{total:?}");
        }
        for bytes in 0..=HEADER_BYTES {
            assert_eq!(read(&[0, 7, 0, 0, 0, 1, 0, 0][..bytes]), Err(BadFrame::Empty), "{bytes} bytes");
        }
    }

    #[test]
    fn a_reply_is_numbered_in_network_order() {
        assert_eq!(header(RequestId(0x0102), 0x0304, 0x0506), [1, 2, 3, 4, 5, 6, 0, 0]);
    }

    #[test]
    fn a_reply_needs_as_many_datagrams_as_it_fills() {
        let body = REPLY_MAX_BYTES - HEADER_BYTES;
        let of = |len| datagrams_of(len, body);
        assert_eq!([of(0), of(1), of(body), of(body + 1)], [Some(0), Some(1), Some(1), Some(2)]);
        // The field of the header has 16 bits.
        let most = usize::from(u16::MAX);
        assert_eq!((of(most * body), of(most * body + 1)), (Some(u16::MAX), None));
    }
}
