//! The Internet checksum (RFC 1071) and its change by a word (RFC 1624).
//!
//! Sums are kept in the machine's own byte order: the checksum does not care, as long as the result is stored the same
//! way (RFC 1071 §2(B)).

/// Adds `bytes` to a running sum. Only the last piece of a message may have an odd length.
///
/// Words of 64 bits are added in 128, so that no carry is lost and one addition need not wait for the carry of the
/// one before it; 2^64 is 1 modulo 2^16 - 1, so the upper half is added to the lower.
#[inline]
pub fn add(sum: u64, bytes: &[u8]) -> u64 {
    let mut wide = u128::from(sum);
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        if let [a, b, c, d] = block.as_chunks::<8>().0 {
            wide += u128::from(u64::from_ne_bytes(*a));
            wide += u128::from(u64::from_ne_bytes(*b));
            wide += u128::from(u64::from_ne_bytes(*c));
            wide += u128::from(u64::from_ne_bytes(*d));
        }
    }
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        wide += u128::from(u64::from_ne_bytes(*word));
    }
    let low = wide as u64;
    let mut sum = (low & 0xffff_ffff) + (low >> 32) + (wide >> 64) as u64;
    let (quad, rest) = rest.as_chunks::<4>();
    if let [quad] = quad {
        sum += u64::from(u32::from_ne_bytes(*quad));
    }
    let (pair, rest) = rest.as_chunks::<2>();
    if let [pair] = pair {
        sum += u64::from(u16::from_ne_bytes(*pair));
    }
    if let [byte] = rest {
        sum += u64::from(u16::from_ne_bytes([*byte, 0]));
    }
    sum
}

/// The sum in sixteen bits, carries added back: each half is added to the other, and the upper one has the carry too.
#[inline]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// Whether the message whose sum this is, checksum field included, is whole.
#[inline]
pub fn is_right(sum: u64) -> bool {
    // Folded, it is 2^16 - 1: it is a multiple of that, and not 0.
    sum.is_multiple_of(0xffff) && sum != 0
}

/// The bytes of the checksum field of a message whose sum, with a field of zero, is `sum`.
#[inline]
pub fn field(sum: u64) -> [u8; 2] {
    (!fold(sum)).to_ne_bytes()
}

/// The sum of the pseudo-header of RFC 9293 §3.1 for `len` bytes of protocol `protocol`.
#[inline]
pub fn pseudo_header(source: [u8; 4], destination: [u8; 4], protocol: u8, len: u16) -> u64 {
    let addresses = u64::from(u32::from_ne_bytes(source)) + u64::from(u32::from_ne_bytes(destination));
    addresses + u64::from(u16::from_ne_bytes([0, protocol])) + u64::from(len.to_be())
}

/// The sum of the pseudo-header of RFC 8200 §8.1 for `len` bytes of upper-layer protocol `protocol`.
#[inline]
pub fn pseudo_header_v6(source: [u8; 16], destination: [u8; 16], protocol: u8, len: u32) -> u64 {
    let addresses = add(add(0, &source), &destination);
    addresses + u64::from(u16::from_ne_bytes([0, protocol])) + u64::from(len.to_be())
}

/// The checksum field after the bytes `old` of the message, at an even place, have become `new` (RFC 1624 §3, eqn. 3).
#[inline]
pub fn changed(checksum: [u8; 2], old: &[u8], new: &[u8]) -> [u8; 2] {
    let kept = u64::from(!u16::from_ne_bytes(checksum));
    let without = u64::from(!fold(add(0, old)));
    field(add(kept + without, new))
}

/// The same for a field that holds the sum itself, as a kernel leaves that of the pseudo-header to offload.
#[inline]
pub fn sum_changed(sum: [u8; 2], old: &[u8], new: &[u8]) -> [u8; 2] {
    changed(sum.map(|byte| !byte), old, new).map(|byte| !byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 §3's own example.
    #[test]
    fn the_example_of_the_rfc() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(add(0, &bytes)).to_ne_bytes(), [0xdd, 0xf2]);
    }

    proptest! {
        /// The pseudo-header as the RFC draws it, added up.
        #[test]
        fn the_pseudo_header_of_ipv6_is_that_of_the_rfc(
            source in any::<[u8; 16]>(), destination in any::<[u8; 16]>(), protocol in any::<u8>(), len in any::<u32>(),
        ) {
            let drawn = [&source[..], &destination, &len.to_be_bytes(), &[0, 0, 0, protocol]].concat();
            prop_assert_eq!(fold(pseudo_header_v6(source, destination, protocol, len)), fold(add(0, &drawn)));
        }

        #[test]
        fn a_sum_in_pieces_is_the_sum(bytes in prop::collection::vec(any::<u8>(), 0..2000), at in 0usize..1000) {
            let at = (at * 2).min(bytes.len() & !1);
            let plain = bytes.chunks(2).fold(0u64, |s, p| s + u64::from(u16::from_ne_bytes([p[0], *p.get(1).unwrap_or(&0)])));
            prop_assert_eq!(fold(add(0, &bytes)), fold(plain));
            prop_assert_eq!(fold(add(add(0, &bytes[..at]), &bytes[at..])), fold(plain));
        }

        #[test]
        fn a_change_keeps_the_message_right(mut bytes in prop::collection::vec(any::<u8>(), 20..60), new in any::<[u8; 4]>()) {
            bytes[16..18].fill(0);
            let sum = field(add(0, &bytes));
            bytes[16..18].copy_from_slice(&sum);
            prop_assert!(is_right(add(0, &bytes)));
            let fixed = changed(sum, &bytes[8..12], &new);
            bytes[8..12].copy_from_slice(&new);
            bytes[16..18].copy_from_slice(&fixed);
            prop_assert!(is_right(add(0, &bytes)));
        }
    }
}
