use std::net::Ipv4Addr;

use super::*;

fn config() -> StackConfig {
    StackConfig::new(Ipv4Addr::new(10, 0, 0, 2), 24, Mac([2, 0, 0, 0, 0, 1]))
}

#[test]
fn a_stack_can_be_made_on_one_thread_and_used_on_another() {
    let stack = NetStack::new(config(), Secrets::from_bytes([1; 32])).expect("the defaults are good");
    let flows = std::thread::spawn(move || stack.flows()).join().expect("it does not panic");
    assert_eq!(flows, 0);
}

#[test]
fn blocks_are_made_ahead_of_use_up_to_the_limit() {
    let mut config = config();
    config.max_flows = 300;
    config.flows_at_start = 10;
    let mut stack = NetStack::new(config, Secrets::from_bytes([1; 32])).expect("good");
    assert_eq!(stack.census().blocks, 10);
    for _ in 0..5 {
        stack.expire(Time::ZERO);
    }
    assert_eq!((stack.census().blocks, stack.flows()), (FREE_BLOCKS, 0));
    stack.free.truncate(FREE_BLOCKS - 3);
    stack.expire(Time::ZERO);
    assert_eq!(stack.census().blocks, FREE_BLOCKS + 3, "a turn makes no more than were taken");
    stack.free.clear();
    for _ in 0..5 {
        stack.expire(Time::ZERO);
        stack.free.clear();
    }
    assert_eq!(stack.census().blocks, 300);
}

#[test]
fn an_id_that_never_was_is_no_flow() {
    let mut stack = NetStack::new(config(), Secrets::from_bytes([1; 32])).expect("good");
    for bits in [0, 1, 1 << 32, u64::MAX] {
        assert!(stack.flow(FlowId::from_bits(bits)).is_none());
        stack.wake(FlowId::from_bits(bits));
    }
    assert_eq!((stack.has_work(), stack.listed()), (false, 0));
}
