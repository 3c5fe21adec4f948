// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Steering: frames for the stack go to the AF_XDP socket of the queue they arrived on, everything else goes on to the
// kernel. What "for the stack" means is in maps that user space may change while the program runs; no address and no
// port is compiled in.
//
//   address mode   IPv4 to that address                          ARP for that address
//   OWN            all of it, fragments and options included     to the stack (the kernel does not have the address), and
//                                                                ARP of whoever says that it has it, too
//   SHARED         TCP and UDP to a listed port, and ICMP         to the kernel (it has the address too)
//                  errors that quote a frame sent from one
//
// With DEDICATED, every other frame goes to the socket of its queue too: the kernel gets nothing of a queue that has one.
// With ALLOW_LISTED, an IPv4 packet for the stack from an address that is not listed is dropped and counted, the only
// thing that is ever dropped here: at a SHARED address the host's own firewall does not see what goes to the stack. Of an
// ICMP error not its sender counts, which may be any router, but to whom the packet went that it quotes.
//
// The fragments of a packet to a SHARED address go where the first went, which alone has the port and is remembered for
// them; one that arrives before the first goes to the kernel, and the packet is lost. Frames of one VLAN are the stack's: those
// with its 802.1Q tag, or those without a tag, or with one that has no number (priority alone), where none is set.
// Addresses are kept in 16 bytes, IPv4 ones as IPv6 maps them (RFC 4291 §2.5.5.2), so that IPv6 needs no other maps; an
// IPv6 packet goes to the kernel as yet. A queue without a socket falls back to the kernel (third argument of
// bpf_redirect_map).
//
// While NOBODY serves, which the process says that outlives the one with the sockets, clients of an OWN address are told
// at once: a TCP segment becomes the RST that answers it, and a request of ARP the reply, both sent back from here. One
// frame makes one of no more bytes. At a SHARED address the kernel answers so itself. Nothing else is changed in any
// frame. Read first: kernel af_xdp.rst, "XSKMAP"; RFC 9293 §3.10.7.1.
//
// There are two programs, which differ in name only: `steer_whole` is given frames that lie in one buffer, `steer_frags`
// also those that the kernel has merged, of which it sees the first buffer. All headers that matter lie there.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
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
	REDIRECTED, // IPv4 for the stack: to the socket
	ARP,        // ARP for the stack: to the socket
	NO_SOCKET,  // for the stack, but its queue has no socket: to the kernel
	DENIED,     // IPv4 for the stack from a source that is not allowed: dropped
	ICMP_ERROR, // ICMP error about a packet of the stack's from a SHARED address: to the socket
	FRAGMENT,   // fragment, not the first, of a packet for the stack at a SHARED address: to the socket
	DEDICATED_QUEUE, // not for the stack, on a dedicated queue: to the socket
	REFUSED,         // TCP for the stack while nobody serves: answered with RST
	ARP_ANSWERED,    // ARP for the stack while nobody serves: answered
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

// What the fragments of one packet have in common (RFC 791 §3.2).
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

// The address of the NIC, for answers to ARP.
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

// 802.1Q tag behind the two MAC addresses and the ethertype 0x8100 (IEEE 802.1Q clause 9.6).
struct vlan_tag {
	__be16 control;
	__be16 ethertype;
};

// ARP for IPv4 over Ethernet (RFC 826, "Packet format").
struct arp_ipv4 {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_bytes;
	__u8 protocol_bytes;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__u8 sender_ip[4];
	__u8 target_mac[ETH_ALEN];
	__u8 target_ip[4];
} __attribute__((packed));

// ICMP header (RFC 792); <linux/icmp.h> pulls in headers of the C library that -target bpf cannot digest.
struct icmp_header {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 rest;
};

#define ICMP_DEST_UNREACH 3

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

#define ARP_REQUEST bpf_htons(1)
#define ARP_REPLY bpf_htons(2)

#define IP_DONT_FRAGMENT bpf_htons(0x4000)
#define HOPS 64 // of an answer, as the stack's own

