//! What is on the link beside the segments of connections: who has which address and who says so, errors, fragments, odd and
//! hostile packets and floods of them, over both families.

#[path = "../lab/lab.rs"]
mod lab;

mod announcing;
mod corpus;
mod floods;
mod fragments;
mod icmp_errors;
mod ipv6_hostile;
mod ipv6_packets;
mod ndp;
mod neighbors;
mod odd_packets;
mod port_unreachable;
mod routers;
mod routes;
mod strays;
