// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Steering of IPv6 and of its neighbour discovery. Part of steer.bpf.c, which says what it is for.

#ifndef SIDESTEP_STEER_IPV6_H
#define SIDESTEP_STEER_IPV6_H

#include <linux/in6.h>

#include "maps.h"

// RFC 8200 §3.
struct ipv6_header {
	__be32 version_and_flow;
	__be16 payload_bytes;
	__u8 next;
	__u8 hops;
	struct address source;
	struct address destination;
};

#define IPV6_VERSION bpf_htonl(0x60000000)
#define IPV6_VERSION_BITS bpf_htonl(0xf0000000)

// How the headers begin that a host passes over (RFC 8200 §4.3, §4.6).
struct extension {
	__u8 next;
	__u8 more; // its length in units of eight bytes, without the first
};

// RFC 8200 §4.5.
struct fragment_header {
	__u8 next;
	__u8 reserved;
	__be16 place;
	__be32 identification;
};

#define IPV6_MORE_FRAGMENTS bpf_htons(1)
#define IPV6_OFFSET bpf_htons(0xfff8)

// Headers between that of IPv6 and the ports that are passed over; what has more is the kernel's.
#define EXTENSIONS_MOST 4

// RFC 4443 §2.1.
struct icmpv6_header {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 rest;
};

// Unreachable, too big, time exceeded, parameter problem (RFC 4443 §3).
#define ICMPV6_ERROR_FIRST 1
#define ICMPV6_ERROR_LAST 4
#define ICMPV6_SOLICITATION 135
#define ICMPV6_ADVERTISEMENT 136

// A neighbour solicitation or advertisement (RFC 4861 §4.3, §4.4), and the only option that answers have (§4.6.1).
struct neighbor_message {
	struct icmpv6_header icmp;
	struct address target;
};

struct station_option {
	__u8 type;
	__u8 units;
	__u8 mac[ETH_ALEN];
};

#define TARGET_STATION 2
#define SOLICITED_AND_OVERRIDE bpf_htonl(0x60000000)
#define OVERRIDE bpf_htonl(0x20000000)
#define NEIGHBOR_HOPS 255 // what comes from another link has fewer (RFC 4861 §7.1)

static __always_inline __u32 mode_of_ipv6(const struct address *ipv6)
{
	struct address address = *ipv6;
	__u32 *mode;

	// The unspecified address, loopback, and IPv4 addresses in disguise are nobody's on a link.
	if (!(address.word[0] | address.word[1]))
		return 0;
	mode = bpf_map_lookup_elem(&addresses, &address);
	return mode ? *mode : 0;
}

static __always_inline int is_allowed_ipv6(const struct address *ipv6)
{
	struct allowed_key key = { .prefix_bits = 128, .address = *ipv6 };

	return !is_set(ALLOW_LISTED) || bpf_map_lookup_elem(&allowed, &key) != 0;
}

static __always_inline int is_unspecified(const struct address *ipv6)
{
	return !(ipv6->word[0] | ipv6->word[1] | ipv6->word[2] | ipv6->word[3]);
}

// Whether a packet may come from this address (RFC 4291 §2.5.2, §2.5.3, §2.7): no loopback, no group, no IPv4 in disguise.
static __always_inline int is_station_ipv6(const struct address *ipv6)
{
	return (ipv6->word[0] | ipv6->word[1]) && bpf_ntohl(ipv6->word[0]) >> 24 != 0xff;
}

static __always_inline int is_same(const struct address *a, const struct address *b)
{
	return !((a->word[0] ^ b->word[0]) | (a->word[1] ^ b->word[1]) | (a->word[2] ^ b->word[2]) | (a->word[3] ^ b->word[3]));
}

static __always_inline __u64 sum_of(const struct address *ipv6)
{
	return (__u64)ipv6->word[0] + ipv6->word[1] + ipv6->word[2] + ipv6->word[3];
}

// Writes the header of an answer, `payload` bytes long without it. Returns the sum of the pseudo-header (RFC 8200 §8.1).
static __always_inline __u64 write_header(struct ipv6_header *ip, const struct address *from, const struct address *to, __u32 payload,
					  __u8 protocol, __u8 hops)
{
	struct address source = *from, destination = *to;

	ip->version_and_flow = IPV6_VERSION;
	ip->payload_bytes = bpf_htons(payload);
	ip->next = protocol;
	ip->hops = hops;
	ip->source = source;
	ip->destination = destination;
	return sum_of(&source) + sum_of(&destination) + bpf_htonl(payload) + bpf_htonl(protocol);
}

