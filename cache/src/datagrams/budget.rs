//! What may be sent to whom: all that is asked for to sources that are trusted, to others no more than three times what
//! they have sent.
//!
//! The sender of a datagram can write any source address into it. A server that answers with more bytes than it was
//! sent would amplify an attack on the host whose address that is (RFC 9000 §8.1 has the same rule and the same
//! factor). So a datagram from a source that is not trusted pays for three times its bytes and for three datagrams; what its reply
//! leaves over may be used by later requests of the source within the same second, up to [`SAVED_MAX_BYTES`]. Of IPv6 a
//! source is all addresses of a /64, since one host can have them all (RFC 4291 §2.5.1).
//!
//! Invariant: whatever a source is sent in a second is paid by what came under its address in that second. The table of
//! what is left over has a fixed size: a source without a place in it loses what it had left, and nothing else.

use std::net::IpAddr;

use crate::key::KeyHasher;

/// Bytes that may be sent for each byte that came (RFC 9000 §8.1); as many datagrams for each.
const FACTOR: u32 = 3;

/// The most that a source may have left over from requests: three times four full datagrams.
const SAVED_MAX_BYTES: u32 = FACTOR * 4 * 1472;

/// The most datagrams that go with it.
const SAVED_MAX_DATAGRAMS: u32 = FACTOR * 4;

/// Places for what sources have left over, and how many of them one source may have its own among.
const PLACES: usize = 4096;
const WAYS: usize = 4;

/// Addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(Bits);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bits {
    V4 { address: u32, mask: u32 },
    V6 { address: u128, mask: u128 },
}

impl Network {
    /// The addresses whose first `prefix` bits are those of `address`; `None` when an address has not so many, or `address`
    /// has bits set behind them.
    pub fn new(address: impl Into<IpAddr>, prefix: u8) -> Option<Network> {
        let bits = match address.into() {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32u32.checked_sub(prefix.into())?).unwrap_or(0);
                Bits::V4 { address: (address.to_bits() & !mask == 0).then(|| address.to_bits())?, mask }
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128u32.checked_sub(prefix.into())?).unwrap_or(0);
                Bits::V6 { address: (address.to_bits() & !mask == 0).then(|| address.to_bits())?, mask }
            }
        };
        Some(Network(bits))
    }

    /// Whether `address` is one of them.
    pub fn contains(&self, address: impl Into<IpAddr>) -> bool {
        match (self.0, address.into()) {
            (Bits::V4 { address, mask }, IpAddr::V4(asked)) => asked.to_bits() & mask == address,
            (Bits::V6 { address, mask }, IpAddr::V6(asked)) => asked.to_bits() & mask == address,
            _ => false,
        }
    }
}

/// Who pays: an IPv4 address, or all that have the first 64 bits of an IPv6 one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Payer(u64);

impl Payer {
    /// Who is nobody.
    pub(super) const NOBODY: Payer = Payer(0);

    #[inline]
    pub(super) fn of(source: IpAddr) -> Payer {
        match source {
            IpAddr::V4(address) => Payer(address.to_bits().into()),
            // Never an IPv4 address: those have no bit so high.
            IpAddr::V6(address) => Payer((address.to_bits() >> 64) as u64 | 1 << 63),
        }
    }
}

/// What may be sent in reply to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Purse {
    bytes: u32,
    datagrams: u32,
}

/// What a source has left over.
#[derive(Debug, Clone, Copy)]
struct Saved {
    payer: Payer,
    /// When; it is worth nothing in another second.
    secs: u32,
    bytes: u16,
    datagrams: u16,
}

const _: () = assert!(SAVED_MAX_BYTES <= u16::MAX as u32 && size_of::<Saved>() == 16);

/// Who is trusted, and what the others have left.
#[derive(Debug)]
pub(super) struct Sources {
    trusted: Box<[Network]>,
    hasher: KeyHasher,
    saved: Box<[[Saved; WAYS]]>,
}

impl Sources {
    pub(super) fn new(trusted: &[Network], hasher: KeyHasher) -> Sources {
        let nobody = Saved { payer: Payer::NOBODY, secs: 0, bytes: 0, datagrams: 0 };
        Sources { trusted: trusted.into(), hasher, saved: vec![[nobody; WAYS]; PLACES / WAYS].into_boxed_slice() }
    }