#define IP_MORE_FRAGMENTS bpf_htons(0x2000) // RFC 791 §3.1
#define IP_OFFSET bpf_htons(0x1fff)         // likewise, in units of eight bytes
#define ARP_HARDWARE_ETHERNET bpf_htons(1)

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

// Whether a packet may come from this address (RFC 1122 §3.2.1.3): no network's own, no loopback, no group.
static __always_inline int is_station(__be32 ipv4)
{
	__u8 first = bpf_ntohl(ipv4) >> 24;

	return first != 0 && first != 127 && first < 224;
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

// Makes of a TCP segment the answer of a host at which nobody listens (RFC 9293 §3.10.7.1), to be sent back by the way it
// came. Returns 0, and the frame is as it was, if there is none. The segment's checksum is not looked at: on a veth it
// may be left to be made, and a damaged segment is answered with numbers that its sender does not take.
static __always_inline int refuse(struct xdp_md *ctx, struct ethhdr *eth, struct iphdr *ip, void *end, int merged)
{
	struct tcp_header *tcp = (void *)ip + ip->ihl * 4, *answer = (void *)(ip + 1);
	__u32 zero = 0;
	struct station *ours = bpf_map_lookup_elem(&station, &zero);
	__be32 from = ip->saddr, to = ip->daddr, sequence = 0, acknowledgment = 0;
	__be32 *words;
	struct l4_ports ports;
	__u32 headers, total = bpf_ntohs(ip->tot_len), length, wanted;
	__u8 flags;
	__u64 sum;
	void *pad;

	if (ip->protocol != IPPROTO_TCP || ip->ihl < 5 || (ip->frag_off & (IP_MORE_FRAGMENTS | IP_OFFSET)))
		return 0;
	if ((void *)(tcp + 1) > end || (void *)(answer + 1) > end)
		return 0;
	headers = ip->ihl * 4 + (tcp->data_offset >> 4) * 4;
	if (tcp->data_offset >> 4 < 5 || total < headers)
		return 0;
	if (!ours || !is_ours(eth->h_dest, ours) || is_group(eth->h_source) || !is_station(from) || from == to)
		return 0;
	flags = tcp->flags;
	if (flags & TCP_RST)
		return 0;
	ports = tcp->ports;
	if (flags & TCP_ACK)
		sequence = tcp->acknowledgment;
	else
		acknowledgment = bpf_htonl(bpf_ntohl(tcp->sequence) + total - headers + !!(flags & TCP_SYN) + !!(flags & TCP_FIN));

	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, ours->mac, ETH_ALEN);

	words = (void *)ip;
	words[0] = bpf_htonl(0x45000000 + sizeof(*ip) + sizeof(*answer));
	words[1] = bpf_htonl(0x4000); // no identification, not to be fragmented
	words[2] = bpf_htonl(HOPS << 24 | IPPROTO_TCP << 16);
	words[3] = to;
	words[4] = from;
	ip->check = checksum((__u64)words[0] + words[1] + words[2] + to + from);

	words = (void *)answer;
	answer->ports.source = ports.destination;
	answer->ports.destination = ports.source;
	answer->sequence = sequence;
	answer->acknowledgment = acknowledgment;
	words[3] = bpf_htonl(0x50000000 | (flags & TCP_ACK ? TCP_RST : TCP_RST | TCP_ACK) << 16);
	words[4] = 0;
	sum = (__u64)to + from + bpf_htonl(IPPROTO_TCP << 16 | sizeof(*answer));
	answer->checksum = checksum(sum + words[0] + words[1] + words[2] + words[3]);

	// What is behind it is not the answer's; a frame has 60 bytes at least (IEEE 802.3 clause 3.2.8).
	pad = answer + 1;
	if (pad + 6 <= end)
		__builtin_memset(pad, 0, 6);
	wanted = (__u32)((long)pad - (long)eth);
	if (wanted < ETH_ZLEN)
		wanted = ETH_ZLEN;
	length = merged ? bpf_xdp_get_buff_len(ctx) : ctx->data_end - ctx->data;
	// A driver that cannot leaves the frame longer than its packet, which receivers do not mind.
	if (length > wanted)
		bpf_xdp_adjust_tail(ctx, (int)wanted - (int)length);
	return 1;
}

