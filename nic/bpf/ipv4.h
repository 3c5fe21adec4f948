// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Steering of IPv4 and ARP. Part of steer.bpf.c, which says what it is for.

#ifndef SIDESTEP_STEER_IPV4_H
#define SIDESTEP_STEER_IPV4_H

#include <linux/ip.h>

#include "maps.h"

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

#define ARP_REQUEST bpf_htons(1)
#define ARP_REPLY bpf_htons(2)
#define ARP_HARDWARE_ETHERNET bpf_htons(1)

#define IP_MORE_FRAGMENTS bpf_htons(0x2000) // RFC 791 §3.1
#define IP_OFFSET bpf_htons(0x1fff)         // likewise, in units of eight bytes

// Whether a packet may come from this address (RFC 1122 §3.2.1.3): no network's own, no loopback, no group.
static __always_inline int is_station(__be32 ipv4)
{
	__u8 first = bpf_ntohl(ipv4) >> 24;

	return first != 0 && first != 127 && first < 224;
}

// Makes of a TCP segment the answer of a host at which nobody listens, to be sent back by the way it came. Returns 0, and the
// frame is as it was, if there is none.
static __always_inline int refuse(struct xdp_md *ctx, struct ethhdr *eth, struct iphdr *ip, void *end, int merged)
{
	struct tcp_header *tcp = (void *)ip + ip->ihl * 4, *answer = (void *)(ip + 1);
	__u32 zero = 0;
	struct station *ours = bpf_map_lookup_elem(&station, &zero);
	__be32 from = ip->saddr, to = ip->daddr;
	__be32 *words;
	__u32 headers, total = bpf_ntohs(ip->tot_len), wanted;
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
	if (tcp->flags & TCP_RST)
		return 0;

	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, ours->mac, ETH_ALEN);
	sum = write_reset(answer, tcp, total - headers) + to + from + bpf_htonl(IPPROTO_TCP << 16 | sizeof(*answer));
	answer->checksum = checksum(sum);

	words = (void *)ip;
	words[0] = bpf_htonl(0x45000000 + sizeof(*ip) + sizeof(*answer));
	words[1] = bpf_htonl(0x4000); // no identification, not to be fragmented
	words[2] = bpf_htonl(HOPS << 24 | IPPROTO_TCP << 16);
	words[3] = to;
	words[4] = from;
	ip->check = checksum((__u64)words[0] + words[1] + words[2] + to + from);

	// What is behind it is not the answer's; a frame has 60 bytes at least (IEEE 802.3 clause 3.2.8).
	pad = answer + 1;
	if (pad + 6 <= end)
		__builtin_memset(pad, 0, 6);
	wanted = (__u32)((long)pad - (long)eth);
	cut(ctx, wanted < ETH_ZLEN ? ETH_ZLEN : wanted, merged);
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

#endif
