//! `Severity`: how the log speaks of a count that grows; and for each drop of the stack, what an operator can do about
//! it.

use stack::DropReason;

use Severity::{Fault, Harmless, Loss};

/// How the log speaks of a count that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// What every link carries, or what only says that there was much to do: told with -v.
    Harmless,
    /// Somebody may lack an answer; what to do about it.
    Loss(&'static str),
    /// A fault of ours.
    Fault,
}

/// On another station with an address of ours.
const CONFLICT: &str = "another station has the server's address too, and clients reach now the one and now the other: a line of the log names it; give one of the two another address";

/// On a redirect.
const REDIRECT: &str = "a router says that another is nearer: name that one (--gateway, or the kernel's route), or somebody tries to take packets";

/// The severity of each reason. For one that is not listed the only advice is where to read about it.
pub(super) fn advice(reason: DropReason) -> Severity {
    match reason {
        reason if is_harmless(reason) => Harmless,
        DropReason::Contained => Fault,
        DropReason::DoubleTag => Loss("take the outer tag off before the interface"),
        DropReason::IpChecksum | DropReason::TcpChecksum | DropReason::UdpChecksum | DropReason::IcmpMalformed => Loss(
            "frames are damaged on their way, or their sender leaves checksums to a NIC that does not fill them in (ethtool -K its interface tx off)",
        ),
        DropReason::IpFragment => {
            Loss("pings in fragments are not answered, and UDP in fragments only where it is served")
        }
        DropReason::FragmentOverlap | DropReason::FragmentMalformed | DropReason::FragmentsIncomplete => Loss(
            "requests come in fragments that do not fit together or are not whole: send smaller ones over UDP, and let path MTU discovery of TCP through",
        ),
        DropReason::IpMartian
        | DropReason::Ip6Martian
        | DropReason::Land
        | DropReason::LinkSource
        | DropReason::ArpSource
        | DropReason::NdpSource => {
            Loss("a host sends with an address that is not its own, or has ours: look for it with tcpdump")
        }
        DropReason::AddressConflict => Loss(CONFLICT),
        DropReason::Ip6Headers | DropReason::Ip6Option | DropReason::Ip6RoutingHeader => {
            Loss("somebody sends IPv6 packets with headers that no client needs: look for it with tcpdump")
        }
        DropReason::NdpHopLimit => Loss("somebody beyond a router speaks as if it were on the link: an attack"),
        DropReason::NoStation => Loss("hosts of more addresses connect over IPv6 than there is room for: raise -c"),
        DropReason::TcpTinyMss => Loss("an attack, or a client behind a tunnel with a very small MTU"),
        DropReason::UdpNoSource | DropReason::UdpLoopPort => {
            Loss("requests over UDP must come from a port of 1024 and above that is not the server's own")
        }
        DropReason::IcmpRedirect => Loss(REDIRECT),
        DropReason::IcmpRate => Loss("somebody pings more often than answers are given"),
        DropReason::SynQueueFull => Loss("more clients connect at once than -b allows, or an attack: raise -b"),
        DropReason::NoFreeFlow => {
            Loss("there are as many connections as -c allows, or as many at work as -o awake_flows: raise that")
        }
        DropReason::StrayRate => {
            Loss("frames of one connection come by different queues, or an attack: look at how the NIC spreads them")
        }
        DropReason::NoRing => Loss("connections move more at once than -o conn_memory has room for: raise it"),
        DropReason::NoFrame => Loss("the link does not take answers as fast as requests come"),
        _ => Loss("docs/metrics.md says when it moves"),
    }
}

/// Whether every link carries such frames, or TCP drops them of its own accord.
fn is_harmless(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::OtherStation
            | DropReason::OtherVlan
            | DropReason::EtherType
            | DropReason::Ipv6
            | DropReason::ArpNotOurs
            | DropReason::IpNotOurs
            | DropReason::IpBroadcast
            | DropReason::IpProtocol
            | DropReason::Ip6NotOurs
            | DropReason::NdpNotOurs
            | DropReason::UdpNoListener
            | DropReason::IcmpOther
            | DropReason::IcmpUnreachable
            | DropReason::IcmpBlind
            | DropReason::IcmpTooLong
            | DropReason::SynRepeated
            | DropReason::SynOnLiveFlow
            | DropReason::SynCrossed
            | DropReason::RstNotExact
            | DropReason::SeqRepeated
            | DropReason::AckOfNoSyn
            | DropReason::NotSynAck
            | DropReason::TimeWait
            | DropReason::NoFlow
            | DropReason::RstNoFlow
            | DropReason::AheadOfCookie
            | DropReason::Stray
    )
}
