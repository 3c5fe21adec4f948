//! The Internet checksum (RFC 1071), in parts: sums of words are added up first and folded last.

/// Adds the big-endian 16-bit words of `bytes` to `sum`; a last odd byte is padded with zero (RFC 1071 §4.1).
///
/// Up to 131,072 bytes can be added to 0 before a 32-bit sum could overflow; a frame is shorter.
pub fn add(sum: u32, bytes: &[u8]) -> u32 {
    let words = bytes.chunks_exact(2);
    let last = words.remainder().first().map_or(0, |byte| u32::from(*byte) << 8);
    words.fold(sum + last, |sum, word| sum + u32::from(u16::from_be_bytes([word[0], word[1]])))
}

/// Folds a sum to 16 bits and complements it: the checksum.
pub fn finish(mut sum: u32) -> u16 {
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    !(sum as u16)
}

/// The sum of UDP's pseudo-header (RFC 768): both addresses, as they stand in the IPv4 header, protocol and length.
pub fn udp_pseudo_header(addresses: &[u8], udp_bytes: u16) -> u32 {
    add(17 + u32::from(udp_bytes), addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_up() {
        // RFC 1071 §3: the words sum to ddf2.
        assert_eq!(finish(add(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), !0xddf2);
    }

    #[test]
    fn an_odd_byte_is_the_high_half_of_a_word() {
        assert_eq!(add(0, &[0x12, 0x34, 0x56]), add(0, &[0x12, 0x34, 0x56, 0x00]));
    }

    #[test]
    fn a_header_with_its_checksum_sums_to_zero() {
        let mut header = [0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let sum = finish(add(0, &header));
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(finish(add(0, &header)), 0);
    }
}
