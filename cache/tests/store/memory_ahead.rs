//! No operation waits for the kernel to make a page: another thread does so ahead of use.

use sidestep_cache::operation::Store;
use sidestep_cache::{KeyHasher, Now, Operation, Outcome, Shard, ShardConfig};

const NOW: Now = Now { secs: 10, unix_epoch: 1_700_000_000 };

/// Pages that the kernel has made since this thread began, while it waited (`proc_pid_stat(5)`, field 10).
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("proc is mounted");
    let (_, after_name) = stat.rsplit_once(')').expect("the name is in brackets");
    after_name.split_ascii_whitespace().nth(7).and_then(|field| field.parse().ok()).expect("a number")
}

fn shard(memory_bytes: usize) -> Shard {
    let config = ShardConfig { memory_bytes, ..ShardConfig::default() };
    Shard::new(&config, KeyHasher::new([0; 16])).expect("address space is there")
}

#[test]
fn upkeep_makes_no_page_of_a_large_store() {
    let mut shard = shard(1 << 30);
    shard.maintain(NOW, 16);
    let before = faults();
    for _ in 0..2_000 {
        shard.maintain(NOW, 16);
    }
    // Not one each, however large the pages are; some for what this test itself uses.
    assert!(faults() - before < 8, "{}", faults() - before);
}

#[test]
fn an_operation_meets_no_page_that_another_thread_has_not_made() {
    let mut shard = shard(64 << 20);
    let mut toucher = shard.toucher();
    let other = std::thread::spawn(move || while toucher.step().expect("Linux 5.14 or later") > 0 {});
    other.join().expect("it does not panic");
    let (hasher, value) = (KeyHasher::new([0; 16]), [b'v'; 1000]);
    let mut set = |key: u32| {
        let key = key.to_string();
        let key = hasher.key(key.as_bytes());
        let (outcome, _) = shard.execute(key, &Operation::Store(Store::SET), &value, NOW);
        assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
    };
    // The first items use tables beside the memory for the first time.
    (0..1_000).for_each(&mut set);
    let before = faults();
    (1_000..41_000).for_each(&mut set);
    // 40 MB of items: 10,000 small pages or 20 huge ones, if nobody had made them.
    assert!(faults() - before < 16, "{}", faults() - before);
}