// Makes of a TCP segment behind a plain header the answer of a host at which nobody listens, as `refuse` of ipv4.h does.
static __always_inline int refuse_ipv6(struct xdp_md *ctx, struct ethhdr *eth, struct ipv6_header *ip, void *end, int merged)
{
	struct tcp_header *tcp = (void *)(ip + 1);
	__u32 zero = 0;
	struct station *ours = bpf_map_lookup_elem(&station, &zero);
	__u32 headers, total = bpf_ntohs(ip->payload_bytes);
	__u64 sum;

	if (ip->next != IPPROTO_TCP || (void *)(tcp + 1) > end)
		return 0;
	headers = (tcp->data_offset >> 4) * 4;
	if (headers < sizeof(*tcp) || total < headers)
		return 0;
	if (!ours || !is_ours(eth->h_dest, ours) || is_group(eth->h_source))
		return 0;
	if (!is_station_ipv6(&ip->source) || is_same(&ip->source, &ip->destination) || (tcp->flags & TCP_RST))
		return 0;

	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, ours->mac, ETH_ALEN);
	sum = write_reset(tcp, tcp, total - headers);
	sum += write_header(ip, &ip->destination, &ip->source, sizeof(*tcp), IPPROTO_TCP, HOPS);
	tcp->checksum = checksum(sum);
	cut(ctx, (__u32)((long)(tcp + 1) - (long)eth), merged);
	return 1;
}

// Makes of a solicitation the advertisement that the stack would send (RFC 4861 §7.2.4), likewise. Who asks whether it may take
// the address (RFC 4862 §5.4.3) has no address, and is answered by way of all nodes. Where the frame has no room for our
// station, as when it is asked for without one, it is left out, which says all the same that the address is taken.
static __always_inline int answer_solicitation(struct xdp_md *ctx, struct ethhdr *eth, struct ipv6_header *ip,
					       struct neighbor_message *message, void *end, int merged)
{
	const struct address all_nodes = { { bpf_htonl(0xff020000), 0, 0, bpf_htonl(1) } };
	struct station_option *option = (void *)(message + 1);
	__u32 zero = 0, length = sizeof(*message);
	struct station *ours = bpf_map_lookup_elem(&station, &zero);
	__be32 *words = (void *)message;
	__u64 sum;
	int probe = is_unspecified(&ip->source), has_room;

	if (!ours || message->icmp.type != ICMPV6_SOLICITATION || is_group(eth->h_source))
		return 0;
	if (!is_group(eth->h_dest) && !is_ours(eth->h_dest, ours))
		return 0;
	if (!probe && (!is_station_ipv6(&ip->source) || is_same(&ip->source, &message->target)))
		return 0;
	if (bpf_ntohs(ip->payload_bytes) < sizeof(*message))
		return 0;

	has_room = bpf_ntohs(ip->payload_bytes) >= sizeof(*message) + sizeof(*option) && (void *)(option + 1) <= end;
	if (has_room)
		length += sizeof(*option);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	if (probe) {
		// 33:33 and the last four bytes of the group (RFC 2464 §7).
		eth->h_dest[0] = eth->h_dest[1] = 0x33;
		__builtin_memcpy(eth->h_dest + 2, &all_nodes.word[3], sizeof(all_nodes.word[3]));
	}
	__builtin_memcpy(eth->h_source, ours->mac, ETH_ALEN);
	sum = write_header(ip, &message->target, probe ? &all_nodes : &ip->source, length, IPPROTO_ICMPV6, NEIGHBOR_HOPS);
	words[0] = bpf_htonl(ICMPV6_ADVERTISEMENT << 24);
	words[1] = probe ? OVERRIDE : SOLICITED_AND_OVERRIDE;
	sum += (__u64)words[0] + words[1] + sum_of(&message->target);
	if (has_room) {
		option->type = TARGET_STATION;
		option->units = 1;
		__builtin_memcpy(option->mac, ours->mac, ETH_ALEN);
		words = (void *)option;
		sum += (__u64)words[0] + words[1];
	}
	message->icmp.checksum = checksum(sum);
	cut(ctx, (__u32)((long)message - (long)eth) + length, merged);
	return 1;
}

// The packet that an ICMP error right behind a plain header quotes, if there is one.
static __always_inline const struct ipv6_header *quoted_by_ipv6(const struct ipv6_header *ip, void *end)
{
	const struct icmpv6_header *icmp = (const void *)(ip + 1);
	const struct ipv6_header *quoted = (const void *)(icmp + 1);
	const struct l4_ports *l4 = (const void *)(quoted + 1);

	if (ip->next != IPPROTO_ICMPV6 || (void *)(l4 + 1) > end)
		return 0;
	if (icmp->type < ICMPV6_ERROR_FIRST || icmp->type > ICMPV6_ERROR_LAST)
		return 0;
	return (quoted->version_and_flow & IPV6_VERSION_BITS) == IPV6_VERSION ? quoted : 0;
}

