//! Clients that close their direction: what they asked is answered, what they began is given up, and they are gone.

use std::time::Duration;

use crate::rig::{Rig, Shape, shown};

#[test]
fn a_client_that_closes_its_direction_is_answered_and_gone_whatever_it_left_unfinished() {
    let half = "v".repeat(30_000);
    for (queues, cores) in [(2, 2), (1, 2)] {
        let mut rig = Rig::new(Shape { queues, cores, ..Shape::default() });
        for key in 0..6 {
            for begun in [
                String::new(),
                format!("set big{key} 0 0 100000\r\n{half}"),
                format!("set big{key} 0 0 100000 noreply\r\n{half}"),
                format!("set huge{key} 0 0 9000000\r\n{half}"),
                format!("set small{key} 0 0 10\r\n12345"),
                format!("get small{key} sm"),
            ] {
                let port = rig.connect();
                rig.client(port).send(format!("get none{key}\r\nincr none{key} 1\r\n{begun}").as_bytes());
                rig.client(port).close();
                rig.run_until(Duration::from_secs(10), |rig| rig.client(port).is_over());
                let received = std::mem::take(&mut rig.client(port).received);
                assert_eq!(shown(&received), shown(b"END\r\nNOT_FOUND\r\n"), "after {:?}", begun.get(..20));
            }
        }
        let open: usize = rig.workers.iter().map(|worker| worker.poll.stack().census().open).sum();
        assert_eq!((open, rig.workers[0].connections.admission().open()), (0, 0));
        rig.finish();
    }
}