    /// What a datagram of `bytes` bytes from `source` pays for; `None` when it is trusted and pays nothing.
    #[inline]
    pub(super) fn purse(&self, source: IpAddr, bytes: usize) -> Option<Purse> {
        let trusted = self.trusted.iter().any(|network| network.contains(source));
        // A datagram is shorter than 64 KiB.
        (!trusted).then_some(Purse { bytes: bytes as u32 * FACTOR, datagrams: FACTOR })
    }

    /// Takes what a reply of `bytes` bytes in so many datagrams costs from the request's `purse` and what its source
    /// has left over; `false`, and nothing taken, when that is not enough.
    pub(super) fn pay(
        &mut self,
        payer: Payer,
        purse: &mut Option<Purse>,
        bytes: usize,
        datagrams: u16,
        now_secs: u32,
    ) -> bool {
        let Some(own) = purse else { return true };
        let Ok(bytes) = u32::try_from(bytes) else { return false };
        let datagrams = u32::from(datagrams);
        let (more_bytes, more_datagrams) = (bytes.saturating_sub(own.bytes), datagrams.saturating_sub(own.datagrams));
        if more_bytes > 0 || more_datagrams > 0 {
            let enough = |saved: &&mut Saved| {
                u32::from(saved.bytes) >= more_bytes && u32::from(saved.datagrams) >= more_datagrams
            };
            let Some(saved) = self.find(payer, now_secs).filter(enough) else { return false };
            saved.bytes -= more_bytes as u16;
            saved.datagrams -= more_datagrams as u16;
        }
        own.bytes = own.bytes.saturating_sub(bytes);
        own.datagrams = own.datagrams.saturating_sub(datagrams);
        true
    }

    /// Keeps what a request's purse has left for its source's next ones.
    pub(super) fn save(&mut self, payer: Payer, purse: Option<Purse>, now_secs: u32) {
        let Some(left) = purse.filter(|left| left.bytes > 0 && left.datagrams > 0) else { return };
        if let Some(saved) = self.find(payer, now_secs) {
            saved.bytes = (u32::from(saved.bytes) + left.bytes).min(SAVED_MAX_BYTES) as u16;
            saved.datagrams = (u32::from(saved.datagrams) + left.datagrams).min(SAVED_MAX_DATAGRAMS) as u16;
            return;
        }
        // Replaces an entry of an earlier second, or else the one with the fewest bytes left.
        let ways = self.ways(payer);
        let worth = |saved: &Saved| if saved.secs == now_secs { saved.bytes } else { 0 };
        if let Some(saved) = ways.iter_mut().min_by_key(|saved| worth(saved)) {
            let (bytes, datagrams) = (left.bytes.min(SAVED_MAX_BYTES) as u16, left.datagrams as u16);
            *saved = Saved { payer, secs: now_secs, bytes, datagrams };
        }
    }

    fn ways(&mut self, payer: Payer) -> &mut [Saved; WAYS] {
        let place = self.hasher.hash(&payer.0.to_ne_bytes()).bits() as usize % self.saved.len();
        &mut self.saved[place]
    }

