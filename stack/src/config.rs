//! What a stack is told at its start, and the checks of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use nic::Route;

use crate::link::Mac;
use crate::own_addresses::{self, OwnAddress};
use crate::rings::Rings;

/// Most flows that one core can be asked to hold: a flow's index must fit the table's slot with room to spare.
const MAX_FLOWS: usize = 1 << 26;

/// Smallest packet size that every IPv4 host must be able to take (RFC 791 §3.1).
const MIN_IP_MTU: usize = 576;

/// The same of IPv6 (RFC 8200 §5).
const MIN_IPV6_MTU: usize = 1_280;

/// Largest packet of any link in use (jumbo frames); what smoltcp was tested with.
const MAX_IP_MTU: usize = 9_216;

/// Largest number of a VLAN (IEEE 802.1Q §9.6: 4095 is reserved).
const VLAN_MAX: u16 = 4_094;

/// Most addresses of one stack: with every port, as many connections to one server as it can have flows.
const MAX_ADDRESSES: u32 = 1 << 16;

/// Whether one host can have `address`. Those from 240.0.0.0 on nobody has (RFC 1112 §4).
fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.octets()[0] >= 224 || address.is_loopback())
}

/// Settings of one core's stack. Make one by [`StackConfig::new`], then change fields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StackConfig {
    /// The stack's own IPv4 address; the first, if it has several. 0.0.0.0: it has none.
    pub address: Ipv4Addr,
    /// How many addresses in a row, from `address` on, are the stack's own: at least 1; 0 where it has none. Connections are accepted at
    /// each; several give connections to one server more source ports than one address has.
    pub addresses: u32,
    /// Further addresses of the stack's own, of IPv4 or of IPv6, each with its network, in whatever order; at most
    /// [`MOST_OTHERS`](Self::MOST_OTHERS). Connections are accepted at each. Those that the stack opens come from the row unless
    /// [`source`](crate::Connect::source) says otherwise.
    pub others: Vec<OwnAddress>,
    /// The router for addresses beyond the subnet. `None`: they cannot be connected to.
    pub gateway: Option<Ipv4Addr>,
    /// The same for IPv6. `None`: the routers that say so themselves, if `router_advertisements`.
    pub gateway6: Option<Ipv6Addr>,
    /// Whether what routers of IPv6 say of themselves and of the link is heeded, where neither `gateway6` nor any
    /// [route](crate::NetStack::set_routes) by a router of IPv6 is set (RFC 4861 §6.3).
    pub router_advertisements: bool,
    /// Most hosts of IPv6 with connections at a time, those in TIME-WAIT included; a SYN from another is dropped and counted. 0:
    /// as many as there can be flows and TIME-WAIT records. 44 bytes each are reserved if there is an address of IPv6.
    pub stations: usize,
    /// Leading one bits of the subnet mask, 0 to 32.
    pub prefix_len: u8,
    /// The link's own Ethernet address; frames to others are dropped.
    pub mac: Mac,
    /// The VLAN that the stack is in, by the number of its 802.1Q tag, 1 to 4094; 0: it takes frames without a tag, or with one
    /// of priority alone. `None`: whatever comes, where something before the stack chooses. An answer has the tag of what it
    /// answers, priority and all.
    pub vlan: Option<u16>,
    /// Whether ARP for the stack's addresses comes to it. Not where the kernel has them too, and so gets the answers: then
    /// nobody is asked, and a flow goes to where its peer's frames come from.
    pub arp: bool,
    /// Whether this stack says on the link what is to be said once for all cores of the same addresses: whether somebody else has an
    /// IPv6 address of theirs, that it is here, and which routers there are. The others hear what is answered as it goes round the
    /// cores ([`peers`](Self::peers)), and take their addresses to be in use at the same time.
    pub speaks: bool,
    /// Longest IPv4 packet of the link, in bytes: 576 to 9,216. The MSS that is offered is 40 less.
    pub ip_mtu: usize,
    /// Whether a TCP or UDP checksum that the sender's kernel has left to offload is taken: one that is not right, but
    /// exactly the sum of the pseudo-header. For links whose other end is a kernel without a wire in between; on a wire
    /// it is a wrong checksum like any other.
    pub partial_checksums: bool,
    /// TCP ports on which connections are accepted.
    pub ports: Vec<u16>,
    /// UDP ports whose datagrams are handed to the application
    /// ([`NetStack::ingest_datagrams`](crate::NetStack::ingest_datagrams)).
    pub udp_ports: Vec<u16>,
    /// Ports of services that the application [asks](crate::NetStack::send_to) itself. Datagrams from below port 1,024, from 11211 and
    /// from a port that is one of `udp_ports` are dropped, since whoever sends them would answer an answer, for ever; those from
    /// these ports are handed over. The application must not answer them.
    pub udp_services: Vec<u16>,
    /// Most flows at a time, half-open ones included. 20 bytes each are reserved at the start.
    pub max_flows: usize,
    /// Flows that may be awake at a time. Those beyond, of which nothing is under way, sleep in 56 bytes, and whoever needs a
    /// block has it of one that rests. As many as `max_flows`, or more: none ever sleeps.
    pub awake_flows: usize,
    /// Flow blocks made at the start; more are made ahead of use, outside the packet path, up to `max_flows`.
    pub flows_at_start: usize,
    /// Sizes of a flow's rings.
    pub rings: Rings,
    /// Most bytes that flows may have, together, in rings larger than [`rings`](Self::rings), which those get that move
    /// much. 0: there are none, and windows are not scaled.
    pub conn_memory: usize,
    /// Most half-open connections at a time, for each of which about a hundred bytes are reserved; a SYN beyond is dropped
    /// and counted.
    pub syn_queue: usize,
    /// Most TIME-WAIT records; beyond, the oldest gives way and is counted.
    pub time_wait_records: usize,
    /// Entries of the neighbour table.
    pub neighbors: usize,
    /// Other cores that hold flows of the same address. A segment of an unknown flow is offered to them as a stray;
    /// with none it is answered with RST at once.
    pub peers: u8,
    /// How long a half-open connection may take to become established.
    pub handshake_timeout: Duration,
    /// How long a connection that is asked for may take to be established before it is reported as timed out.
    pub connect_timeout: Duration,
    /// Source ports of connections that are asked for, first and last (RFC 6335 §6: 49,152 to 65,535).
    pub ephemeral_ports: (u16, u16),
    /// Which of how many cores of the same addresses this is, so that no two choose the same source port: a core takes those whose
    /// number, divided by the second, leaves the first. (0, 1): all. One of several that has no share of its own is not
    /// given another port where answers come to another core, since that might be in use there.
    pub source_port_share: (u8, u8),
    /// How old a TIME-WAIT record must be for its addresses and ports to serve a new connection of ours, whose ISN is
    /// then above all that the earlier one has sent (RFC 1122 §4.2.2.13, RFC 6191). Long enough for a segment of the
    /// earlier one to be no longer under way.
    pub time_wait_reuse: Duration,
    /// How long an ACK waits for data to ride on. Half the 500 ms that RFC 9293 §3.8.6.3 allows is never needed here.
    pub ack_delay: Duration,
    /// How long unacknowledged data is sent again without hearing anything from the peer before the flow is aborted.
    pub give_up_timeout: Duration,
    /// How long a closed flow waits for the peer's FIN (FIN-WAIT-2).
    pub fin_wait_2_timeout: Duration,
    /// How long a flow that the application has closed may linger while less than 16 KiB of what it has to say
    /// are acknowledged.
    pub linger_timeout: Duration,
    /// How long a TIME-WAIT record lives.
    pub time_wait: Duration,
    /// How long an established flow may hear nothing before it is aborted; `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// Keep-alive interval; after three without an answer the flow is aborted. `None`: no keep-alive. RFC 1122 §4.2.3.6 would
    /// have it off by default, for the sake of those who pay for packets; here a vanished peer holds a flow for ever.
    pub keep_alive: Option<Duration>,
}

