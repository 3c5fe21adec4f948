//! Why a frame was dropped: one sentence each, and the index of its counter.

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Why a frame was dropped. Indexes [`DropCounts`](crate::DropCounts).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl DropReason {
            /// Every reason, in the order of their counters.
            pub const ALL: [Self; [$(Self::$name),+].len()] = [$(Self::$name),+];

            /// The sentence that says when the reason's counter moves.
            pub fn sentence(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

drop_reasons! {
    /// The frame is shorter than its link header.
    LinkTooShort,
    /// The frame is for another station.
    OtherStation,
    /// The frame's source address is a group or all zero.
    LinkSource,
    /// The frame carries neither IP nor ARP.
    EtherType,
    /// The frame is of another VLAN than the stack.
    OtherVlan,
    /// The frame has more than one 802.1Q tag.
    DoubleTag,
    /// An ARP packet is too short or not about IPv4 over Ethernet.
    ArpMalformed,
    /// An ARP packet is not about our address.
    ArpNotOurs,
    /// An ARP packet claims to come from our own address or from a group.
    ArpSource,
    /// ARP or NDP says that another station has our address.
    AddressConflict,
    /// An IPv4 packet is shorter than its header or its total length.
    IpTooShort,
    /// An IPv4 packet is of another version than 4.
    IpVersion,
    /// An IPv4 header's options do not parse.
    IpOptions,
    /// The frame carries IPv6, and the stack has no IPv6 address.
    Ipv6,
    /// An IPv4 packet asks for a route of its sender's choice.
    IpSourceRoute,
    /// An IPv4 header's checksum is wrong.
    IpChecksum,
    /// A packet is a fragment, and neither of TCP nor of UDP that is listened to.
    IpFragment,
    /// A fragment overlaps another of its datagram, or contradicts it: all of the datagram is dropped.
    FragmentOverlap,
    /// A fragment is empty, ends beyond the longest packet, has no multiple of eight bytes, or is one too many.
    FragmentMalformed,
    /// A datagram was not whole in time, or others needed its room.
    FragmentsIncomplete,
    /// An IPv4 packet is for another host, or for a group.
    IpNotOurs,
    /// An IPv4 packet is for everyone on the subnet.
    IpBroadcast,
    /// An IPv4 packet comes from an address that no single host can have.
    IpMartian,
    /// A packet claims to come from our own address (LAND).
    Land,
    /// A packet carries neither TCP, UDP nor ICMP.
    IpProtocol,
    /// An IPv6 packet is shorter than its header, or than its payload length says.
    Ip6TooShort,
    /// An IPv6 packet is of another version than 6.
    Ip6Version,
    /// An IPv6 packet is a jumbogram, or has no payload.
    Ip6Jumbo,
    /// An IPv6 packet's extension headers do not parse, are out of order, or are more than are passed over.
    Ip6Headers,
    /// An IPv6 packet has an option that its sender wants no one to take who does not know it.
    Ip6Option,
    /// An IPv6 packet asks for a route of its sender's choice.
    Ip6RoutingHeader,
    /// An IPv6 packet is for another host, for a group, or for an address of ours that is not in use.
    Ip6NotOurs,
    /// An IPv6 packet comes from an address that no single host can have.
    Ip6Martian,
    /// An NDP message is too short, came in fragments, or has options that do not parse.
    NdpMalformed,
    /// An NDP message has passed a router: its hop limit is not 255.
    NdpHopLimit,
    /// An NDP message is about none of our addresses and none of our neighbours.
    NdpNotOurs,
    /// An NDP message claims to come from our own address or from a group, or comes from who may not say such things.
    NdpSource,
    /// A SYN over IPv6 from a host whose address finds no room among those that are remembered.
    NoStation,
    /// A TCP segment is shorter than its header says.
    TcpTooShort,
    /// A TCP segment's checksum is wrong.
    TcpChecksum,
    /// A TCP segment has flags that contradict each other, or port 0.
    TcpFlags,
    /// A TCP segment without ACK that is neither SYN nor RST.
    TcpNoAck,
    /// A SYN has options that do not parse.
    TcpOptions,
    /// A SYN offers a segment size too small to be honest.
    TcpTinyMss,
    /// A UDP datagram's length does not fit the packet.
    UdpLength,
    /// A UDP datagram's checksum is wrong.
    UdpChecksum,
    /// A UDP datagram over IPv6 without a checksum.
    UdpNoChecksum,
    /// A UDP datagram for a port on which nobody listens.
    UdpNoListener,
    /// A UDP datagram without a source port: its sender wants no answer.
    UdpNoSource,
    /// A UDP datagram from a port below 1024 or a server's own port: two servers could answer each other for ever.
    UdpLoopPort,
    /// An ICMP message's checksum is wrong or it is too short.
    IcmpMalformed,
    /// An ICMP message that is neither an echo request nor changes anything of a connection here.
    IcmpOther,
    /// An ICMP redirect: anybody can send one, and no flow goes where it says.
    IcmpRedirect,
    /// An ICMP message that a segment of ours was too long, which quotes nothing in flight or cannot be true: not believed.
    IcmpBlind,
    /// An ICMP message that a segment of ours in flight was too long for its way: its connection sends shorter ones.
    IcmpTooLong,
    /// An ICMP message that ended a connection under way.
    IcmpUnreachable,
    /// An ICMP echo request beyond the rate at which they are answered.
    IcmpRate,
    /// A SYN that found the SYN queue full, or the queue of those that wait for a cookie, or that nobody accepts connections now.
    SynQueueFull,
    /// A SYN, or an ACK that completes a handshake, that found no free flow;
    /// or a segment of a flow that sleeps while all blocks are at work.
    NoFreeFlow,
    /// A SYN for the handshake that is already under way.
    SynRepeated,
    /// A SYN on a live connection; it is challenged at a limited rate.
    SynOnLiveFlow,
    /// An RST whose sequence number is not exactly the next one expected; inside the window it is challenged.
    RstNotExact,
    /// A segment of nothing but what was received before, or a question whether we are there; answered with an ACK.
    SeqRepeated,
    /// A segment with data, after the peer's FIN; answered with an ACK.
    DataBehindFin,
    /// A segment that begins beyond the window; answered with an ACK.
    SeqBeyondWindow,
    /// A segment that acknowledges what was never sent, or what was acknowledged long ago; challenged at a limited rate.
    AckOutOfRange,
    /// A SYN that crossed our own; answered with SYN-ACK at a limited rate.
    SynCrossed,
    /// A segment that acknowledges something else than our SYN; answered with RST at a limited rate.
    AckOfNoSyn,
    /// A segment that a connection under way cannot use.
    NotSynAck,
    /// A segment for a connection in TIME-WAIT; answered as RFC 9293 and RFC 1337 say.
    TimeWait,
    /// A segment of no connection; answered with RST at a limited rate.
    NoFlow,
    /// A segment of a client that was given a SYN cookie and has not given it back: the segment that does was lost, and comes again.
    AheadOfCookie,
    /// An RST of no connection.
    RstNoFlow,
    /// A segment of no connection here that was offered to the other cores.
    Stray,
    /// A segment of no connection that could not be offered to the other cores: too many were.
    StrayRate,
    /// A segment over which the protocol code panicked.
    Contained,
    /// An answer could not be written because no frame was left.
    NoFrame,
    /// A segment that its flow's window allowed found no room in the receive ring, and no larger ring was free.
    NoRing,
    /// A segment came behind more holes than can be remembered; its sender is told that it is missing.
    NoIsland,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_sentence() {
        let mut sentences: Vec<_> = DropReason::ALL.iter().map(|reason| reason.sentence()).collect();
        assert!(sentences.iter().all(|s| s.ends_with('.') && s.len() > 10));
        sentences.sort_unstable();
        sentences.dedup();
        assert_eq!(sentences.len(), DropReason::ALL.len());
    }

    /// The server's own test looks at the names too, and prints the rows that are missing.
    #[test]
    fn every_sentence_is_in_the_document_of_metrics() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let text = std::fs::read_to_string(path).expect("docs/metrics.md is there");
        let lacking = |reason: &DropReason| !text.contains(&format!("` | {} |", reason.sentence()));
        let missing: Vec<_> = DropReason::ALL.into_iter().filter(lacking).collect();
        assert!(missing.is_empty(), "docs/metrics.md lacks a row for {missing:?}, or has another sentence");
    }

    #[test]
    fn a_reason_is_the_index_of_its_counter() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