    fn find(&mut self, payer: Payer, now_secs: u32) -> Option<&mut Saved> {
        self.ways(payer).iter_mut().find(|saved| saved.payer == payer && saved.secs == now_secs)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HONEST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    const PAYER: Payer = Payer(0xc000_0207);

    fn sources(trusted: &[Network]) -> Sources {
        Sources::new(trusted, KeyHasher::new([3; 16]))
    }

    #[test]
    fn a_network_is_its_first_bits_and_has_none_behind_them() {
        let network = |address: [u8; 4], prefix| Network::new(address, prefix);
        let private = network([10, 77, 0, 0], 16).expect("no bits behind the prefix");
        assert!(private.contains([10, 77, 255, 1]) && !private.contains([10, 78, 0, 1]));
        assert!(network([0, 0, 0, 0], 0).expect("everybody").contains(HONEST));
        assert!(network([192, 0, 2, 7], 32).expect("one").contains(HONEST));
        assert_eq!((network([10, 77, 0, 1], 16), network([10, 0, 0, 0], 33)), (None, None));
    }

    #[test]
    fn a_network_of_ipv6_has_no_address_of_ipv4_and_the_other_way_round() {
        let at = |text: &str| text.parse::<IpAddr>().expect("an address");
        let network = Network::new(at("fd77::"), 64).expect("no bits behind the prefix");
        assert!(network.contains(at("fd77::1:2:3:4")) && !network.contains(at("fd77:0:0:1::1")));
        assert!(!Network::new(at("::"), 0).expect("everybody").contains(HONEST));
        assert!(!Network::new(at("0.0.0.0"), 0).expect("everybody").contains(at("fd77::1")));
        assert_eq!((Network::new(at("fd77::1"), 64), Network::new(at("fd77::"), 129)), (None, None));
    }

    #[test]
    fn of_ipv6_the_first_64_bits_pay() {
        let payer = |text: &str| Payer::of(text.parse().expect("an address"));
        assert_eq!(payer("2001:db8::1"), payer("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(payer("2001:db8::1"), payer("2001:db8:0:1::1"));
        assert_ne!(payer("::1"), payer("0.0.0.0"));
        assert_eq!(Payer::of(HONEST), PAYER);
    }

    #[test]
    fn the_trusted_pay_nothing() {
        let mut sources = sources(&[Network::new([192, 0, 2, 0], 24).expect("a network")]);
        let mut purse = sources.purse(HONEST, 10);
        assert_eq!(purse, None);
        assert!(sources.pay(PAYER, &mut purse, 1 << 30, u16::MAX, 2));
        assert!(sources.purse([127, 0, 0, 1].into(), 10).is_some(), "loopback is not trusted by itself");
    }

    #[test]
    fn a_reply_costs_bytes_and_datagrams_and_is_paid_whole_or_not_at_all() {
        let mut sources = sources(&[]);
        let mut purse = sources.purse(HONEST, 10);
        assert!(!sources.pay(PAYER, &mut purse, 31, 1, 2) && !sources.pay(PAYER, &mut purse, 4, 4, 2));
        assert!(sources.pay(PAYER, &mut purse, 30, 2, 2) && !sources.pay(PAYER, &mut purse, 1, 1, 2));
    }

    #[test]
    fn what_is_left_over_serves_the_same_source_in_the_same_second() {
        let mut sources = sources(&[]);
        sources.save(PAYER, sources.purse(HONEST, 100), 2);
        let fresh = sources.purse(HONEST, 100);
        let mut purse = fresh;
        assert!(!sources.pay(Payer(0xc000_0208), &mut purse, 500, 1, 2) && !sources.pay(PAYER, &mut purse, 500, 1, 3));
        assert!(sources.pay(PAYER, &mut purse, 500, 1, 2));
        // 100 of the 300 saved are left.
        let mut purse = fresh;
        assert!(!sources.pay(PAYER, &mut purse, 401, 1, 2) && sources.pay(PAYER, &mut purse, 400, 1, 2));
        for _ in 0..1_000 {
            sources.save(PAYER, sources.purse(HONEST, 1472), 4);
        }
        let mut purse = sources.purse(HONEST, 0);
        assert!(!sources.pay(PAYER, &mut purse, SAVED_MAX_BYTES as usize + 1, 1, 4));
        assert!(sources.pay(PAYER, &mut purse, SAVED_MAX_BYTES as usize, 1, 4));
    }

    /// Whatever comes, in whatever order: never more than three times as many bytes and datagrams as have come.
    #[test]
    fn no_source_is_ever_sent_more_than_three_times_what_it_sent() {
        let mut sources = sources(&[]);
        let (mut state, mut sent, mut came) = (9u64, vec![(0u64, 0u64); 20_000], vec![(0u64, 0u64); 20_000]);
        for round in 0..400_000u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let random = (state >> 33) as usize;
            // Few sources at first, then more than there are places.
            let source = random % [5, 20_000][usize::from(round > 100_000)];
            let address = IpAddr::V4(Ipv4Addr::from(0xc000_0000 + source as u32));
            let payer = Payer::of(address);
            let secs = 2 + round / 50_000;
            let length = 9 + random / 7 % 1460;
            let mut purse = sources.purse(address, length);
            (came[source].0, came[source].1) = (came[source].0 + length as u64, came[source].1 + 1);
            for reply in 0..random / 3 % 5 {
                let (bytes, datagrams) = (8 + (random / (11 + reply)) % 9_000, 1 + (random / 5 % 7) as u16);
                if sources.pay(payer, &mut purse, bytes, datagrams, secs) {
                    (sent[source].0, sent[source].1) =
                        (sent[source].0 + bytes as u64, sent[source].1 + u64::from(datagrams));
                }
            }
            sources.save(payer, purse, secs);
            assert!(sent[source].0 <= 3 * came[source].0 && sent[source].1 <= 3 * came[source].1, "round {round}");
        }
        assert_eq!(sources.saved.len() * WAYS, PLACES);
    }
}
