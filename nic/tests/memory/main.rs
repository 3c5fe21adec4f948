//! What cores hand frames and wake each other by, without a NIC: relays, rings of slots, strays, doorbells.

mod relay;
mod ring;
mod stray;
mod wait;
