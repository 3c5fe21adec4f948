#[path = "lab/lab.rs"]
mod lab;
use lab::bench::Bench;
use lab::raw::{ACK, PSH, SYN, Tcp};
use lab::App;

fn stamped(segment: &Tcp, stamp: bool, val: u32) -> Vec<u8> {
    let mut frame = segment.frame();
    if !stamp { return frame; }
    let data_at = 14 + 20 + 20 + if segment.mss.is_some() { 4 } else { 0 };
    let mut options = vec![1, 1, 8, 10];
    options.extend(val.to_be_bytes());
    options.extend(7u32.to_be_bytes());
    frame.splice(data_at..data_at, options);
    let len = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    lab::odd::sum_ip(&mut frame[14..34]);
    frame[46] = (((data_at + 12 - 34) / 4) as u8) << 4;
    frame[50..52].fill(0);
    let tcp_len = (frame.len() - 34) as u16;
    let mut sum: u32 = 6 + u32::from(tcp_len);
    for chunk in frame[26..34].chunks(2).chain(frame[34..].chunks(2)) {
        sum += u32::from(chunk[0]) << 8 | u32::from(*chunk.get(1).unwrap_or(&0));
    }
    while sum > 0xffff { sum = (sum & 0xffff) + (sum >> 16); }
    let sum = !(sum as u16);
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn count() {
    let stamp = std::env::var("STAMP").is_ok();
    let rounds: u32 = std::env::var("ROUNDS").map_or(1000, |r| r.parse().unwrap());
    let mut bench = Bench::new(App::Echo);
    let syn = Tcp { mss: Some(1460), ..Tcp::new(5_000, SYN, 100, 0) };
    let answers = bench.frame(&stamped(&syn, stamp, 1));
    let next = u32::from_be_bytes(answers[0][38..42].try_into().unwrap()).wrapping_add(1);
    bench.frame(&stamped(&Tcp::new(5_000, ACK, 101, next), stamp, 2));
    let (mut seq, mut ack) = (101u32, next);
    let mut bytes = 0;
    for round in 0..rounds {
        let frame = stamped(&Tcp::new(5_000, ACK | PSH, seq, ack).with(b"get key_of_20_bytes_\r\n"), stamp, 3 + round);
        bench.send(&frame);
        let now = bench.now();
        turn(&mut bench, now);
        let mut got = 0;
        bench.turn_with(|frame| { got += frame.len(); });
        let expected = 14 + 40 + 22 + if stamp && std::env::var("AGREED").is_ok() { 12 } else { 0 };
        if round > 2 { assert_eq!(got, expected); }
        bytes += got;
        seq = seq.wrapping_add(22);
        ack = ack.wrapping_add(22);
    }
    println!("{bytes} bytes");
}

#[inline(never)]
#[unsafe(no_mangle)]
fn turn(bench: &mut Bench, now: sidestep_stack::Time) {
    bench.server.turn(now);
}
