//! `Reason`: everything by which something may be lost, with its name, its sentence and what to do about it.
//!
//! The order is that of a frame's way: link, XDP program, socket, relay between cores, stack, cache.

use cache::CoreCounters;
use cpu::Counter;
use stack::DropReason;

use super::advice::{Severity, advice};
use super::counts::{CoreCounts, LinkLosses};

/// One thing that is counted.
#[derive(Debug, Clone)]
pub struct Reason {
    /// Its name in `stats sidestep`, in the closing lines and in the log.
    pub name: String,
    /// The sentence that says when it moves.
    pub moves: &'static str,
    /// How the log speaks of it when it grows.
    pub severity: Severity,
    /// Where its value comes from.
    pub source: Source,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// A drop of the stack of each core.
    Stack(DropReason),
    /// What a core counts besides.
    Core(fn(&CoreCounts) -> u64),
    /// What the main thread reads of link and program.
    Link(fn(&LinkLosses) -> u64),
    /// What the cache counts and shows itself.
    Cache(fn(&CoreCounters) -> &Counter),
}

/// All of them.
pub(super) fn all() -> Box<[Reason]> {
    let stack = DropReason::ALL.into_iter().map(|drop| Reason {
        name: format!("dropped_{}", snake_case(&format!("{drop:?}"))),
        moves: drop.sentence(),
        severity: advice(drop),
        source: Source::Stack(drop),
    });
    let row = |&(name, moves, severity, source): &Row| Reason { name: name.to_owned(), moves, severity, source };
    BEFORE_STACK.iter().map(row).chain(stack).chain(AFTER_STACK.iter().map(row)).collect()
}

type Row = (&'static str, &'static str, Severity, Source);

use Severity::{Fault, Harmless, Loss};

