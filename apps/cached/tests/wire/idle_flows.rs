//! A turn for one active flow works on as many flows, sets and timers among 100,000 idle flows as alone.

use std::time::Duration;

use stack::{Rings, Work};

use crate::rig::raw::{ACK, PSH, Tcp};
use crate::rig::{Rig, Shape};

const IDLE_FLOWS: u32 = 100_000;

/// Source of the active flow.
const ACTIVE: [u8; 4] = [10, 77, 255, 1];

fn work(rig: &Rig) -> Work {
    rig.workers[0].poll.stack().work()
}

/// Opens so many flows, lets all that belongs to their opening pass, then asks over one more flow. Returns, for each
/// question, what was worked on and what was answered.
fn questions(idle: u32) -> Vec<(Work, Vec<Tcp>)> {
    let shape = Shape {
        queues: 1,
        cores: 1,
        max_flows: IDLE_FLOWS as usize + 16,
        rings: Rings { rx: 2_048, tx: 2_048 },
        ..Shape::default()
    };
    let mut rig = Rig::new(shape);
    for flow in 0..idle {
        let source = ((10u32 << 24 | 77 << 16) + 1_000 + flow / 1_000).to_be_bytes();
        rig.open(source, (10_000 + flow % 1_000) as u16, flow);
    }
    rig.run_for(Duration::from_secs(60));
    rig.wire.clock().set(Duration::from_secs(100));
    assert_eq!(rig.workers[0].poll.stack().census().open, idle as usize);

    let mut seq = 1_001u32;
    let mut ack = rig.open(ACTIVE, 40_000, 1_000);
    let mut measured = Vec::new();
    for number in 0..200 {
        let request = match number % 4 {
            0 => format!("set key-{number} 0 0 5\r\nvalue\r\n"),
            1 => format!("get key-{}\r\n", number - 1),
            2 => "get nothing\r\n".to_owned(),
            _ => format!("delete key-{}\r\n", number - 3),
        };
        rig.wire.clock().advance(Duration::from_micros(700));
        let before = work(&rig);
        let answers = rig.tcp(ACTIVE, &Tcp::new(40_000, ACK | PSH, seq, ack).with(request.as_bytes()));
        let after = work(&rig);
        seq = seq.wrapping_add(request.len() as u32);
        assert_eq!(answers.len(), 1, "the acknowledgement rides on the answer: {answers:?}");
        assert_eq!(answers[0].ack, seq);
        ack = ack.wrapping_add(answers[0].data.len() as u32);
        let work = Work {
            flows: after.flows - before.flows,
            sets: after.sets - before.sets,
            timers: after.timers - before.timers,
        };
        measured.push((work, answers));
    }
    assert_eq!(rig.workers[0].poll.stack().census().open, idle as usize + 1);
    measured
}

#[test]
fn idle_flows_add_no_work_to_a_turn_and_change_no_answer() {
    let (alone, crowded) = (questions(0), questions(IDLE_FLOWS));
    assert_eq!(alone[1].1[0].data, b"VALUE key-0 0 5\r\nvalue\r\nEND\r\n");
    for (number, (alone, crowded)) in alone.iter().zip(&crowded).enumerate() {
        assert_eq!(alone, crowded, "question {number}");
        assert!(alone.0.flows <= 2 && alone.0.sets <= 3 && alone.0.timers <= 3, "{:?}", alone.0);
    }
}
