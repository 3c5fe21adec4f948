//! Scripts drawn at random, of steps that may follow each other on both sides.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sidestep_stack::Interest;

use super::script::Op;

/// Connections and steps of a script.
const CONNECTIONS: usize = 3;
const STEPS: usize = 60;

/// Most bytes that wait to be read in one direction, so that they fit every buffer and leave half of it free.
const MOST_BYTES: usize = 1_500;

#[derive(Default, Clone, Copy)]
struct Connection {
    registered: bool,
    /// Unread by the server, and by the peer; full: more than is counted.
    to_server: usize,
    to_peer: usize,
    full: bool,
    peer_shut: bool,
    shut: bool,
    over: bool,
}

/// The script of a seed.
pub fn script(seed: u64) -> Vec<Op> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut below = move |limit: usize| (rng.next_u64() % limit as u64) as usize;
    let mut script = vec![Op::Listen(Interest::READABLE | Interest::LEVEL)];
    let mut connections = [Connection::default(); CONNECTIONS];
    for (number, connection) in connections.iter_mut().enumerate() {
        script.extend([Op::Connect(number), Op::Poll, Op::Accept(number)]);
        connection.registered = below(4) != 0;
        if connection.registered {
            script.push(Op::Register(number, interest(below(16) as u8)));
        }
    }
    for _ in 0..STEPS {
        let number = below(CONNECTIONS);
        let draw = (below(16), below(400), below(16) as u8);
        if !connections[number].over {
            step(number, &mut connections[number], draw, &mut script);
        }
        if below(3) == 0 {
            script.push(Op::Poll);
        }
    }
    script.push(Op::Poll);
    script
}

/// An interest in something, in any way.
fn interest(bits: u8) -> Interest {
    let interest = Interest::from_bits_truncate(bits);
    if interest.intersects(Interest::EDGE) { interest } else { interest | Interest::READABLE }
}

fn step(number: usize, connection: &mut Connection, (kind, bytes, bits): (usize, usize, u8), script: &mut Vec<Op>) {
    let Connection { to_server, to_peer, full, peer_shut, shut, registered, .. } = *connection;
    match kind {
        0..4 if !peer_shut && to_server + bytes < MOST_BYTES => {
            script.push(Op::PeerWrites(number, bytes + 1));
            connection.to_server += bytes + 1;
        }
        4..7 if to_server > 0 => {
            let bytes = (bytes * 4).clamp(1, to_server);
            script.push(Op::Reads(number, bytes));
            connection.to_server -= bytes;
        }
        7 if !shut && !full && to_peer + bytes < MOST_BYTES => {
            script.push(Op::Writes(number, bytes + 1));
            connection.to_peer += bytes + 1;
        }
        8 if !shut && !full => {
            script.push(Op::Fill(number));
            connection.full = true;
        }
        9 | 10 if full || to_peer > 0 => {
            script.push(Op::PeerReads(number));
            (connection.full, connection.to_peer) = (false, 0);
        }
        11 | 12 => {
            script.push(Op::Register(number, interest(bits)));
            connection.registered = true;
        }
        13 if registered && bits < 4 => {
            script.push(Op::Deregister(number));
            connection.registered = false;
        }
        14 if !peer_shut && !shut => end(number, connection, bits, script),
        _ => {}
    }
}

/// One end closes, or the peer resets the connection.
fn end(number: usize, connection: &mut Connection, bits: u8, script: &mut Vec<Op>) {
    match bits {
        // What the server has not read would be thrown away by the reset here, and not by the kernel.
        0..4 => {
            read_all(number, connection, script);
            // One that was told once hears of its end here, and not of the kernel.
            script.extend([Op::Register(number, Interest::EDGE), Op::PeerResets(number), Op::Poll, Op::Closes(number)]);
            connection.over = true;
        }
        4..8 => {
            script.push(Op::PeerShuts(number));
            connection.peer_shut = true;
        }
        8..12 if !connection.full => {
            script.push(Op::Shuts(number));
            connection.shut = true;
        }
        // Both, one after the other; the flow is over once the server has read everything, which it does before.
        _ if !connection.full => {
            read_all(number, connection, script);
            script.push(Op::Register(number, Interest::EDGE));
            let ends = [Op::PeerShuts(number), Op::Shuts(number)];
            script.extend(if bits.is_multiple_of(2) { ends } else { [ends[1], ends[0]] });
            script.extend([Op::Poll, Op::Closes(number)]);
            connection.over = true;
        }
        _ => {}
    }
}

fn read_all(number: usize, connection: &mut Connection, script: &mut Vec<Op>) {
    if connection.to_server > 0 {
        script.push(Op::Reads(number, connection.to_server));
        connection.to_server = 0;
    }
}
