//! Every order in which threads can meet at doorbells and relays, by a model checker (loom): no wake-up is lost.
//!
//! What is checked is the code itself: the files of `src` are compiled here once more, with loom's atomics and a queue
//! and an eventfd made of its parts (`loom/sync.rs`, `loom/sys.rs`) where they say `crate::sync` and `crate::sys`. Loom
//! lets a load see every value that the memory model allows, so that a fence that is missing shows as a core that
//! sleeps for ever, which it reports as a deadlock.

#![allow(dead_code, reason = "the files are whole, the models use a part of them")]

/// What the files of `src` take from their neighbours in the crate.
mod burst {
    pub use sidestep_nic::{RxBurst, TxBurst};
}
mod frame {
    pub use sidestep_nic::Frame;
}
mod pool {
    pub use sidestep_nic::{FramePool, PoolConfig, PoolError};
}
mod queue {
    pub use sidestep_nic::{FrameCensus, Queue, QueueError, QueueId, QueueStats};
}
#[path = "../src/relay.rs"]
mod relay;
#[path = "../src/stray.rs"]
mod stray;
#[path = "loom/sync.rs"]
mod sync;
#[path = "loom/sys.rs"]
mod sys;
#[path = "../src/wait.rs"]
mod wait;

use std::sync::Arc;

use loom::thread;
use relay::{RelayConfig, relay_pair};
use sidestep_nic::{Burst, PoolConfig, Queue, QueueId};
use stray::{StrayHeader, stray_pair};
use sync::ArrayQueue;
use wait::{Doorbell, Sleeper};

const POOL: PoolConfig = PoolConfig { frames: 4, chunk_bytes: 2048, headroom_bytes: 0 };

/// Tries every order of at most so many preemptions; more find nothing else in programs of this size.
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn bell() -> Arc<Doorbell> {
    Arc::new(Doorbell::new().expect("a model"))
}

/// Sleeps as a core does until `take` has got something, which `has_work` looks for.
fn sleep_until<T>(bell: &Arc<Doorbell>, has_work: impl Fn() -> bool, mut take: impl FnMut() -> Option<T>) -> T {
    let mut sleeper = Sleeper::new(bell.clone(), []);
    loop {
        if let Some(taken) = take() {
            return taken;
        }
        sleeper.sleep(None, &has_work).expect("a model");
    }
}

#[test]
fn a_message_pushed_before_the_ring_is_seen_or_ends_the_sleep() {
    check(3, || {
        let (bell, inbox) = (bell(), Arc::new(ArrayQueue::new(1)));
        let ringer = thread::spawn({
            let (bell, inbox) = (bell.clone(), inbox.clone());
            move || {
                inbox.push(7).expect("room");
                bell.ring();
            }
        });
        assert_eq!(sleep_until(&bell, || !inbox.is_empty(), || inbox.pop()), 7);
        ringer.join().unwrap();
    });
}

#[test]
fn of_two_who_ring_one_signals_and_no_message_is_left() {
    check(3, || {
        let (bell, inbox) = (bell(), Arc::new(ArrayQueue::new(2)));
        let ringers = [1, 2].map(|number| {
            let (bell, inbox) = (bell.clone(), inbox.clone());
            thread::spawn(move || {
                inbox.push(number).expect("room");
                bell.ring();
            })
        });
        let mut sum = 0;
        for _ in 0..2 {
            sum += sleep_until(&bell, || !inbox.is_empty(), || inbox.pop());
        }
        assert_eq!(sum, 3);
        ringers.into_iter().for_each(|ringer| ringer.join().unwrap());
    });
}

#[test]
fn a_frame_wakes_the_worker_behind_a_relay_and_its_answer_the_polling_core() {
    check(3, || {
        let config = RelayConfig { pool: POOL, rx_ring: 1, max_frame_bytes: 1514 };
        let (mut queue, mut port) = relay_pair(config).expect("memory");
        let (polling, working) = (bell(), bell());
        queue.set_doorbell(polling.clone());
        let worker = thread::spawn({
            let working = working.clone();
            move || {
                let mut burst = Burst::with_capacity(1);
                let queue = std::cell::RefCell::new(queue);
                let take = || (queue.borrow_mut().rx_burst(&mut burst) > 0).then(|| burst.pop()).flatten();
                let frame = sleep_until(&working, || queue.borrow().has_pending(), take);
                let mut queue = queue.into_inner();
                let mut answers = Burst::with_capacity(1);
                answers.push(frame).expect("room for one");
                assert_eq!(queue.tx_burst(&mut answers), 1);
                queue.flush().expect("a relay is never gone");
                // Closing would take back what is not collected yet.
                queue
            }
        });
        assert!(port.forward(b"a frame of some bytes"));
        working.ring();
        let port = std::cell::RefCell::new(port);
        let mut seen = Vec::new();
        let take = || {
            let taken = port.borrow_mut().collect(1, |bytes| {
                seen.extend_from_slice(bytes);
                true
            });
            (taken > 0).then_some(())
        };
        sleep_until(&polling, || port.borrow().has_frames(), take);
        assert_eq!(seen, b"a frame of some bytes");
        let mut queue = worker.join().unwrap();
        queue.flush().expect("a relay is never gone");
        assert_eq!((queue.census().tx, queue.census().held), (0, 0));
    });
}

#[test]
fn a_stray_wakes_the_next_core_and_its_frame_comes_back() {
    check(3, || {
        let (mut sender, receiver) = stray_pair(PoolConfig { frames: 2, ..POOL }).expect("memory");
        let bell = bell();
        let next = thread::spawn({
            let bell = bell.clone();
            move || {
                let receiver = std::cell::RefCell::new(receiver);
                for number in 0..2 {
                    let take = || {
                        let mut seen = None;
                        receiver.borrow_mut().receive(1, |header, bytes| seen = Some((header.hops, bytes[0])));
                        seen
                    };
                    let seen = sleep_until(&bell, || receiver.borrow().has_frames(), take);
                    assert_eq!(seen, (number, number));
                }
            }
        });
        for number in 0..2 {
            assert!(sender.offer(StrayHeader { hops: number, origin: QueueId(0) }, &[number; 60]));
            bell.ring();
        }
        next.join().unwrap();
        assert_eq!(sender.free_frames(), 2);
    });
}
