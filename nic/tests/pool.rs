//! A pool's memory goes when all its frames are home, and stays when one is held. A program of its own, since what stays
//! is counted for the whole process.

use sidestep_nic::{FramePool, PoolConfig, leaked_regions};

#[test]
fn a_pool_leaves_memory_behind_only_where_a_frame_is_still_held() {
    let config = PoolConfig { frames: 16, ..PoolConfig::default() };
    let mut pool = FramePool::new(config).expect("a small pool");
    let frame = pool.alloc().expect("a new pool has frames");
    pool.free(frame).expect("its own frame");
    drop(pool);
    assert_eq!(leaked_regions(), 0, "all frames were home");
    let mut pool = FramePool::new(config).expect("a small pool");
    let held = pool.alloc().expect("a new pool has frames");
    drop(pool);
    assert_eq!(leaked_regions(), 1, "a frame was held");
    drop(held);
}
