"""The NICs of the machine, and their names there.

    igb        two queues, RSS, zero copy since Linux 6.14     eth0   a tap of the namespace: clients
    two igb    joined by a hub, for the conformance suite      eth1, eth2
    virtio     two queues, RSS in software                     eth3   another tap
"""

IGB, PAIR, VIRTIO = "eth0", ("eth1", "eth2"), "eth3"


def devices():
    """QEMU's options for them.

    An igb has virtual functions, which want a port of their own. Without vnet_hdr=off the kernel before the tap leaves
    checksums and cutting to the NIC, and the emulated one passes both on undone, which no real one does.
    """
    words = []
    for slot, (network, mac) in enumerate([("n1", "11"), ("n2", "12"), ("n3", "13")], 1):
        netdev = "tap,id=n1,ifname=tap1,script=no,downscript=no,vnet_hdr=off" if slot == 1 else f"hubport,id={network},hubid=1"
        words += ["-netdev", netdev, "-device", f"pcie-root-port,id=port{slot},slot={slot}"]
        words += ["-device", f"igb,bus=port{slot},netdev={network},mac=52:54:00:00:00:{mac},romfile="]
    words += ["-netdev", "tap,id=n0,ifname=tap0,script=no,downscript=no,queues=2,vhost=off"]
    # Without iommu_platform there is no zero copy.
    virtio = "virtio-net-pci,netdev=n0,mq=on,vectors=6,rss=on,hash=on,iommu_platform=on,disable-legacy=on"
    return [*words, "-device", f"{virtio},mac=52:54:00:00:00:10,romfile="]
