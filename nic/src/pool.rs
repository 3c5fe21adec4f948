//! `FramePool`: the free frames of one queue, last in first out, so that the frame used next is still in the cache.
//!
//! Invariant: every frame of the pool is either here, free, or out, and a frame of another pool is never let in
//! (checked by address and share, counted). A pool belongs to one core. Pools of one memory ([`FramePool::over_one_memory`])
//! exchange frames one for one, so that each keeps its number. Read first: `frame.rs`.

/// `PoolError`: why a pool could not be made.
mod error;

pub use error::PoolError;

use crate::frame::Frame;
use crate::sys::memory::{Chunk, Purpose, Region};

/// Shape of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// Frames in the pool, at least 1.
    pub frames: usize,
    /// Bytes of a chunk: a power of two, 2048 to 32,768.
    pub chunk_bytes: usize,
    /// Bytes left free before a frame that [`FramePool::alloc`] hands out; below `chunk_bytes`.
    pub headroom_bytes: usize,
}

/// Bytes left free before a new frame, the same as the kernel leaves (`XDP_PACKET_HEADROOM` in `linux/bpf.h`).
pub const HEADROOM_BYTES: usize = 256;

impl Default for PoolConfig {
    /// 4096 frames in chunks of 2048 bytes, 256 bytes of headroom: 8 MiB.
    fn default() -> Self {
        Self { frames: 4096, chunk_bytes: 2048, headroom_bytes: HEADROOM_BYTES }
    }
}

/// The free frames of one queue. Belongs to one core; allocates only when it is made.
#[derive(Debug)]
pub struct FramePool {
    free: Vec<Chunk>,
    headroom: usize,
    foreign: u64,
    region: Region,
}

impl FramePool {
    /// A pool on heap memory, all frames free.
    ///
    /// # Errors
    /// [`PoolError`]: a shape out of range, or no memory.
    pub fn new(config: PoolConfig) -> Result<Self, PoolError> {
        Self::over(Region::heap(config.chunk_bytes, config.frames)?, config.headroom_bytes)
    }

    /// Pools over one memory, `config.frames` each: frames of any two of them may change places ([`Frame::exchange`]).
    ///
    /// # Errors
    /// [`PoolError`]: a shape out of range, no pool or too many, or no memory.
    pub fn over_one_memory(config: PoolConfig, pools: usize) -> Result<Vec<Self>, PoolError> {
        let frames = config.frames.saturating_mul(pools);
        let shares = Region::heap(config.chunk_bytes, frames)?.split(&vec![config.frames; pools])?;
        shares.into_iter().map(|share| Self::over(share, config.headroom_bytes)).collect()
    }

    /// A pool of all chunks of `region` that were not handed out yet.
    ///
    /// # Errors
    /// [`PoolError::Headroom`] when the headroom leaves no byte for a frame.
    pub(crate) fn over(mut region: Region, headroom_bytes: usize) -> Result<Self, PoolError> {
        let chunk_bytes = region.chunk_bytes();
        if headroom_bytes >= chunk_bytes {
            return Err(PoolError::Headroom { headroom_bytes, chunk_bytes });
        }
        let mut free = Vec::with_capacity(region.chunks());
        free.extend(std::iter::from_fn(|| region.take(Purpose::Receive)));
        free.reverse(); // The first chunk is used first.
        Ok(Self { free, headroom: headroom_bytes, foreign: 0, region })
    }

    /// Takes a free frame: of length 0, behind the headroom. `None` when all are out.
    #[inline]
    pub fn alloc(&mut self) -> Option<Frame> {
        let chunk = self.free.pop()?;
        Some(Frame::new(chunk, self.headroom, 0))
    }

    /// Takes a frame back.
    ///
    /// # Errors
    /// Gives the frame back, and counts it, when it belongs to another pool.
    #[inline]
    pub fn free(&mut self, frame: Frame) -> Result<(), Frame> {
        if !self.owns(&frame) {
            self.foreign += 1;
            return Err(frame);
        }
        // Never grows: the vector was made for all chunks of the share, and no more of them count for it (F6).
        self.free.push(frame.into_chunk());
        Ok(())
    }

    /// Whether the frame is one of this pool's.
    #[inline]
    pub fn owns(&self, frame: &Frame) -> bool {
        self.region.owns(frame.chunk())
    }

    /// Frames of the pool, free or not.
    pub fn total_frames(&self) -> usize {
        self.region.chunks()
    }

    /// Free frames.
    #[inline]
    pub fn free_frames(&self) -> usize {
        self.free.len()
    }

    /// Frames of other pools that were refused.
    pub fn foreign_frames(&self) -> u64 {
        self.foreign
    }

    /// The longest frame that [`alloc`](Self::alloc) can give room for, in bytes.
    pub fn max_frame_bytes(&self) -> usize {
        self.region.chunk_bytes() - self.headroom
    }
}

