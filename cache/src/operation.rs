//! What is asked of the shard that owns a key, and what came of it, in terms of no protocol.
//!
//! An [`Operation`] and an [`Outcome`] borrow nothing, so that they travel to another core and back as they are. The
//! bytes of a store are given beside the operation; the value of a hit is found beside the outcome.
//!
//! The meta protocol's commands are the most that can be asked; those of the classic and the binary protocol ask for
//! less of the same. Read first: memcached's `protocol.txt`.

use crate::clock::Expiry;

/// What is asked of the shard that owns a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Find the item.
    Get(Get),
    /// Store a value that is all there.
    Store(Store),
    /// Take the item out, or mark it as stale.
    Delete(Delete),
    /// Count the number that the item is.
    Count(Count),
    /// Give the item a new expiry. Answers [`Outcome::Touched`] and shows nothing of the item.
    Touch(Expiry),
    /// Show what is known of the item; nothing is counted or marked.
    Debug,
}

impl Operation {
    /// A get that asks for the item and nothing else.
    pub const GET: Operation = Operation::Get(Get::CLASSIC);

    /// A get that gives the item a new expiry, of the classic and the binary protocol.
    pub fn get_and_touch(expiry: Expiry) -> Operation {
        Operation::Get(Get { steps: Steps::one(Step::Touch(expiry)), ..Get::CLASSIC })
    }

    /// A delete of whatever version is there.
    pub const DELETE: Operation = Operation::Delete(Delete::CLASSIC);
}

/// What a get does to the item that it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Get {
    /// What is done and shown, in this order.
    pub steps: Steps,
    /// The item is marked as asked for.
    pub update: bool,
    /// The version that the client has: of this one it does not want the value.
    pub known: Option<u64>,
    /// The cas unique of an item that is made, in place of the next one.
    pub named: Option<u64>,
    /// It is a get of the classic or the binary protocol: a miss that was to touch is counted as a touch, the get is
    /// counted for its key's prefix, and it does not take the right to renew a stale item.
    pub classic: bool,
}

impl Get {
    /// A get of the classic or the binary protocol.
    pub const CLASSIC: Get = Get { steps: Steps::NONE, update: true, known: None, named: None, classic: true };
}

/// Steps of an operation that are done in the order in which the client named them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps([Option<Step>; Steps::MAX]);

/// One step of a get or a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The item gets this expiry.
    Touch(Expiry),
    /// Where there is no item, an empty one (for a count: one with the initial number) is made with this expiry.
    Vivify(Expiry),
    /// Who meets an item that is gone before this is to renew it.
    Recache(Expiry),
    /// The seconds left are shown as they are at this step.
    ShowTtl,
}

impl Steps {
    /// Steps at most: each kind once.
    const MAX: usize = 4;

    /// None.
    pub const NONE: Steps = Steps([None; Steps::MAX]);

    /// One step.
    pub const fn one(step: Step) -> Steps {
        Steps([Some(step), None, None, None])
    }

    /// Adds a step behind the others; what is more than one of each kind is left out.
    pub fn push(&mut self, step: Step) {
        if let Some(free) = self.0.iter_mut().find(|place| place.is_none()) {
            *free = Some(step);
        }
    }

    /// The steps in their order.
    pub fn iter(&self) -> impl Iterator<Item = Step> + '_ {
        self.0.iter().map_while(|&step| step)
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        matches!(self, Steps([None, ..]))
    }

    /// Whether one of them gives the item an expiry.
    pub fn touch(&self) -> bool {
        self.iter().any(|step| matches!(step, Step::Touch(_)))
    }

    /// Whether one of them makes an item where there is none.
    pub fn vivify(&self) -> bool {
        self.iter().any(|step| matches!(step, Step::Vivify(_)))
    }
}

/// How a value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Store {
    /// On which condition, and whether it joins the value that is there.
    pub mode: StoreMode,
    /// The client's flags.
    pub flags: u32,
    /// When the item is gone.
    pub expiry: Expiry,
    /// The cas unique of the item, in place of the next one.
    pub named: Option<u64>,
    /// Append and prepend store the value even where there is nothing that it could join.
    pub vivify: bool,
    /// The key was sent as base64, which is noted in the item.
    pub base64: bool,
    /// When there is no room for the value, the item that is there goes: a client that meant to replace it must not
    /// find the old value.
    pub drops_old: bool,
    /// It is a store of the classic or the binary protocol, which is counted for its key's prefix.
    pub classic: bool,
}

impl Store {
    /// A set of a value without flags that never expires.
    pub const SET: Store = Store {
        mode: StoreMode::Set,
        flags: 0,
        expiry: Expiry::NEVER,
        named: None,
        vivify: false,
        base64: false,
        drops_old: false,
        classic: true,
    };
}