static __always_inline int steer_own_ipv6(struct xdp_md *ctx, struct ethhdr *eth, struct ipv6_header *ip, void *end, int merged)
{
	const struct ipv6_header *quoted = quoted_by_ipv6(ip, end);
	__u32 which = REDIRECTED;
	int action;

	if (!is_allowed_ipv6(quoted ? &quoted->destination : &ip->source))
		return deny();
	action = redirect(ctx);
	if (action != XDP_REDIRECT) {
		which = NO_SOCKET;
		if (is_set(NOBODY) && refuse_ipv6(ctx, eth, ip, end, merged)) {
			which = REFUSED;
			action = send_back(ctx);
		}
	}
	count(which);
	return action;
}

static __always_inline int steer_shared_ipv6(struct xdp_md *ctx, const struct ipv6_header *ip, void *end)
{
	const struct ipv6_header *quoted = quoted_by_ipv6(ip, end);
	struct packet_key packet = { .source = ip->source, .destination = ip->destination, .protocol = IPPROTO_FRAGMENT };
	const struct fragment_header *fragment;
	const struct extension *extension;
	const struct l4_ports *l4;
	const void *at = ip + 1;
	__u8 protocol = ip->next;
	__be16 place = 0;
	__u32 one = 1;
	int served;

	if (quoted) {
		l4 = (const void *)(quoted + 1);
		if (mode_of_ipv6(&quoted->source) != SHARED || !is_served(quoted->next, l4->source))
			return pass(ctx);
		return is_allowed_ipv6(&quoted->destination) ? to_socket(ctx, ICMP_ERROR) : deny();
	}
#pragma unroll
	for (int passed = 0; passed < EXTENSIONS_MOST; passed++) {
		if (protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_DSTOPTS) {
			extension = at;
			if ((void *)(extension + 1) > end)
				return pass(ctx);
			protocol = extension->next;
			at += (extension->more + 1) * 8;
		} else if (protocol == IPPROTO_FRAGMENT) {
			fragment = at;
			if ((void *)(fragment + 1) > end)
				return pass(ctx);
			protocol = fragment->next;
			place = fragment->place;
			packet.identification = fragment->identification;
			// Behind the header of a later fragment there is none.
			if (place & IPV6_OFFSET)
				return bpf_map_lookup_elem(&fragmented, &packet) ? to_socket(ctx, FRAGMENT) : pass(ctx);
			at = fragment + 1;
		} else {
			break;
		}
	}
	l4 = at;
	if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) || (void *)(l4 + 1) > end)
		return pass(ctx);
	served = is_served(protocol, l4->destination);
	if (place & IPV6_MORE_FRAGMENTS) {
		// What is known under this identification is of an earlier packet: the numbers come round.
		if (served && is_allowed_ipv6(&ip->source))
			bpf_map_update_elem(&fragmented, &packet, &one, BPF_ANY);
		else
			bpf_map_delete_elem(&fragmented, &packet);
	}
	if (!served)
		return pass(ctx);
	return is_allowed_ipv6(&ip->source) ? to_socket(ctx, REDIRECTED) : deny();
}

// `asked`: whether the target is ours. Else it is told of another station at an address of ours, which asked.
static __always_inline int steer_neighbor(struct xdp_md *ctx, struct ethhdr *eth, struct ipv6_header *ip, void *end, int merged,
					  int asked)
{
	struct neighbor_message *message = (void *)(ip + 1);
	__u32 which = NEIGHBOR;
	int action = redirect(ctx);

	if (action != XDP_REDIRECT) {
		which = NO_SOCKET;
		if (asked && is_set(NOBODY) && answer_solicitation(ctx, eth, ip, message, end, merged)) {
			which = NEIGHBOR_ANSWERED;
			action = send_back(ctx);
		}
	}
	count(which);
	return action;
}

static __always_inline int steer_ipv6(struct xdp_md *ctx, struct ethhdr *eth, struct ipv6_header *ip, void *end, int merged)
{
	const struct neighbor_message *message = (const void *)(ip + 1);
	int asked, mode;

	if ((void *)(ip + 1) > end || (ip->version_and_flow & IPV6_VERSION_BITS) != IPV6_VERSION)
		return pass(ctx);
	mode = mode_of_ipv6(&ip->destination);
	if (ip->next == IPPROTO_ICMPV6 && ip->hops == NEIGHBOR_HOPS && (void *)(message + 1) <= end &&
	    (message->icmp.type == ICMPV6_SOLICITATION || message->icmp.type == ICMPV6_ADVERTISEMENT)) {
		asked = mode_of_ipv6(&message->target) == OWN;
		if (asked || mode == OWN)
			return steer_neighbor(ctx, eth, ip, end, merged, asked);
	}
	switch (mode) {
	case OWN:
		return steer_own_ipv6(ctx, eth, ip, end, merged);
	case SHARED:
		return steer_shared_ipv6(ctx, ip, end);
	default:
		return pass(ctx);
	}
}

#endif