impl StackConfig {
    /// Most addresses beside those of the row.
    pub const MOST_OTHERS: usize = 64;

    /// Settings for `address`/`prefix_len`, of either family, on the link `mac`, with the defaults of everything else and no
    /// ports.
    pub fn new(address: impl Into<IpAddr>, prefix_len: u8, mac: Mac) -> Self {
        let own = OwnAddress::new(address, prefix_len);
        let (address, prefix_len, others) = match own.address {
            IpAddr::V4(address) => (address, prefix_len, Vec::new()),
            IpAddr::V6(_) => (Ipv4Addr::UNSPECIFIED, 0, vec![own]),
        };
        Self {
            address,
            addresses: u32::from(!address.is_unspecified()),
            others,
            gateway: None,
            gateway6: None,
            router_advertisements: true,
            stations: 0,
            prefix_len,
            mac,
            vlan: None,
            arp: true,
            speaks: true,
            ip_mtu: 1_500,
            partial_checksums: false,
            ports: Vec::new(),
            udp_ports: Vec::new(),
            udp_services: Vec::new(),
            max_flows: 4_096,
            awake_flows: usize::MAX,
            flows_at_start: 256,
            rings: Rings::DEFAULT,
            conn_memory: 0,
            syn_queue: 1_024,
            time_wait_records: 16_384,
            neighbors: 1_024,
            peers: 0,
            handshake_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            ephemeral_ports: (49_152, 65_535),
            source_port_share: (0, 1),
            time_wait_reuse: Duration::from_secs(1),
            ack_delay: Duration::from_millis(5),
            give_up_timeout: Duration::from_secs(60),
            fin_wait_2_timeout: Duration::from_secs(20),
            linger_timeout: Duration::from_secs(60),
            time_wait: Duration::from_secs(30),
            idle_timeout: None,
            keep_alive: Some(Duration::from_secs(60)),
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field found wrong, with its limit.
    pub fn check(&self) -> Result<(), ConfigError> {
        let a = self.address;
        let has_ipv6 = self.has_ipv6();
        let none = a.is_unspecified() && self.addresses == 0 && has_ipv6;
        if !none {
            self.check_row()?;
        }
        let least = if has_ipv6 { MIN_IPV6_MTU } else { MIN_IP_MTU };
        if !(least..=MAX_IP_MTU).contains(&self.ip_mtu) {
            return Err(ConfigError::IpMtu { ip_mtu: self.ip_mtu, least });
        }
        if let Some(gateway) = self.gateway6
            && !own_addresses::is_host(&gateway)
        {
            return Err(ConfigError::Address { address: gateway.into() });
        }
        if let Some(gateway) = self.gateway
            && !is_host(gateway)
        {
            return Err(ConfigError::Address { address: gateway.into() });
        }
        if self.prefix_len > 32 {
            return Err(ConfigError::PrefixLen { prefix_len: self.prefix_len, most: 32 });
        }
        self.check_others()?;
        if !self.mac.is_unicast() {
            return Err(ConfigError::Mac { mac: self.mac });
        }
        if self.vlan.is_some_and(|vlan| vlan > VLAN_MAX) {
            return Err(ConfigError::Vlan { vlan: self.vlan.unwrap_or(0) });
        }
        if [&self.ports, &self.udp_ports, &self.udp_services].iter().any(|ports| ports.contains(&0)) {
            return Err(ConfigError::Port);
        }
        if self.awake_flows == 0 {
            return Err(ConfigError::Zero);
        }
        if !(1..=MAX_FLOWS).contains(&self.max_flows) {
            return Err(ConfigError::MaxFlows { max_flows: self.max_flows });
        }
        if self.syn_queue == 0 || self.time_wait_records == 0 || self.neighbors == 0 {
            return Err(ConfigError::Zero);
        }
        let (first, last) = self.ephemeral_ports;
        if first == 0 || first > last {
            return Err(ConfigError::EphemeralPorts { first, last });
        }
        let (core, cores) = self.source_port_share;
        if core >= cores {
            return Err(ConfigError::SourcePortShare { core, cores });
        }
        if self.ack_delay >= Duration::from_millis(500) {
            return Err(ConfigError::AckDelay { ack_delay: self.ack_delay });
        }
        Ok(())
    }

    /// Checks the first address.
    fn check_row(&self) -> Result<(), ConfigError> {
        let a = self.address;
        if !is_host(a) {
            return Err(ConfigError::Address { address: a.into() });
        }
        let last = a.to_bits().checked_add(self.addresses.wrapping_sub(1)).map(Ipv4Addr::from_bits);
        if !(1..=MAX_ADDRESSES).contains(&self.addresses) || !last.is_some_and(is_host) {
            return Err(ConfigError::Addresses { address: a, addresses: self.addresses });
        }
        Ok(())
    }

    /// Checks the addresses beside the row.
    fn check_others(&self) -> Result<(), ConfigError> {
        if self.others.len() > Self::MOST_OTHERS {
            return Err(ConfigError::TooManyOthers { others: self.others.len() });
        }
        for (place, other) in self.others.iter().enumerate() {
            let (is_host, most, in_row) = match other.address {
                IpAddr::V4(address) => {
                    let place = address.to_bits().wrapping_sub(self.address.to_bits());
                    (is_host(address), 32, place < self.addresses)
                }
                IpAddr::V6(address) => (own_addresses::is_host(&address), 128, false),
            };
            if !is_host {
                return Err(ConfigError::Address { address: other.address });
            }
            if other.prefix_len > most {
                return Err(ConfigError::PrefixLen { prefix_len: other.prefix_len, most });
            }
            if in_row || self.others[..place].iter().any(|before| before.address == other.address) {
                return Err(ConfigError::Duplicate { address: other.address });
            }
        }
        Ok(())
    }

    /// Every address of the stack's own with its network, those of the row by the first of them.
    pub fn own_addresses(&self) -> impl Iterator<Item = OwnAddress> + '_ {
        let first = (self.addresses > 0).then(|| OwnAddress::new(self.address, self.prefix_len));
        first.into_iter().chain(self.others.iter().copied())
    }

    /// Whether any address is of IPv6.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.others.iter().any(|other| other.address.is_ipv6())
    }

