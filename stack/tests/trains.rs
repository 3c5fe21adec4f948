//! What is tested with segments that leave one by one, with trains (`nic::Queue::send_train`): the same tests, in a laboratory
//! whose wires take them (`lab/family.rs`).

#[path = "tcp/closing.rs"]
mod closing;
#[path = "tcp/echo.rs"]
mod echo;
#[path = "tcp/islands.rs"]
mod islands;
#[path = "lab/lab.rs"]
mod lab;
#[path = "tcp/loss.rs"]
mod loss;
#[path = "tcp/path_mtu.rs"]
mod path_mtu;
#[path = "tcp/recovery.rs"]
mod recovery;
#[path = "tcp/rings.rs"]
mod rings;
#[path = "tcp/segments.rs"]
mod segments;
#[path = "tcp/stalls.rs"]
mod stalls;

use std::time::Duration;

use lab::{App, Lab, config, pattern};
use nic::{Faults, Queue};

/// What a client has received of the pattern, whole and in order.
fn read(lab: &mut Lab, handle: smoltcp::iface::SocketHandle, received: &mut usize) {
    let socket = lab.peer.socket(handle);
    while socket.can_recv() {
        *received += socket
            .recv(|bytes| {
                for (at, byte) in bytes.iter().enumerate() {
                    assert_eq!(*byte, pattern(*received + at), "byte {}", *received + at);
                }
                (bytes.len(), bytes.len())
            })
            .expect("it can receive");
    }
}

#[test]
fn a_large_value_leaves_in_few_trains_which_arrive_as_segments_that_the_link_takes() {
    const BYTES: usize = 1_000_000;
    let mut config = config();
    config.conn_memory = 16 << 20;
    let mut lab = Lab::with(config, App::Value(BYTES), Faults::default(), 1);
    let handle = lab.peer.connect(1 << 20);
    let (mut received, mut asked) = (0, false);
    lab.run_until(Duration::from_secs(60), |lab| {
        if !asked && lab.peer.socket(handle).may_send() {
            asked = lab.peer.socket(handle).send_slice(b"?").expect("it is open") == 1;
        }
        read(lab, handle, &mut received);
        received == BYTES
    });
    let stats = lab.server.poll.ports()[0].queue().stats();
    // 685 segments, the first ten of them in a window of ten.
    assert!((16..100).contains(&stats.tx_trains), "{stats:?}");
    assert!((685..760).contains(&stats.tx_frames), "{stats:?}");
    assert_eq!(lab.server.poll.stack().stats().sent_again, 0);
}