// Makes of a request of ARP the reply that the stack would send (RFC 826), likewise.
static __always_inline int answer_arp(struct ethhdr *eth, struct arp_ipv4 *arp, __be32 target)
{
	__u32 zero = 0;
	struct station *ours = bpf_map_lookup_elem(&station, &zero);

	if (!ours || arp->operation != ARP_REQUEST || is_group(eth->h_source))
		return 0;
	if (!is_group(eth->h_dest) && !is_ours(eth->h_dest, ours))
		return 0;
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, ours->mac, ETH_ALEN);
	arp->operation = ARP_REPLY;
	__builtin_memcpy(arp->target_mac, arp->sender_mac, ETH_ALEN);
	__builtin_memcpy(arp->target_ip, arp->sender_ip, sizeof(target));
	__builtin_memcpy(arp->sender_mac, ours->mac, ETH_ALEN);
	__builtin_memcpy(arp->sender_ip, &target, sizeof(target));
	return 1;
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

static __always_inline struct address ipv4_address(__be32 ipv4)
{
	return (struct address){ { 0, 0, bpf_htonl(0xffff), ipv4 } };
}

static __always_inline __u32 mode_of(__be32 ipv4)
{
	struct address address = ipv4_address(ipv4);
	__u32 *mode = bpf_map_lookup_elem(&addresses, &address);

	return mode ? *mode : 0;
}

static __always_inline int is_served(__u8 protocol, __be16 port)
{
	struct port_key key = { .port = port, .protocol = protocol };

	return bpf_map_lookup_elem(&ports, &key) != 0;
}

static __always_inline int is_allowed(__be32 ipv4)
{
	struct allowed_key key = { .prefix_bits = 128, .address = ipv4_address(ipv4) };

	return !is_set(ALLOW_LISTED) || bpf_map_lookup_elem(&allowed, &key) != 0;
}

// The packet that an ICMP error quotes, if `ip`, which has no options and is no fragment, is one: path MTU discovery and
// "port unreachable" (RFC 1191 §4).
static __always_inline const struct iphdr *quoted_by(const struct iphdr *ip, void *end)
{
	const struct icmp_header *icmp = (const void *)(ip + 1);
	const struct iphdr *quoted = (const void *)(icmp + 1);
	const struct l4_ports *l4 = (const void *)(quoted + 1);

	if (ip->protocol != IPPROTO_ICMP || ip->ihl != 5 || (ip->frag_off & (IP_MORE_FRAGMENTS | IP_OFFSET)))
		return 0;
	if ((void *)(l4 + 1) > end)
		return 0;
	if (icmp->type != ICMP_DEST_UNREACH || quoted->version != 4 || quoted->ihl != 5)
		return 0;
	return quoted;
}

static __always_inline int steer_own(struct xdp_md *ctx, struct ethhdr *eth, struct iphdr *ip, void *end, int merged)
{
	const struct iphdr *quoted = quoted_by(ip, end);
	__be32 peer = quoted ? quoted->daddr : ip->saddr;
	__u32 which = REDIRECTED;
	int action;

	if (!is_allowed(peer))
		return deny();
	action = redirect(ctx);
	if (action != XDP_REDIRECT) {
		which = NO_SOCKET;
		if (is_set(NOBODY) && refuse(ctx, eth, ip, end, merged)) {
			which = REFUSED;
			action = send_back(ctx);
		}
	}
	count(which);
	return action;
}