impl Drop for FramePool {
    fn drop(&mut self) {
        for chunk in self.free.drain(..) {
            // Only chunks of this region are let in, so none comes back; one that did would be leaked, not lost (F2).
            let _ = self.region.put_home(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    const SMALL: PoolConfig = PoolConfig { frames: 16, chunk_bytes: 2048, headroom_bytes: HEADROOM_BYTES };

    #[test]
    fn the_frame_freed_last_is_used_first() {
        let mut pool = FramePool::new(SMALL).unwrap();
        let (first, second) = (pool.alloc().unwrap(), pool.alloc().unwrap());
        let index = first.chunk_index();
        pool.free(second).unwrap();
        pool.free(first).unwrap();
        assert_eq!(pool.alloc().unwrap().chunk_index(), index);
    }

    #[test]
    fn a_new_frame_is_empty_and_starts_behind_the_headroom() {
        let mut pool = FramePool::new(SMALL).unwrap();
        let mut frame = pool.alloc().unwrap();
        frame.resize(1514).unwrap();
        pool.free(frame).unwrap();
        let mut frame = pool.alloc().unwrap();
        assert_eq!((frame.len(), frame.start(), frame.capacity()), (0, HEADROOM_BYTES, 2048 - HEADROOM_BYTES));
        assert!(frame.resize(2048 - HEADROOM_BYTES + 1).is_err());
        assert_eq!(pool.max_frame_bytes(), frame.capacity());
        pool.free(frame).unwrap();
    }

    #[test]
    fn a_headroom_as_large_as_the_chunk_is_refused() {
        let config = PoolConfig { headroom_bytes: 2048, ..SMALL };
        let error = FramePool::new(config).unwrap_err();
        assert_eq!(error, PoolError::Headroom { headroom_bytes: 2048, chunk_bytes: 2048 });
    }

    #[test]
    fn frames_of_pools_over_one_memory_change_places_and_each_pool_keeps_its_number() {
        let mut pools = FramePool::over_one_memory(SMALL, 2).unwrap();
        let (mut b, mut a) = (pools.pop().unwrap(), pools.pop().unwrap());
        let (mut one, mut other) = (a.alloc().unwrap(), b.alloc().unwrap());
        one.resize(60).unwrap();
        one.bytes_mut().fill(1);
        let (place, index) = (one.bytes().as_ptr(), one.chunk_index());
        assert!(one.exchange(&mut other));
        assert_eq!((other.bytes().as_ptr(), other.chunk_index()), (place, index), "nothing is copied");
        assert_eq!((one.len(), other.len()), (0, 60));
        let other = a.free(other).expect_err("it is the other pool's now");
        a.free(one).unwrap();
        b.free(other).unwrap();
        assert_eq!((a.free_frames(), b.free_frames()), (16, 16));
        let (mut one, mut third) = (a.alloc().unwrap(), FramePool::new(SMALL).unwrap());
        let mut other = third.alloc().unwrap();
        assert!(!one.exchange(&mut other), "different memory");
        a.free(one).unwrap();
        third.free(other).unwrap();
        assert!(FramePool::over_one_memory(SMALL, 0).is_err());
    }

    #[derive(Debug, Clone, Copy)]
    enum Act {
        Alloc,
        Free(usize),
        FreeForeign,
    }

    fn act() -> impl Strategy<Value = Act> {
        use proptest::strategy::Just;
        prop_oneof![3 => Just(Act::Alloc), 3 => any::<usize>().prop_map(Act::Free), 1 => Just(Act::FreeForeign)]
    }

    proptest! {
        #[test]
        fn frames_are_conserved_whatever_happens(acts in proptest::collection::vec(act(), 0..400)) {
            let mut pool = FramePool::new(SMALL).unwrap();
            let mut other = FramePool::new(SMALL).unwrap();
            let mut held: Vec<Frame> = Vec::new();
            let mut foreign = 0;
            for act in acts {
                match act {
                    Act::Alloc => match pool.alloc() {
                        Some(mut frame) => {
                            frame.resize(8).unwrap();
                            let index = frame.chunk_index();
                            frame.bytes_mut().copy_from_slice(&u64::from(index).to_be_bytes());
                            held.push(frame);
                        }
                        None => prop_assert_eq!(held.len(), pool.total_frames()),
                    },
                    Act::Free(pick) if !held.is_empty() => {
                        let frame = held.swap_remove(pick % held.len());
                        // Nobody else wrote to it meanwhile.
                        prop_assert_eq!(frame.bytes(), u64::from(frame.chunk_index()).to_be_bytes());
                        prop_assert!(pool.free(frame).is_ok());
                    }
                    Act::Free(_) => {}
                    Act::FreeForeign => {
                        let refused = pool.free(other.alloc().unwrap()).unwrap_err();
                        foreign += 1;
                        prop_assert!(other.free(refused).is_ok());
                    }
                }
                prop_assert_eq!(pool.free_frames() + held.len(), pool.total_frames());
                prop_assert_eq!(pool.foreign_frames(), foreign);
                let mut indices: Vec<u32> = held.iter().map(Frame::chunk_index).collect();
                indices.sort_unstable();
                indices.dedup();
                prop_assert_eq!(indices.len(), held.len(), "a chunk was handed out twice");
            }
            // All home, so that the pool's memory goes with it.
            for frame in held {
                prop_assert!(pool.free(frame).is_ok());
            }
            prop_assert_eq!(pool.free_frames(), pool.total_frames());
        }
    }
}
