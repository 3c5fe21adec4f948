//! Our shards, driven in this process as a core drives them: no network, so that what is resident is the store.

use std::time::Instant;

use cache::operation::Store;
use cache::{Expiry, KeyHasher, Now, Operation, Shard, ShardConfig};
use serde::{Deserialize, Serialize};

use crate::resident::resident_bytes;
use crate::stream::{Asked, Stream};

/// Requests of one second of the store's clock: about what one connection to memcached on a kernel socket makes.
pub const REQUESTS_PER_SECOND: u64 = 300_000;
/// Upkeep is done once in so many requests, as a worker does once a turn.
const UPKEEP_EVERY: u64 = 64;
/// Steps of upkeep at a time, as a worker's.
const UPKEEP_STEPS: u32 = 16;

/// What one side did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Gets after the stream's settling.
    pub gets: u64,
    /// Of those, misses.
    pub misses: u64,
    /// Items held at the end.
    pub items: u64,
    /// Resident bytes of store and program at the end, without the generator's.
    pub resident_bytes: u64,
    /// Sets refused.
    pub refused: u64,
    /// Seconds it took.
    pub seconds: f64,
}

impl Outcome {
    /// Misses for each get.
    pub fn miss_ratio(&self) -> f64 {
        self.misses as f64 / self.gets.max(1) as f64
    }
}

/// Our store in `shards` shards.
pub struct Ours {
    shards: Vec<Shard>,
    hasher: KeyHasher,
    values: Vec<u8>,
    requests: u64,
    refused: u64,
    /// Resident bytes of the generator.
    others: u64,
}

impl Ours {
    /// `memory_bytes` in `shards` shards. `program_bytes` were resident before the generator was made.
    ///
    /// # Errors
    /// When a shard cannot be built so, or the kernel does not say what is resident.
    pub fn new(memory_bytes: usize, shards: usize, program_bytes: u64) -> Result<Ours, Box<dyn std::error::Error>> {
        let values = vec![b'v'; 2 << 20];
        let hasher = KeyHasher::new([0x5a; 16]);
        let others = resident_bytes(None)?.saturating_sub(program_bytes);
        let config = ShardConfig { memory_bytes: memory_bytes / shards, ..ShardConfig::default() };
        let shards = (0..shards).map(|_| Shard::new(&config, hasher.clone())).collect::<Result<_, _>>()?;
        Ok(Ours { shards, hasher, values, requests: 0, refused: 0, others })
    }

    fn now(&self) -> Now {
        Now { secs: 2 + (self.requests / REQUESTS_PER_SECOND) as u32, unix_epoch: 1_700_000_000 }
    }

    /// Gets the key, and sets it when it is not there. Returns whether it was.
    fn ask(&mut self, asked: &Asked) -> bool {
        self.requests += 1;
        let now = self.now();
        let mut buffer = [0; 250];
        let key = asked.write_key(&mut buffer);
        let key = self.hasher.key(key);
        let shards = self.shards.len();
        let shard = &mut self.shards[key.hash.shard_of(shards)];
        let hit = match shard.execute(key, &Operation::GET, b"", now) {
            (_, Some(at)) => {
                std::hint::black_box(shard.item(at).value.len());
                true
            }
            (_, None) => {
                self.set(asked);
                false
            }
        };
        if self.requests.is_multiple_of(UPKEEP_EVERY) {
            self.shards.iter_mut().for_each(|shard| {
                shard.maintain(now, UPKEEP_STEPS);
            });
        }
        hit
    }

    /// Sets the key.
    pub fn set(&mut self, asked: &Asked) {
        let now = self.now();
        let mut buffer = [0; 250];
        let key = asked.write_key(&mut buffer);
        let key = self.hasher.key(key);
        let shards = self.shards.len();
        let value = &self.values[..asked.value_bytes as usize];
        let expiry = Expiry::from_exptime(i64::from(asked.ttl_secs), now);
        let set = Operation::Store(Store { expiry, ..Store::SET });
        let (outcome, _) = self.shards[key.hash.shard_of(shards)].execute(key, &set, value, now);
        self.refused += u64::from(!matches!(outcome, cache::Outcome::Stored { .. }));
    }

    /// Items held.
    fn items(&self) -> u64 {
        self.shards.iter().map(|shard| shard.stats().curr_items.value()).sum()
    }

    /// Runs the stream; misses count from its settling on.
    ///
    /// # Errors
    /// When the kernel does not say what is resident.
    pub fn run(mut self, stream: Stream) -> Result<Outcome, Box<dyn std::error::Error>> {
        let started = Instant::now();
        let mut outcome = Outcome::default();
        let counted_from = stream.counted_from();
        for (nth, asked) in stream.enumerate() {
            let hit = self.ask(&asked);
            if nth as u64 >= counted_from {
                outcome.gets += 1;
                outcome.misses += u64::from(!hit);
            }
        }
        let (gets, misses) = (outcome.gets, outcome.misses);
        Ok(Outcome { gets, misses, seconds: started.elapsed().as_secs_f64(), ..self.finish()? })
    }

    /// What is held at the end.
    ///
    /// # Errors
    /// When the kernel does not say what is resident.
    pub fn finish(self) -> Result<Outcome, Box<dyn std::error::Error>> {
        let resident_bytes = resident_bytes(None)?.saturating_sub(self.others);
        Ok(Outcome { items: self.items(), refused: self.refused, resident_bytes, ..Outcome::default() })
    }
}