    /// The routes by the routers that are set.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = Route> + '_ {
        let ipv4 = self.gateway.map(Route::default_by);
        ipv4.into_iter().chain(self.gateway6.map(Route::default_by))
    }
}

/// Why a stack cannot be made as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not an address that a host can have.
    #[error("{address} is not the address of one host; give a unicast address such as 10.77.0.2")]
    Address {
        /// What was asked for.
        address: IpAddr,
    },
    /// The same address twice.
    #[error("{address} is given twice; give each address once")]
    Duplicate {
        /// What was asked for.
        address: IpAddr,
    },
    /// Too many addresses.
    #[error("{others} addresses beside those in a row are above 64; give fewer")]
    TooManyOthers {
        /// How many were asked for.
        others: usize,
    },
    /// A subnet mask has at most 32 bits.
    #[error("a prefix length of {prefix_len} bits is above the {most} bits of an address")]
    PrefixLen {
        /// What was asked for.
        prefix_len: u8,
        /// Bits of an address of that family.
        most: u8,
    },
    /// Not the address of one station.
    #[error("{mac} is not the Ethernet address of one station; read it from the interface")]
    Mac {
        /// What was asked for.
        mac: Mac,
    },
    /// Packet size out of range.
    #[error("a packet size (MTU) of {ip_mtu} bytes is outside {least} to 9216; change the interface's MTU")]
    IpMtu {
        /// What was asked for.
        ip_mtu: usize,
        /// The least: 576, or 1280 with an address of IPv6.
        least: usize,
    },
    /// No number of a VLAN.
    #[error("{vlan} is not the number of a VLAN, 1 to 4094")]
    Vlan {
        /// What was asked for.
        vlan: u16,
    },
    /// Port 0.
    #[error("port 0 cannot be listened on; give 1 to 65535")]
    Port,
    /// Number of flows out of range.
    #[error("{max_flows} connections per core are outside 1 to 67108864")]
    MaxFlows {
        /// What was asked for.
        max_flows: usize,
    },
    /// No addresses, too many, or some that no host can have.
    #[error("{addresses} addresses from {address} on are not 1 to 65536 addresses of a host; give fewer")]
    Addresses {
        /// The first asked for.
        address: Ipv4Addr,
        /// How many were asked for.
        addresses: u32,
    },
    /// No source ports.
    #[error("source ports from {first} to {last}: give a first port from 1 on and a last one not below it")]
    EphemeralPorts {
        /// The first asked for.
        first: u16,
        /// The last asked for.
        last: u16,
    },
    /// No share of the source ports.
    #[error("core {core} of {cores} has no share of the source ports; cores are numbered from 0")]
    SourcePortShare {
        /// The core asked for.
        core: u8,
        /// How many there are to be.
        cores: u8,
    },
    /// A table of no entries.
    #[error(
        "the SYN queue, the TIME-WAIT table, the neighbour table and the flows that may be awake need at least one entry each"
    )]
    Zero,
    /// The kernel has no such stretch of addresses.
    #[error("the kernel has no room for {bytes} bytes of connections' rings; give less")]
    ConnMemory {
        /// What was asked for.
        bytes: usize,
    },
    /// A delay that would break the protocol.
    #[error("an ACK delay of {ack_delay:?} is not below the 500 ms of RFC 9293")]
    AckDelay {
        /// What was asked for.
        ack_delay: Duration,
    },
    /// Ring sizes that no block was built for.
    #[error("no flow block has a receive ring of {rx} and a transmit ring of {tx} bytes; choose one of {choices}")]
    Rings {
        /// Receive ring asked for, in bytes.
        rx: usize,
        /// Transmit ring asked for, in bytes.
        tx: usize,
        /// What there is.
        choices: String,
    },
}

