// SPDX-License-Identifier: MIT OR Apache-2.0
//
// What the steering program is told and tells, by maps, and what it does with frames of either family. Part of
// steer.bpf.c, which says what it is for.

#ifndef SIDESTEP_STEER_MAPS_H
#define SIDESTEP_STEER_MAPS_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// Values of the map `addresses`. Kept equal to AddressMode in nic/src/xdp/program.rs.
enum address_mode {
	OWN = 1,
	SHARED = 2,
};

// Bits of the only value of the map `settings`. Kept equal to nic/src/xdp/program.rs.
enum setting {
	DEDICATED = 1,
	ALLOW_LISTED = 2,
	NOBODY = 4,
	ANSWER_BY_REDIRECT = 8,
};

// The upper half: the number of the VLAN whose frames may be the stack's, 0 for those without a tag.
#define VLAN_SHIFT 16
#define VLAN_NUMBER 0xfff

// Indices of the map `counters`: one for each verdict. Kept equal to SteerCounters in nic/src/xdp/program.rs.
enum counter {
	PASSED,     // not for the stack: to the kernel
	REDIRECTED, // IP for the stack: to the socket
	ARP,        // ARP for the stack: to the socket
	NO_SOCKET,  // for the stack, but its queue has no socket: to the kernel
	DENIED,     // IP for the stack from a source that is not allowed: dropped
	ICMP_ERROR, // ICMP error about a packet of the stack's from a SHARED address: to the socket
	FRAGMENT,   // fragment, not the first, of a packet for the stack at a SHARED address: to the socket
	DEDICATED_QUEUE, // not for the stack, on a dedicated queue: to the socket
	REFUSED,         // TCP for the stack while nobody serves: answered with RST
	ARP_ANSWERED,    // ARP for the stack while nobody serves: answered
	NEIGHBOR,          // neighbour solicitation or advertisement for the stack: to the socket
	NEIGHBOR_ANSWERED, // neighbour solicitation for the stack while nobody serves: answered
	COUNTERS,
};

// An IPv6 address, or an IPv4 address as IPv6 maps it.
struct address {
	__be32 word[4];
};

// Key of the map `allowed` (struct bpf_lpm_trie_key). An IPv4 prefix counts from bit 96 on.
struct allowed_key {
	__u32 prefix_bits;
	struct address address;
};

// A port that the stack serves at its SHARED addresses.
struct port_key {
	__be16 port;
	__u8 protocol; // IPPROTO_TCP or IPPROTO_UDP
	__u8 zero;
};

// A MAC address in eight bytes.
struct station {
	__u8 mac[ETH_ALEN];
	__u8 zero[2];
};

// What the fragments of one packet have in common (RFC 791 §3.2, RFC 8200 §4.5).
struct packet_key {
	struct address source;
	struct address destination;
	__u32 identification;
	__u32 protocol;
};

// Addresses of the stack, and whether the kernel has them too.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct address);
	__type(value, __u32); // enum address_mode
} addresses SEC(".maps");

// Ports of the SHARED addresses; the value does not matter.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct port_key);
	__type(value, __u32);
} ports SEC(".maps");

// Bits of enum setting.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} settings SEC(".maps");

// The address of the NIC, for answers to ARP and to neighbour solicitations.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct station);
} station SEC(".maps");

// Sources that are allowed, where ALLOW_LISTED is set; the value does not matter.
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 256);
	__uint(map_flags, BPF_F_NO_PREALLOC); // a trie takes no other
	__type(key, struct allowed_key);
	__type(value, __u32);
} allowed SEC(".maps");

// Packets to a SHARED address whose first fragment went to the stack. The one used longest ago gives way.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct packet_key);
	__type(value, __u32);
} fragmented SEC(".maps");

// The socket of each receive queue, by queue number. User space sets max_entries to the link's number of queues.
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

// How many frames took each way, per processor.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

// The first four bytes of TCP and of UDP are the same two ports.
struct l4_ports {
	__be16 source;
	__be16 destination;
};

// TCP header without options (RFC 9293 §3.1); <linux/tcp.h> has its flags as bit fields of the machine's order.
struct tcp_header {
	struct l4_ports ports;
	__be32 sequence;
	__be32 acknowledgment;
	__u8 data_offset; // in words, the upper four bits
	__u8 flags;
	__be16 window;
	__be16 checksum;
	__be16 urgent;
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define HOPS 64 // of an answer, as the stack's own

static __always_inline void count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &which);

	if (value)
		*value += 1;
}

