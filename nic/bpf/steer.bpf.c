// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Steering: frames for the stack go to the AF_XDP socket of the queue they arrived on, everything else goes on to the
// kernel. What "for the stack" means is in maps that user space may change while the program runs; no address and no
// port is compiled in.
//
//   address mode   IP to that address                            ARP and neighbour discovery (RFC 4861) for that address
//   OWN            all of it, fragments and options included     to the stack (the kernel does not have the address), and
//                                                                what comes from who says that it has it, too
//   SHARED         TCP and UDP to a listed port, and ICMP         to the kernel (it has the address too)
//                  errors that quote a frame sent from one
//
// With DEDICATED, every other frame goes to the socket of its queue too: the kernel gets nothing of a queue that has one.
// Else router advertisements, groups and what is asked of their members are the kernel's: a frame cannot go to both, and who
// follows the kernel's routes needs them no more.
// With ALLOW_LISTED, an IP packet for the stack from an address that is not listed is dropped and counted, the only
// thing that is ever dropped here: at a SHARED address the host's own firewall does not see what goes to the stack. Of an
// ICMP error not its sender counts, which may be any router, but to whom the packet went that it quotes. Neighbour
// discovery of the link itself (hop limit 255) is as free as ARP.
//
// The fragments of a packet to a SHARED address go where the first went, which alone has the port and is remembered for
// them; one that arrives before the first goes to the kernel, and the packet is lost. Frames of one VLAN are the stack's: those
// with its 802.1Q tag, or those without a tag, or with one that has no number (priority alone), where none is set.
// Addresses are kept in 16 bytes, IPv4 ones as IPv6 maps them (RFC 4291 §2.5.5.2). A queue without a socket falls back to
// the kernel (third argument of bpf_redirect_map).
//
// While NOBODY serves, which the process says that outlives the one with the sockets, clients of an OWN address are told
// at once: a TCP segment becomes the RST that answers it, and a request of ARP or a solicitation the reply, sent back from
// here. One frame makes one of no more bytes. At a SHARED address the kernel answers so itself. Nothing else is changed in
// any frame. Read first: kernel af_xdp.rst, "XSKMAP"; RFC 9293 §3.10.7.1; RFC 4861 §7.2.4.
//
// There are two programs, which differ in name only: `steer_whole` is given frames that lie in one buffer, `steer_frags`
// also those that the kernel has merged, of which it sees the first buffer. All headers that matter lie there.

#include "ipv4.h"
#include "ipv6.h"
#include "maps.h"

// 802.1Q tag behind the two MAC addresses and the ethertype 0x8100 (IEEE 802.1Q clause 9.6).
struct vlan_tag {
	__be16 control;
	__be16 ethertype;
};

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
	if (ethertype == bpf_htons(ETH_P_IPV6))
		return steer_ipv6(ctx, eth, payload, end, merged);
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