/// Random numbers that nobody else may know: they keep initial sequence numbers and the table's order unpredictable.
///
/// Draw them from the operating system at start; a test passes its seed.
#[derive(Clone, Copy)]
pub struct Secrets {
    pub(crate) isn: [u64; 2],
    pub(crate) table: [u64; 2],
}

impl Secrets {
    /// Takes 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let word = |i: usize| {
            let mut w = [0; 8];
            w.copy_from_slice(&bytes[i * 8..i * 8 + 8]);
            u64::from_le_bytes(w)
        };
        Self { isn: [word(0), word(1)], table: [word(2), word(3)] }
    }
}

impl std::fmt::Debug for Secrets {
    /// Shows nothing of them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> StackConfig {
        StackConfig::new(Ipv4Addr::new(10, 77, 0, 2), 24, Mac([2, 0, 0, 0, 0, 1]))
    }

    const IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

    #[test]
    fn a_stack_may_have_addresses_of_ipv6_alone() {
        let config = StackConfig::new(IPV6, 64, Mac([2, 0, 0, 0, 0, 1]));
        assert_eq!((config.check(), config.addresses), (Ok(()), 0));
        assert_eq!(config.own_addresses().collect::<Vec<_>>(), [OwnAddress::new(IPV6, 64)]);
        let mut none = config;
        none.others.clear();
        assert!(none.check().is_err());
    }

    fn other(address: [u8; 4]) -> OwnAddress {
        OwnAddress::new(Ipv4Addr::from(address), 24)
    }

    #[test]
    fn the_defaults_are_accepted() {
        assert_eq!(good().check(), Ok(()));
    }

    #[test]
    fn addresses_of_other_networks_are_accepted_and_told_behind_the_first() {
        let mut config = good();
        config.others = (0..64).map(|host| other([10, 78, 1, host])).collect();
        assert_eq!(config.check(), Ok(()));
        let own: Vec<_> = config.own_addresses().map(|own| own.to_string()).collect();
        assert_eq!((own.len(), &own[0][..], &own[64][..]), (65, "10.77.0.2/24", "10.78.1.63/24"));
    }

    #[test]
    fn each_wrong_field_is_named() {
        type Spoil = fn(&mut StackConfig);
        let cases: [(Spoil, &str); 24] = [
            (|c| c.vlan = Some(4_095), "4095 is not"),
            (|c| c.address = Ipv4Addr::BROADCAST, "255.255.255.255"),
            (|c| c.prefix_len = 33, "33 bits"),
            (|c| c.addresses = 0, "0 addresses"),
            (|c| c.address = Ipv4Addr::new(240, 0, 0, 1), "240.0.0.1"),
            (|c| c.others = vec![other([10, 77, 0, 2])], "10.77.0.2 is given twice"),
            (|c| c.others = vec![other([10, 78, 0, 2]); 2], "10.78.0.2 is given twice"),
            (|c| c.others = vec![other([224, 0, 0, 1])], "224.0.0.1"),
            (|c| c.others = vec![OwnAddress::new(Ipv4Addr::new(10, 78, 0, 2), 33)], "33 bits"),
            (|c| c.gateway6 = Some(Ipv6Addr::LOCALHOST), "::1"),
            (|c| c.others = vec![OwnAddress::new(Ipv6Addr::UNSPECIFIED, 64)], ":: is not"),
            (|c| c.others = vec![OwnAddress::new(IPV6, 129)], "128 bits"),
            (|c| (c.ip_mtu, c.others) = (1_279, vec![OwnAddress::new(IPV6, 64)]), "1280 to 9216"),
            (|c| c.others = (0..65).map(|host| other([10, 78, 1, host])).collect(), "65 addresses"),
            (|c| c.gateway = Some(Ipv4Addr::UNSPECIFIED), "0.0.0.0"),
            (|c| c.ephemeral_ports = (2, 1), "from 2 to 1"),
            (|c| c.source_port_share = (2, 2), "core 2 of 2"),
            (|c| c.mac = Mac([1, 0, 0, 0, 0, 0]), "01:00:00:00:00:00"),
            (|c| c.ip_mtu = 9_217, "9217 bytes"),
            (|c| c.ports = vec![0], "port 0"),
            (|c| c.udp_ports = vec![11_211, 0], "port 0"),
            (|c| c.udp_services = vec![53, 0], "port 0"),
            (|c| c.max_flows = 0, "0 connections"),
            (|c| c.ack_delay = Duration::from_millis(500), "500ms"),
        ];
        for (spoil, text) in cases {
            let mut config = good();
            spoil(&mut config);
            let error = config.check().expect_err(text).to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let text = format!("{:?}", Secrets::from_bytes([7; 32]));
        assert_eq!(text, "Secrets(..)");
    }
}