static __always_inline __u32 settings_now(void)
{
	__u32 zero = 0;
	__u32 *set = bpf_map_lookup_elem(&settings, &zero);

	return set ? *set : 0;
}

static __always_inline int is_set(enum setting setting)
{
	return settings_now() & setting;
}

static __always_inline int redirect(struct xdp_md *ctx)
{
	return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);
}

static __always_inline int to_socket(struct xdp_md *ctx, __u32 which)
{
	int action = redirect(ctx);

	count(action == XDP_REDIRECT ? which : NO_SOCKET);
	return action;
}

static __always_inline int is_group(const __u8 *mac)
{
	return mac[0] & 1;
}

// The one's complement sum of 32-bit words as an internet checksum (RFC 1071 §2: neither the order of bytes nor the
// length of words matters).
static __always_inline __be16 checksum(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

// Whether a frame is for the NIC itself: not for a station behind a bridge that floods, nor one that the address has moved to.
static __always_inline int is_ours(const __u8 *mac, const struct station *ours)
{
	const __u8 *own = ours->mac;

	// clang makes a call of a function that compares.
	return mac[0] == own[0] && mac[1] == own[1] && mac[2] == own[2] && mac[3] == own[3] && mac[4] == own[4] &&
	       mac[5] == own[5];
}

// Sends a frame back by the interface that it came by. Of what XDP_TX sends, the other end of a veth is not told in native mode
// unless it has a program too (drivers/net/veth.c, veth_xdp_flush); of what is redirected it is.
static __always_inline int send_back(struct xdp_md *ctx)
{
	return is_set(ANSWER_BY_REDIRECT) ? bpf_redirect(ctx->ingress_ifindex, 0) : XDP_TX;
}

// Writes `answer` over a segment, as a host at which nobody listens does (RFC 9293 §3.10.7.1), but for its checksum, which is
// 0. `data` is how many bytes the segment has behind its header, which may overlap with the answer's. Returns the sum of the
// answer's words. The segment's checksum is not looked at: on a veth it may be left to be made, and a damaged segment is
// answered with numbers that its sender does not take.
static __always_inline __u64 write_reset(struct tcp_header *answer, const struct tcp_header *tcp, __u32 data)
{
	struct l4_ports ports = tcp->ports;
	__u8 flags = tcp->flags;
	__be32 sequence = 0, acknowledgment = 0;
	__be32 *words = (void *)answer;

	if (flags & TCP_ACK)
		sequence = tcp->acknowledgment;
	else
		acknowledgment = bpf_htonl(bpf_ntohl(tcp->sequence) + data + !!(flags & TCP_SYN) + !!(flags & TCP_FIN));
	answer->ports.source = ports.destination;
	answer->ports.destination = ports.source;
	answer->sequence = sequence;
	answer->acknowledgment = acknowledgment;
	words[3] = bpf_htonl(0x50000000 | (flags & TCP_ACK ? TCP_RST : TCP_RST | TCP_ACK) << 16);
	words[4] = 0;
	return (__u64)words[0] + words[1] + words[2] + words[3];
}

// Cuts off what is behind the first `wanted` bytes of a frame. A driver that cannot leaves it longer than its packet, which
// receivers do not mind.
static __always_inline void cut(struct xdp_md *ctx, __u32 wanted, int merged)
{
	__u32 length = merged ? bpf_xdp_get_buff_len(ctx) : ctx->data_end - ctx->data;

	if (length > wanted)
		bpf_xdp_adjust_tail(ctx, (int)wanted - (int)length);
}

// The way of a frame that is not for the stack.
static __always_inline int pass(struct xdp_md *ctx)
{
	if (is_set(DEDICATED))
		return to_socket(ctx, DEDICATED_QUEUE);
	count(PASSED);
	return XDP_PASS;
}

static __always_inline int deny(void)
{
	count(DENIED);
	return XDP_DROP;
}

static __always_inline int is_served(__u8 protocol, __be16 port)
{
	struct port_key key = { .port = port, .protocol = protocol };

	return bpf_map_lookup_elem(&ports, &key) != 0;
}

#endif