/// Which of memcached's storage commands a store is (`protocol.txt`, "Storage commands").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreMode {
    /// Whatever was there before.
    Set,
    /// Only if the key has no item.
    Add,
    /// Only if the key has an item.
    Replace,
    /// The value goes after that of the item there; flags and expiry stay those of the item.
    Append,
    /// The value goes before that of the item there; flags and expiry stay those of the item.
    Prepend,
    /// Only if the item there has this cas unique. 0 matches no item.
    Cas(u64),
    /// As [`StoreMode::Cas`]; where the item there is newer (its unique is larger), the new one takes its place marked as
    /// stale, with the expiry of the one there (meta: `ms` with C and I). 0 matches no item.
    CasOrStale(u64),
    /// [`StoreMode::Append`], only if the item there has this cas unique.
    AppendIf(u64),
    /// [`StoreMode::Prepend`], only if the item there has this cas unique.
    PrependIf(u64),
}

impl StoreMode {
    /// Whether the value joins that of the item there.
    pub fn joins(self) -> bool {
        matches!(self, StoreMode::Append | StoreMode::Prepend | StoreMode::AppendIf(_) | StoreMode::PrependIf(_))
    }

    /// Whether it goes after that of the item there.
    pub(crate) fn appends(self) -> bool {
        matches!(self, StoreMode::Append | StoreMode::AppendIf(_))
    }
}

/// What is deleted, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delete {
    /// Only this version of the item.
    pub cas: Option<u64>,
    /// The item stays, marked as stale under a new cas unique.
    pub stale: bool,
    /// The value goes alone: an empty item with these client flags takes the place of the item, under its cas unique.
    pub empty: Option<u32>,
    /// The expiry of an item that is marked as stale, if it gets a new one, and of an empty one, which else never
    /// expires.
    pub expiry: Option<Expiry>,
    /// The cas unique of an item that stays, in place of the next one, or of its own where the value goes alone.
    pub named: Option<u64>,
    /// It is a delete of the classic or the binary protocol: another version is not counted as a miss, and it is counted
    /// for its key's prefix.
    pub classic: bool,
}

impl Delete {
    /// A delete of the classic or the binary protocol, of whatever version is there.
    pub const CLASSIC: Delete =
        Delete { cas: None, stale: false, empty: None, expiry: None, named: None, classic: true };
}

/// How a number is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// By how much.
    pub delta: u64,
    /// Up, which wraps at 2^64, rather than down, which stops at 0.
    pub up: bool,
    /// Only this version of the item; 0 is any.
    pub cas: u64,
    /// What is done and shown, in this order; recache is none of it.
    pub steps: Steps,
    /// The cas unique of the item, in place of the next one.
    pub named: Option<u64>,
    /// The number of an item that is made.
    pub initial: u64,
}

impl Count {
    /// Counts up or down and asks for nothing else.
    pub fn by(delta: u64, up: bool) -> Count {
        Count { delta, up, cas: 0, steps: Steps::NONE, named: None, initial: 0 }
    }
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The item is there.
    Hit(View),
    /// The item is stored.
    Stored {
        /// Its cas unique.
        cas: u64,
        /// Bytes of its value.
        len: u32,
    },
    /// The item is gone, or marked as stale where that was asked for.
    Deleted,
    /// The item has the new expiry.
    Touched,
    /// The item is a number and has been counted.
    Number(Number),
    /// The item is there; this is what is known of it.
    Debug(ItemFacts),
    /// The key has no item.
    Missed,
    /// The item's cas unique is another one than was asked for.
    Exists,
    /// The condition of add, replace, append or prepend was not met; or append and prepend found no room for the
    /// longer value, as in memcached.
    NotStored,
    /// The item is larger than the largest one may be.
    TooLarge,
    /// There is no room, and nothing may be evicted for it.
    NoMemory(Purpose),
    /// The item's value is not a decimal number below 2^64.
    NotANumber,
}

/// What room was wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// For an item to be stored.
    Store,
    /// For a longer number, or for an expiry that the item had no place for.
    Change,
    /// For a number that was not there yet.
    Create,
}

/// What a hit shows of an item, as it was before the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct View {
    /// The cas unique.
    pub cas: u64,
    /// The client's flags.
    pub flags: u32,
    /// Bytes of the value.
    pub len: u32,
    /// Seconds left at the point where they were asked for; `None`: it never expires. Below 0 they wrap, as in
    /// memcached.
    pub ttl: Option<u32>,
    /// Seconds since it was last asked for, before this time.
    pub idle: u32,
    /// It was asked for before.
    pub fetched: bool,
    /// Its key was sent as base64.
    pub base64: bool,
    /// It is stale.
    pub stale: bool,
    /// Another client has been told to renew it.
    pub token_sent: bool,
    /// This client is to renew it.
    pub won: bool,
    /// The value does not go with it, though it was asked for.
    pub withheld: bool,
}

/// A number after it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// The number now stored.
    pub value: u64,
    /// The item's new cas unique.
    pub cas: u64,
    /// As [`View::ttl`].
    pub ttl: Option<u32>,
}

/// What is known of an item, for those who look for mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemFacts {
    /// Seconds until the expiry; -1: never.
    pub expires_in: i32,
    /// Seconds since the last access.
    pub idle: u32,
    /// The cas unique.
    pub cas: u64,
    /// Whether it was asked for.
    pub fetched: bool,
    /// memcached's slab class.
    pub class: u32,
    /// memcached's size.
    pub bytes: u32,
    /// Its key was sent as base64.
    pub base64: bool,
}
