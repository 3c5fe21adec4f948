//! `Mac`: an Ethernet address.

use std::fmt;

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address of every station.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether it is the address of one station: not a group's (IEEE 802-2014 §8.2.2: the lowest bit of the first
    /// byte), not all zero.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_six_hexadecimal_bytes() {
        assert_eq!(Mac([2, 0, 0xab, 0, 0, 0xf]).to_string(), "02:00:ab:00:00:0f");
    }

    #[test]
    fn groups_and_no_station_are_not_unicast() {
        assert!(Mac([2, 0, 0, 0, 0, 1]).is_unicast());
        assert!(!Mac::BROADCAST.is_unicast() && !Mac([1, 0, 0x5e, 0, 0, 1]).is_unicast() && !Mac([0; 6]).is_unicast());
    }
}
