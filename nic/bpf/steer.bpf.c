// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Steering: frames for the stack go to the AF_XDP socket of the queue they arrived on, everything else goes on to the
// kernel. What "for the stack" means is in two maps that user space may change while the program runs; no address and
// no port is compiled in.
//
//   address mode   IPv4 to that address                          ARP for that address
//   OWN            all of it, fragments and options included     to the stack (the kernel does not have the address)
//   SHARED         TCP and UDP to a listed port, and ICMP         to the kernel (it has the address too)
//                  errors that quote a frame sent from one
//
// One 802.1Q tag is looked through. A SHARED frame that is a fragment or carries IP options goes to the kernel, whose
// reassembly needs every part. A queue without a socket falls back to the kernel (third argument of
// bpf_redirect_map). Nothing is ever dropped or changed here. Read first: kernel af_xdp.rst, "XSKMAP".
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

// Indices of the map `counters`. Kept equal to SteerCounters in nic/src/xdp/program.rs.
enum counter {
	PASSED,     // not for the stack: to the kernel
	REDIRECTED, // IPv4 for the stack: to the socket
	ARP,        // ARP for the stack: to the socket
	NO_SOCKET,  // for the stack, but its queue has no socket: to the kernel
	COUNTERS,
};

// A port that the stack serves at its SHARED addresses.
struct port_key {
	__be16 port;
	__u8 protocol; // IPPROTO_TCP or IPPROTO_UDP
	__u8 zero;
};

// Addresses of the stack, and whether the kernel has them too.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __be32);
	__type(value, __u32); // enum address_mode
} addresses SEC(".maps");

// Ports of the SHARED addresses; the value does not matter.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct port_key);
	__type(value, __u32);
} ports SEC(".maps");

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

#define IP_FRAGMENT bpf_htons(0x3fff) // more-fragments flag and offset (RFC 791 §3.1)
#define ARP_HARDWARE_ETHERNET bpf_htons(1)

static __always_inline void count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &which);

	if (value)
		*value += 1;
}

static __always_inline int pass(void)
{
	count(PASSED);
	return XDP_PASS;
}

static __always_inline int to_socket(struct xdp_md *ctx, __u32 which)
{
	int action = bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);

	count(action == XDP_REDIRECT ? which : NO_SOCKET);
	return action;
}

static __always_inline __u32 mode_of(__be32 address)
{
	__u32 *mode = bpf_map_lookup_elem(&addresses, &address);

	return mode ? *mode : 0;
}

static __always_inline int is_served(__u8 protocol, __be16 port)
{
	struct port_key key = { .port = port, .protocol = protocol };

	return bpf_map_lookup_elem(&ports, &key) != 0;
}

// Whether an ICMP message quotes a TCP or UDP header that the stack sent from one of its ports: path MTU discovery and
// "port unreachable" are for it (RFC 1191 §4). `ip` has no options and is no fragment.
static __always_inline int is_error_for_us(const struct iphdr *ip, void *end)
{
	const struct icmp_header *icmp = (const void *)(ip + 1);
	const struct iphdr *quoted = (const void *)(icmp + 1);
	const struct l4_ports *l4 = (const void *)(quoted + 1);

	if ((void *)(l4 + 1) > end)
		return 0;
	if (icmp->type != ICMP_DEST_UNREACH || quoted->version != 4 || quoted->ihl != 5)
		return 0;
	return mode_of(quoted->saddr) == SHARED && is_served(quoted->protocol, l4->source);
}

static __always_inline int steer_ipv4(struct xdp_md *ctx, const struct iphdr *ip, void *end)
{
	const struct l4_ports *l4 = (const void *)(ip + 1);
	__u32 mode;

	if ((void *)(ip + 1) > end || ip->version != 4)
		return pass();
	mode = mode_of(ip->daddr);
	if (mode == OWN)
		return to_socket(ctx, REDIRECTED);
	if (mode != SHARED || ip->ihl != 5 || (ip->frag_off & IP_FRAGMENT))
		return pass();
	if (ip->protocol == IPPROTO_ICMP)
		return is_error_for_us(ip, end) ? to_socket(ctx, REDIRECTED) : pass();
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP)
		return pass();
	if ((void *)(l4 + 1) > end || !is_served(ip->protocol, l4->destination))
		return pass();
	return to_socket(ctx, REDIRECTED);
}

static __always_inline int steer_arp(struct xdp_md *ctx, const struct arp_ipv4 *arp, void *end)
{
	__be32 target;

	if ((void *)(arp + 1) > end)
		return pass();
	if (arp->hardware != ARP_HARDWARE_ETHERNET || arp->protocol != bpf_htons(ETH_P_IP) ||
	    arp->hardware_bytes != ETH_ALEN || arp->protocol_bytes != sizeof(target))
		return pass();
	__builtin_memcpy(&target, arp->target_ip, sizeof(target));
	return mode_of(target) == OWN ? to_socket(ctx, ARP) : pass();
}

static __always_inline int steer(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	void *payload = eth + 1;
	__be16 ethertype;

	if (payload > end)
		return pass();
	ethertype = eth->h_proto;
	if (ethertype == bpf_htons(ETH_P_8021Q)) {
		struct vlan_tag *tag = payload;

		payload = tag + 1;
		if (payload > end)
			return pass();
		ethertype = tag->ethertype;
	}
	if (ethertype == bpf_htons(ETH_P_IP))
		return steer_ipv4(ctx, payload, end);
	if (ethertype == bpf_htons(ETH_P_ARP))
		return steer_arp(ctx, payload, end);
	return pass();
}

SEC("xdp")
int steer_whole(struct xdp_md *ctx)
{
	return steer(ctx);
}

SEC("xdp.frags")
int steer_frags(struct xdp_md *ctx)
{
	return steer(ctx);
}

// The kernel's spelling of this project's licence; none of the helpers used needs GPL.
char LICENSE[] SEC("license") = "Dual MIT/GPL";
