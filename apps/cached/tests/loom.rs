//! Every order in which two cores can meet at the link between their caches, and at the seats of watchers, by a model
//! checker (loom): no request and no answer is slept over, and no watcher is overlooked.
//!
//! As `nic/tests/loom.rs`, which says how: the files are those of the crates, compiled once more over loom's atomics.
//! What a message says is left out; a batch carries numbers.

#![allow(dead_code, reason = "the files are whole, the models use a part of them")]
#![allow(clippy::vec_box, reason = "a batch of the caches is larger than one of numbers")]

#[path = "../../../cache/src/mesh/batch.rs"]
mod batch;
#[path = "../../../cache/src/mesh/loops.rs"]
mod loops;
#[path = "../../../cache/src/watch/seats.rs"]
mod seats;
#[path = "../../../nic/tests/loom/sync.rs"]
mod sync;
#[path = "../../../nic/tests/loom/sys.rs"]
mod sys;
#[path = "../../../nic/src/wait.rs"]
mod wait;

/// As `cache/src/mesh/message.rs`, as far as loops know messages.
mod message {
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Span {
        pub(crate) start: u16,
        pub(crate) len: u16,
    }
    pub(crate) type Envelope = u32;
    pub(crate) type AnswerFor = u32;
}

use std::cell::RefCell;
use std::sync::Arc;

use batch::Batch;
use loom::thread;
use loops::Loops;
use seats::Seats;
use wait::{Doorbell, Sleeper};

/// Ends a turn as a worker does: posts, and rings the peer if it was given anything.
fn post(link: &RefCell<Loops>, peer: &Doorbell) {
    if link.borrow_mut().post() {
        peer.ring();
    }
}

/// Sleeps as a core does until `take` has got a batch.
fn sleep_until(
    bell: &Arc<Doorbell>,
    link: &RefCell<Loops>,
    take: impl Fn(&mut Loops) -> Option<Box<Batch>>,
) -> Box<Batch> {
    let mut sleeper = Sleeper::new(bell.clone(), []);
    loop {
        if let Some(batch) = take(&mut link.borrow_mut()) {
            return batch;
        }
        sleeper.sleep(None, || link.borrow().has_mail()).expect("a model");
    }
}

/// Asks the peer for `number`, and waits for the answer.
fn ask(link: &RefCell<Loops>, own: &Arc<Doorbell>, peer: &Doorbell, number: u32) {
    assert!(link.borrow_mut().make_room(0), "every block is here");
    link.borrow_mut().requests().expect("there is room").push(number);
    post(link, peer);
    let batch = sleep_until(own, link, Loops::next_answers);
    assert_eq!(batch.answers.message(0), Some(&(number + 1)));
    link.borrow_mut().recycle(batch);
    assert_eq!(link.borrow().blocks_out(), 0);
}

/// Waits for a request of the peer, and answers it.
fn serve(link: &RefCell<Loops>, own: &Arc<Doorbell>, peer: &Doorbell) {
    let mut batch = sleep_until(own, link, Loops::next_requests);
    let asked = batch.requests.message(0).expect("an empty batch is never sent");
    batch.answers.push(asked + 1);
    link.borrow_mut().push_answers(batch);
    post(link, peer);
}

#[test]
fn a_request_wakes_the_owner_and_its_answer_the_one_who_asked() {
    check(|| {
        let (of_a, of_b) = Loops::pair(1);
        let [a, b] = [(); 2].map(|()| Arc::new(Doorbell::new().expect("a model")));
        let owner = thread::spawn({
            let (a, b) = (a.clone(), b.clone());
            move || serve(&RefCell::new(of_b), &b, &a)
        });
        let of_a = RefCell::new(of_a);
        ask(&of_a, &a, &b, 7);
        owner.join().unwrap();
        assert!(!of_a.borrow().has_mail());
    });
}

/// Tries every order of at most three preemptions.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn a_watcher_that_enters_while_another_enters_and_leaves_is_wanted_and_nobody_is_at_the_end() {
    check(|| {
        let seats = Arc::new(Seats::<u32, 2>::new(2, 1));
        let other = thread::spawn({
            let seats = seats.clone();
            move || {
                let at = seats.enter(1, 2).expect("two seats");
                assert!(seats.want(2));
                seats.leave(at);
            }
        });
        let at = seats.enter(0, 1).expect("two seats");
        assert!(seats.want(1));
        other.join().unwrap();
        assert!(seats.want(1) && !seats.want(2), "only who has left is forgotten");
        seats.leave(at);
        assert!(!seats.want(u32::MAX));
        assert_eq!(seats.taken(), 0);
    });
}

#[test]
fn the_core_that_is_woken_for_an_event_is_that_of_the_watcher_who_gets_it() {
    check(|| {
        let seats = Arc::new(Seats::<u32, 1>::new(2, 2));
        let watcher = thread::spawn({
            let seats = seats.clone();
            move || seats.enter(1, 1).expect("the only one")
        });
        let mut woken = Vec::new();
        let (told, lost) = seats.offer(0, 1, &7, |core| woken.push(core));
        assert_eq!((told as usize, lost), (woken.len(), 0));
        assert!(woken.iter().all(|&core| core == 1), "core {woken:?} was woken for a watcher of core 1");
        let at = watcher.join().unwrap();
        let mut events = Vec::new();
        seats.take(at, 2, |event| events.push(event));
        assert_eq!(events.len(), woken.len(), "who was told of an event has it");
    });
}