const BEFORE_STACK: &[Row] = &[
    (
        "link_changes",
        "The interface changed (name, state, queues, hash, MTU, address) and the log has a line about it.",
        Harmless,
        Source::Link(|counts| counts.link_changes),
    ),
    (
        "link_down",
        "The interface went down or lost its carrier, and came back: 1 while it is so (gauge).",
        Harmless,
        Source::Link(|counts| counts.link_down),
    ),
    (
        "route_changes",
        "The kernel's routes of the interface changed, which the server follows unless --gateway is given.",
        Harmless,
        Source::Link(|counts| counts.route_changes),
    ),
    (
        "link_rx_errors",
        "The interface received a damaged frame, whoever it was for.",
        Loss("cable, transceiver or the other end is bad: look at ethtool -S of the interface"),
        Source::Link(|counts| counts.rx_errors),
    ),
    (
        "link_rx_missed",
        "The NIC had no buffer for a frame, whoever it was for.",
        Loss("a core does not keep up: give the server more queues and threads, or the NIC a longer ring (ethtool -G)"),
        Source::Link(|counts| counts.rx_missed),
    ),
    (
        "link_rx_dropped",
        "Driver or kernel dropped a frame that the interface received, whoever it was for; those of a socket are among them.",
        Harmless,
        Source::Link(|counts| counts.rx_dropped),
    ),
    (
        "link_tx_errors",
        "The interface could not send a frame, whoever it was from.",
        Loss("look at ethtool -S of the interface"),
        Source::Link(|counts| counts.tx_errors),
    ),
    (
        "link_tx_dropped",
        "Driver or kernel dropped a frame on its way out, whoever it was from.",
        Loss("the link, or the other end of a veth, does not take frames as fast as answers are made"),
        Source::Link(|counts| counts.tx_dropped),
    ),
    (
        "xdp_passed",
        "The XDP program left a frame to the kernel, since it is not for the stack.",
        Harmless,
        Source::Link(|counts| counts.program.passed),
    ),
    (
        "xdp_redirected",
        "The XDP program gave an IP packet for the stack to the socket of its queue.",
        Harmless,
        Source::Link(|counts| counts.program.redirected),
    ),
    (
        "xdp_arp",
        "The XDP program gave an ARP packet for the stack to the socket of its queue.",
        Harmless,
        Source::Link(|counts| counts.program.arp),
    ),
    (
        "xdp_neighbors",
        "The XDP program gave a neighbour solicitation or advertisement of IPv6 for the stack to the socket of its queue.",
        Harmless,
        Source::Link(|counts| counts.program.neighbors),
    ),
    (
        "xdp_icmp_errors",
        "The XDP program gave an ICMP error about a packet that the stack had sent from a shared address to the socket of its queue.",
        Harmless,
        Source::Link(|counts| counts.program.icmp_errors),
    ),
    (
        "xdp_fragments",
        "The XDP program gave a fragment, not the first, of a packet for the stack at a shared address to the socket of its queue.",
        Harmless,
        Source::Link(|counts| counts.program.fragments),
    ),
    (
        "xdp_dedicated",
        "The XDP program gave a frame that is not for the stack to the socket of its queue, which is dedicated.",
        Harmless,
        Source::Link(|counts| counts.program.dedicated),
    ),
    (
        "xdp_denied",
        "The XDP program dropped an IP packet for the stack, from a source that --allow does not list.",
        Loss("clients that are to be served need an --allow of their own, or somebody looks for servers"),
        Source::Link(|counts| counts.program.denied),
    ),
    (
        "xdp_refused",
        "A TCP segment for an address of the server's own came while no data plane ran, and the XDP program answered it with RST.",
        Harmless,
        Source::Link(|counts| counts.program.refused),
    ),
    (
        "xdp_arp_answered",
        "ARP asked for an address of the server's own while no data plane ran, and the XDP program answered.",
        Harmless,
        Source::Link(|counts| counts.program.arp_answered),
    ),
    (
        "xdp_neighbors_answered",
        "A neighbour solicitation asked for an IPv6 address of the server's own while no data plane ran, and the XDP program answered.",
        Harmless,
        Source::Link(|counts| counts.program.neighbors_answered),
    ),
    (
        "xdp_no_socket",
        "A frame for the stack came by a queue that has no socket, and was left to the kernel.",
        Loss(
            "its sender gets no answer: the interface has more receive queues than the server (ethtool -l shows them, ethtool -L sets them; --queues)",
        ),
        Source::Link(|counts| counts.program.no_socket),
    ),
    (
        "queues_without_socket",
        "The interface got or lost receive queues: those that have no socket (gauge).",
        Harmless,
        Source::Link(|counts| counts.queues_without_socket),
    ),
    (
        "connections_elsewhere",
        "A connection came by another queue than the NIC's hash predicts, by the key, table and fields that it had at the start.",
        Loss(
            "nothing is lost by it: somebody has set the NIC's hash anew (ethtool -x, ethtool -n INTERFACE rx-flow-hash tcp4), or the driver does not do what it says",
        ),
        Source::Link(|counts| counts.connections_elsewhere),
    ),
    (
        "cores_stalled",
        "A core took no turn for two seconds, or takes turns again: those that take none just now (gauge).",
        Harmless,
        Source::Link(|counts| counts.cores_stalled),
    ),
    (
        "plane_restarts",
        "The data plane ended, killed or by a fault of its own, and the supervisor started it again, empty.",
        Loss("an ERROR line of the log says how it ended, and the lines before it why; report a panic with them"),
        Source::Link(|counts| counts.plane_restarts),
    ),
    (
        "xsk_rx_too_long",
        "The kernel could not put a frame into the socket's memory: it found too few free chunks for a frame that a link below had merged, or the kernel, before Linux 6.6, takes no frame longer than a chunk.",
        Loss(
            "if cores keep up, switch the merging off (ethtool -K INTERFACE gro off lro off, on the parent of a macvlan or the ports of a bridge)",
        ),
        Source::Core(|counts| counts.drops.rx_too_long),
    ),
    (
        "xsk_rx_uncut",
        "A frame longer than a chunk was dropped since it is not TCP right behind IPv4 or IPv6, which alone can be cut.",
        Loss(
            "something sends packets longer than the MTU of the interface: give both ends the same MTU, and switch off what merges datagrams (ethtool -K INTERFACE rx-udp-gro-forwarding off tx-udp-segmentation off)",
        ),
        Source::Core(|counts| counts.drops.rx_uncut),
    ),
    (
        "xsk_rx_ring_full",
        "A frame found the socket's receive ring full.",
        Loss(
            "a core does not keep up, or is kept from running: give the server CPUs of its own, or more queues and threads",
        ),
        Source::Core(|counts| counts.drops.rx_ring_full),
    ),
    (
        "xsk_fill_ring_empty",
        "A frame found the socket's fill ring empty.",
        Loss(
            "a core does not keep up, or is kept from running: give the server CPUs of its own, or more queues and threads",
        ),
        Source::Core(|counts| counts.drops.rx_fill_ring_empty),
    ),
    (
        "xsk_rx_invalid_descriptors",
        "The kernel refused a descriptor of a fill ring.",
        Fault,
        Source::Core(|counts| counts.drops.rx_invalid_descriptors),
    ),
    (
        "xsk_tx_invalid_descriptors",
        "The kernel refused a descriptor of a transmit ring.",
        Fault,
        Source::Core(|counts| counts.drops.tx_invalid_descriptors),
    ),
    (
        "tx_refused",
        "A frame was made that no link sends: shorter than an Ethernet header, or longer than the link takes.",
        Fault,
        Source::Core(|counts| counts.drops.tx_refused),
    ),
    (
        "tx_exhausted",
        "No frame was free to send with; receiving waits until one is.",
        Harmless,
        Source::Core(|counts| counts.tx_exhausted),
    ),
    (
        "tx_trains",
        "Segments of one connection that follow each other left as one packet, which the kernel cuts.",
        Harmless,
        Source::Core(|counts| counts.tx_trains),
    ),
    (
        "relay_dropped",
        "A core without a queue had no room for a frame handed over to it.",
        Loss(
            "there are fewer queues than threads, and a thread does not keep up: as many queues as threads are best (ethtool -L, -t)",
        ),
        Source::Core(|counts| counts.drops.relay_full),
    ),
    (
        "capture_unrecorded",
        "A frame went by unrecorded while a capture was on, since its file did not take frames in time.",
        Loss("the disk does not keep up, or is full: record to a faster one (sidestep ctl capture on FILE)"),
        Source::Core(|counts| counts.drops.unrecorded),
    ),
    (
        "strays_dropped",
        "A frame of another core's connection found the way to the next core full.",
        Loss("frames of one connection come by different queues: look at how the NIC spreads them (ethtool -x, -n)"),
        Source::Core(|counts| counts.strays_dropped),
    ),
];

