//! After start, connecting, asking, answering, closing and using a source port again allocate nothing, at either end.

use std::net::SocketAddrV4;
use std::time::Duration;

use nic::{PortConfig, QueueId, Wire, WireQueue};
use sidestep_stack::{Connect, Interest, NetStack, Poll, StackConfig, Time, Token};
use stats_alloc::Region;

use crate::ALLOCATOR;
use crate::lab::{PEER, PORT, THEM, US, config, secrets};

struct End {
    poll: Poll<WireQueue>,
}

impl End {
    fn new(config: StackConfig, seed: u8, queue: WireQueue) -> Self {
        let stack = NetStack::new(config, secrets(seed)).expect("a good configuration");
        let mut poll = Poll::new(stack, [queue]);
        poll.accept_each(Token(0), Interest::READABLE);
        Self { poll }
    }

    /// A turn. The server answers; the client asks when a flow opens and closes it when the answer is there. Returns
    /// how many the client has closed.
    fn turn(&mut self, now: Time, client: bool) -> u32 {
        self.poll.take_in(now);
        let mut closed = 0;
        while let Some(event) = self.poll.next_event() {
            assert_eq!(event.closed(), None);
            let Some(mut flow) = self.poll.flow(event.flow()) else { panic!("{event:?} is of one that is dead") };
            let got = flow.recv(|bytes| (bytes.len(), bytes.len()));
            match (client, event.is_new()) {
                (true, true) => assert_eq!(flow.send_slice(b"get key\r\n"), 9),
                (true, false) if got > 0 => {
                    flow.close();
                    closed += 1;
                }
                (false, _) if got > 0 => assert_eq!(flow.send_slice(b"END\r\n"), 5),
                (false, _) if flow.peer_closed() => flow.close(),
                _ => {}
            }
        }
        self.poll.send(now).expect("a wire is never gone");
        closed
    }
}

pub fn a_connection_from_open_to_close_allocates_nothing() {
    let (wire, ours, theirs) = Wire::pair(PortConfig::default(), PortConfig::default(), 1).expect("a wire");
    let mut server = End::new(config(), 1, ours.take_queue(QueueId(0)).expect("opened once"));
    let mut ours = StackConfig::new(THEM, 24, PEER);
    ours.ephemeral_ports = (50_000, 50_099);
    let mut client = End::new(ours, 2, theirs.take_queue(QueueId(0)).expect("opened once"));
    let mut cycle = |connections: u32| {
        let mut closed = 0;
        for _ in 0..connections {
            let now = Time::from_duration(wire.clock().now());
            let to = Connect::to(SocketAddrV4::new(US, PORT));
            client.poll.connect(now, &to, |_| true).expect("a port is free every 20 ms");
            for _ in 0..10 {
                wire.clock().advance(Duration::from_millis(2));
                let now = Time::from_duration(wire.clock().now());
                closed += client.turn(now, true);
                server.turn(now, false);
            }
        }
        assert_eq!(closed, connections);
        *client.poll.stack().stats()
    };
    // The wire keeps buffers of its own from the first frames on.
    cycle(200);
    let region = Region::new(ALLOCATOR);
    let stats = cycle(2_000);
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations, change.deallocations), (0, 0, 0), "{change:?}");
    assert_eq!((stats.finished, stats.time_waits_reused), (2_200, 2_100));
}
