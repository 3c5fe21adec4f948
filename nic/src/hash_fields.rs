//! By which fields of a frame a NIC hashes a kind of flow: bits of `linux/ethtool.h`, in the letters of `ethtool(8)`.

/// `RXH_IP_SRC` and `RXH_IP_DST`: ethtool's `sd`.
pub(crate) const ADDRESSES: u64 = 0x30;
/// `sd`, `RXH_L4_B_0_1` and `RXH_L4_B_2_3`: ethtool's `sdfn`.
pub(crate) const ADDRESSES_AND_PORTS: u64 = 0xf0;

/// Letters by bit, from bit 1 on.
const LETTERS: [char; 7] = ['m', 'v', 't', 's', 'd', 'f', 'n'];
/// Discard: the only letter that ethtool has for no field at all.
const NONE: &str = "r";

/// The fields in ethtool's letters.
pub(crate) fn letters(fields: u64) -> String {
    let set = LETTERS.iter().enumerate().filter(|(bit, _)| fields >> (bit + 1) & 1 == 1);
    let text: String = set.map(|(_, letter)| letter).collect();
    if text.is_empty() { NONE.to_owned() } else { text }
}

/// The fields of ethtool's letters; `None` where one is unknown.
pub(crate) fn fields(letters: &str) -> Option<u64> {
    if letters == NONE {
        return Some(0);
    }
    letters.chars().try_fold(0, |fields, letter| {
        let bit = LETTERS.iter().position(|known| *known == letter)?;
        Some(fields | 1 << (bit + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_told_in_the_letters_of_ethtool_and_back() {
        assert_eq!([letters(0x30), letters(0xf0), letters(0), letters(0x36)], ["sd", "sdfn", "r", "mvsd"]);
        for bits in [0, 0x30, 0xf0, 0x36, 0xfe] {
            assert_eq!(fields(&letters(bits)), Some(bits));
        }
        assert_eq!(fields("sdx"), None);
    }
}