const AFTER_STACK: &[Row] = &[
    (
        "partial_checksums",
        "A segment or datagram was taken whose checksum the sender's kernel had left to offload.",
        Harmless,
        Source::Core(|counts| counts.partial_checksums),
    ),
    (
        "flows_parked",
        "A connection had to wait since no frame was left to send its data with.",
        Harmless,
        Source::Core(|counts| counts.stack.parked),
    ),
    (
        "flows_moved",
        "A connection's frames go to another station than before: its peer, or the router to it, has moved or is another.",
        Harmless,
        Source::Core(|counts| counts.stack.flows_moved),
    ),
    (
        "flows_asleep",
        "A connection that rested gave its rings to others, or had rings again: connections without any (gauge).",
        Harmless,
        Source::Core(|counts| counts.stack.fell_asleep.wrapping_sub(counts.stack.woke)),
    ),
    (
        "flows_fell_asleep",
        "A connection that rested gave its rings to others, since -o awake_flows had them all.",
        Harmless,
        Source::Core(|counts| counts.stack.fell_asleep),
    ),
    (
        "flows_woken",
        "A connection without rings had some again: a segment came for it, or it was asked whether it is there.",
        Harmless,
        Source::Core(|counts| counts.stack.woke),
    ),
    (
        "flows_beyond_awake",
        "A connection without rings had something to say while all of -o awake_flows were at work: rings were made for it beyond those.",
        Loss("more connections are at work at once than -o awake_flows: raise that"),
        Source::Core(|counts| counts.stack.blocks_beyond),
    ),
    (
        "cookies_sent",
        "A SYN was answered with a SYN cookie: half of -b, or half of the connections still to be had, are half-open.",
        Loss(
            "more clients connect at once than half of -b, or an attack: nobody is kept out, but connections made so have no window scale; raise -b",
        ),
        Source::Core(|counts| counts.stack.cookies_sent),
    ),
    (
        "cookies_accepted",
        "A segment gave a SYN cookie back, which made a connection.",
        Harmless,
        Source::Core(|counts| counts.stack.cookies_accepted),
    ),
    (
        "cookies_refused",
        "A segment of no connection gave back what is no SYN cookie, or an old one, while some were out.",
        Harmless,
        Source::Core(|counts| counts.stack.cookies_refused),
    ),
    (
        "connections_gave_way",
        "A connection was reset: memory for larger rings was short, and it held some for a client that took next to nothing; or no flow was free for a new client, and it had been closed and lingered.",
        Loss(
            "clients do not read what they ask for, and -o conn_memory or -c is used up: raise that, or look for those clients",
        ),
        Source::Core(|counts| counts.stack.gave_way),
    ),
    (
        "port_unreachables",
        "A datagram came for a port on which nobody listens, and its sender was told so by ICMP.",
        Harmless,
        Source::Core(|counts| counts.stack.port_unreachables),
    ),
    (
        "parameter_problems",
        "An IPv6 packet was not taken for its headers, and its sender was told what is wrong with them by ICMP.",
        Harmless,
        Source::Core(|counts| counts.stack.parameter_problems),
    ),
    (
        "fragments_told",
        "A packet in fragments was not whole in time, and its sender was told so by ICMP.",
        Harmless,
        Source::Core(|counts| counts.stack.fragments_told),
    ),
    (
        "conn_memory_bytes",
        "A connection got larger rings or gave them back: bytes of all such rings (gauge).",
        Harmless,
        Source::Core(|counts| counts.ring_bytes),
    ),
    (
        "conn_memory_short",
        "A connection had use for larger rings and none were free: it goes on with those that it has.",
        Harmless,
        Source::Core(|counts| counts.stack.rings_short),
    ),
    ("rings_enlarged", "A connection got larger rings.", Harmless, Source::Core(|counts| counts.stack.rings_enlarged)),
    (
        "rings_reduced",
        "A connection that moved little gave its larger rings back.",
        Harmless,
        Source::Core(|counts| counts.stack.rings_reduced),
    ),
    (
        "segments_sent_again",
        "A segment was taken for lost, since later ones had arrived, and was sent again.",
        Harmless,
        Source::Core(|counts| counts.stack.sent_again),
    ),
    (
        "retransmission_timeouts",
        "Nothing was heard of a segment for so long that everything was sent again from there on.",
        Harmless,
        Source::Core(|counts| counts.stack.retransmission_timeouts),
    ),
    (
        "tail_probes",
        "Nothing was heard of what was sent for two round trips and 5 ms, and the earliest segment was sent again.",
        Harmless,
        Source::Core(|counts| counts.stack.tail_probes),
    ),
    (
        "probes_needless",
        "A client said that it had already got what was sent again since nothing was heard: it acknowledges late.",
        Harmless,
        Source::Core(|counts| counts.stack.probes_needless),
    ),
    (
        "path_mtus_lowered",
        "A router said that a connection's packets are too long for its link, and they became shorter.",
        Harmless,
        Source::Core(|counts| counts.stack.path_mtus_lowered),
    ),
    (
        "path_mtu_holes",
        "Long packets of a connection were lost again and again without a word, and it sends short ones.",
        Loss(
            "a router on the way to the client drops long packets and says nothing: let its ICMP messages (destination unreachable, code 4) through, or lower the interface's MTU",
        ),
        Source::Core(|counts| counts.stack.path_mtu_holes),
    ),
    (
        "datagrams_refused",
        "A datagram of an answer was not sent since no frame was left; it may have been tried again.",
        Harmless,
        Source::Core(|counts| counts.stack.datagrams_refused),
    ),
    (
        "slow_readers_closed",
        "A connection was closed since the store needed the room of what it read, and it read slower than others.",
        Loss("its client asks for more than it reads: find it with watch connevents; more memory (-m) gives it time"),
        Source::Cache(|core| &core.slow_readers_closed),
    ),
    (
        "uploads_dropped",
        "A value that was being sent slowly gave its room to others; its client is told that there is no memory.",
        Loss("clients stop in the middle of a set, or are slow: find them with stats conns; more memory (-m) has room"),
        Source::Cache(|core| &core.uploads_dropped),
    ),
    (
        "detail_uncounted",
        "A command was not counted for its prefix, since stats detail had no room for one more.",
        Loss("stats reset makes room; or turn stats detail off"),
        Source::Cache(|core| &core.detail_uncounted),
    ),
    (
        "udp_bad_frames",
        "A datagram held no request of one datagram: at most 8 bytes, or a total that is not 1.",
        Loss("its sender does not speak memcached's UDP, or sends requests of several datagrams"),
        Source::Cache(|core| &core.udp_bad_frames),
    ),
    (
        "udp_incomplete",
        "The last command of a datagram was not whole, and was dropped.",
        Loss("its sender cuts requests: a request must fit one datagram"),
        Source::Cache(|core| &core.udp_incomplete),
    ),
    (
        "udp_budget_drops",
        "A reply was dropped because its client may not be sent so much: it is not trusted, and has sent too little.",
        Loss("if the client is one of yours, name its network with --udp-trust"),
        Source::Cache(|core| &core.udp_budget_drops),
    ),
    (
        "udp_table_full",
        "A request over UDP was dropped because as many as may be were unanswered.",
        Loss("cores wait for each other: give the server CPUs of its own"),
        Source::Cache(|core| &core.udp_table_full),
    ),
    (
        "udp_overdue",
        "A request over UDP was given up because it could not be answered in time.",
        Loss("cores wait for each other: give the server CPUs of its own"),
        Source::Cache(|core| &core.udp_overdue),
    ),
    (
        "udp_too_long",
        "A reply over UDP was dropped because it needs more than 65,535 datagrams, or is a list longer than is gathered.",
        Loss("ask for it over TCP"),
        Source::Cache(|core| &core.udp_too_long),
    ),
];

/// `TcpChecksum` as `tcp_checksum`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
