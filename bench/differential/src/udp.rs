//! Makes cases of requests over UDP: classic and meta commands and packets, one or several in a datagram, with a
//! connection here and there that stores values longer than a datagram.
//!
//! Neither quit nor what ends a connection appears: after the first of them memcached's socket answers only the first
//! command of each datagram (`close_after_write` stays set). A value that is not whole is sent to the server under test
//! alone, since memcached would take the next datagrams for the rest of it; it must have no answer and no effect.

use crate::binary;
use crate::case::{Case, Leg, Operation, Piece, Split};
use crate::generate::{Make, Maker, maker};
use crate::line::Line;
use crate::meta;
use crate::mutate;

/// The longest value that a connection stores: a dozen datagrams.
const VALUE_MAX: usize = 16_385;

/// Case number `index` of campaign `seed`.
pub fn case(seed: u64, index: u64) -> Case {
    let mut maker = maker(seed, index, Maker::classic, true);
    maker.value_max = VALUE_MAX;
    let legs = (0..4).map(|_| if maker.draw.chance(1, 8) { stream(&mut maker) } else { leg(&mut maker) }).collect();
    maker.case(index, legs)
}

/// A connection of good lines, over TCP.
fn stream(maker: &mut Maker) -> Leg {
    maker.rough = false;
    let operations = (0..1 + maker.draw.below(40)).map(|_| maker.classic().operation()).collect();
    Leg { operations, split: Split::Whole, udp: false }
}

fn leg(maker: &mut Maker) -> Leg {
    // Values are short then.
    maker.rough = true;
    let kind = maker.draw.below(4);
    // How many commands share a datagram.
    let together = [1, 1, 2, 5][maker.draw.below(4)];
    let count = 1 + maker.draw.below(127);
    let operations = (0..count).map(|_| {
        let operation = match kind {
            0 => binary::operation(maker),
            1 => text(maker, meta::make),
            _ => text(maker, Maker::classic),
        };
        Operation { begins: maker.draw.chance(1, together), ..operation }
    });
    let mut all: Vec<_> = if kind == 0 { Vec::new() } else { vec![Operation::forget_unique()] };
    all.extend(operations);
    Leg { operations: all, split: Split::Whole, udp: true }
}

/// A line and its value, bent here and there.
fn text(maker: &mut Maker, make: Make) -> Operation {
    let line = make(maker);
    if line.body.is_some() {
        return if maker.draw.chance(1, 12) { bent_value(maker, line) } else { line.operation() };
    }
    if !maker.unique && maker.draw.chance(1, 10) {
        return mutate::bend(line, &mut maker.draw, true);
    }
    if maker.draw.chance(1, 60) {
        let end: &[u8] =
            maker.draw.pick(&[&b"get some"[..], b"get", b"mg some v", b"set some 0 0 5", b"delete some", b"\x01"]);
        // Not even a line: the next command must not be its rest.
        return Operation { incomplete: true, ..Operation::new(vec![Piece::Bytes(end.to_vec())]) };
    }
    line.operation()
}

/// A value that does not end as it should, or is not whole.
fn bent_value(maker: &mut Maker, mut line: Line) -> Operation {
    let Some((value, ending)) = &mut line.body else { return line.operation() };
    match maker.draw.below(3) {
        0 => *ending = maker.draw.pick(&[&b"xx"[..], b"x\n", b"\rx", b"\n\n"]).to_vec(),
        1 => {
            // One byte too many: the end of the value is taken for a line.
            value.push(b'x');
        }
        _ => {
            let left = maker.draw.below(value.len() + 2);
            let mut bytes = std::mem::take(value);
            bytes.extend_from_slice(b"\r\n");
            bytes.truncate(left);
            (*value, *ending) = (bytes, Vec::new());
            return Operation { incomplete: true, ..line.operation() };
        }
    }
    // What comes before it must have left: memcached drops what is not sent when it refuses a value.
    Operation { fenced: true, ..line.operation() }
}