static __always_inline int steer_shared(struct xdp_md *ctx, const struct iphdr *ip, void *end)
{
	const struct iphdr *quoted = quoted_by(ip, end);
	const struct l4_ports *l4;
	struct packet_key packet = {
		.source = ipv4_address(ip->saddr),
		.destination = ipv4_address(ip->daddr),
		.identification = ip->id,
		.protocol = ip->protocol,
	};
	__u32 one = 1;
	int served;

	if (quoted) {
		l4 = (const void *)(quoted + 1);
		if (mode_of(quoted->saddr) != SHARED || !is_served(quoted->protocol, l4->source))
			return pass(ctx);
		return is_allowed(quoted->daddr) ? to_socket(ctx, ICMP_ERROR) : deny();
	}
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP)
		return pass(ctx);
	if (ip->frag_off & IP_OFFSET)
		return bpf_map_lookup_elem(&fragmented, &packet) ? to_socket(ctx, FRAGMENT) : pass(ctx);
	if (ip->ihl < 5)
		return pass(ctx);
	l4 = (const void *)ip + ip->ihl * 4;
	if ((void *)(l4 + 1) > end)
		return pass(ctx);
	served = is_served(ip->protocol, l4->destination);
	if (ip->frag_off & IP_MORE_FRAGMENTS) {
		// What is known under this identification is of an earlier packet: the numbers come round.
		if (served && is_allowed(ip->saddr))
			bpf_map_update_elem(&fragmented, &packet, &one, BPF_ANY);
		else
			bpf_map_delete_elem(&fragmented, &packet);
	}
	if (!served)
		return pass(ctx);
	return is_allowed(ip->saddr) ? to_socket(ctx, REDIRECTED) : deny();
}

static __always_inline int steer_ipv4(struct xdp_md *ctx, struct ethhdr *eth, struct iphdr *ip, void *end, int merged)
{
	if ((void *)(ip + 1) > end || ip->version != 4)
		return pass(ctx);
	switch (mode_of(ip->daddr)) {
	case OWN:
		return steer_own(ctx, eth, ip, end, merged);
	case SHARED:
		return steer_shared(ctx, ip, end);
	default:
		return pass(ctx);
	}
}

static __always_inline int steer_arp(struct xdp_md *ctx, struct ethhdr *eth, struct arp_ipv4 *arp, void *end)
{
	__be32 sender, target;
	__u32 which = ARP;
	int action, asked;

	if ((void *)(arp + 1) > end)
		return pass(ctx);
	if (arp->hardware != ARP_HARDWARE_ETHERNET || arp->protocol != bpf_htons(ETH_P_IP) ||
	    arp->hardware_bytes != ETH_ALEN || arp->protocol_bytes != sizeof(target))
		return pass(ctx);
	__builtin_memcpy(&target, arp->target_ip, sizeof(target));
	__builtin_memcpy(&sender, arp->sender_ip, sizeof(sender));
	asked = mode_of(target) == OWN;
	// Else a station that says it has the address, which may answer a probe of the stack's (RFC 5227 §2.1.1).
	if (!asked && mode_of(sender) != OWN)
		return pass(ctx);
	action = redirect(ctx);
	if (action != XDP_REDIRECT) {
		which = NO_SOCKET;
		if (asked && is_set(NOBODY) && answer_arp(eth, arp, target)) {
			which = ARP_ANSWERED;
			action = send_back(ctx);
		}
	}
	count(which);
	return action;
}

// `merged`: whether the frame may lie in several buffers.
static __always_inline int steer(struct xdp_md *ctx, int merged)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	void *payload = eth + 1;
	__be16 ethertype;
	__u32 number = 0;

	if (payload > end)
		return pass(ctx);
	ethertype = eth->h_proto;
	if (ethertype == bpf_htons(ETH_P_8021Q)) {
		struct vlan_tag *tag = payload;

		payload = tag + 1;
		if (payload > end)
			return pass(ctx);
		ethertype = tag->ethertype;
		number = bpf_ntohs(tag->control) & VLAN_NUMBER;
	}
	if (number != (settings_now() >> VLAN_SHIFT & VLAN_NUMBER))
		return pass(ctx);
	if (ethertype == bpf_htons(ETH_P_IP))
		return steer_ipv4(ctx, eth, payload, end, merged);
	if (ethertype == bpf_htons(ETH_P_ARP))
		return steer_arp(ctx, eth, payload, end);
	return pass(ctx);
}

SEC("xdp")
int steer_whole(struct xdp_md *ctx)
{
	return steer(ctx, 0);
}

SEC("xdp.frags")
int steer_frags(struct xdp_md *ctx)
{
	return steer(ctx, 1);
}

// The kernel's spelling of this project's licence; none of the helpers used needs GPL.
char LICENSE[] SEC("license") = "Dual MIT/GPL";
