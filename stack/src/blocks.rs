//! `Blocks`: which flow block serves which flow. A flow that sleeps has none, but a [`RestingFlow`] of 56 bytes.
//!
//! A flow keeps its number, by which the table, the wheel and the application know it, whether it is awake or not. What a
//! number has at its place is a block (of a flow, or free), or nothing: then its record says whose it is. A block that
//! serves nobody is spare, or lies at a number that is free. Which flow has slept longest nobody keeps: a hand goes round
//! the blocks, as in the clock algorithm, and stops where nothing was heard since it last came by.

use std::ops::{Index, IndexMut};

use nic::BURST;

use crate::block::{FlowBlock, MakeBlocks};
use crate::clock::Time;
use crate::flow_id::FlowKey;
use crate::link::Mac;
use crate::resting::RestingFlow;

/// Blocks kept ready beyond those that there may be, for flows that sleep and whose application comes back to them while all
/// are at work: more than it does in a turn.
const RESERVE: usize = 5 * BURST;

/// Blocks that the hand passes in one turn for all flows that need one at once; for new ones no more than leave half of these
/// for flows that are woken.
pub(crate) const LOOKS_A_TURN: usize = 8 * BURST;

/// A block that lies at no number.
const NOWHERE: u32 = u32::MAX;

/// Blocks by the numbers of their flows.
pub(crate) struct Blocks {
    slots: Vec<Option<&'static mut FlowBlock>>,
    /// By number: the flow that sleeps there. Where none does, only `generation` says something: that, where there is no
    /// block either, else which block it is. None at all where no flow sleeps.
    sleepers: Vec<RestingFlow>,
    /// Blocks at no number, and numbers that no flow has and no block.
    spare: Vec<(u32, &'static mut FlowBlock)>,
    bare: Vec<u32>,
    /// By block: its number.
    homes: Vec<u32>,
    make: MakeBlocks,
    most_flows: usize,
    most_blocks: usize,
    /// Blocks on their way from where they are made.
    fresh: Vec<&'static mut FlowBlock>,
    /// Blocks that nobody counts yet, and how many there should be of them.
    reserve: Vec<&'static mut FlowBlock>,
    wanted: usize,
    asleep: usize,
    hand: usize,
    /// When the hand last passed the first block, and when before.
    rounds: [Time; 2],
}

impl Blocks {
    /// No blocks; at most `most_blocks` made by `make` for `most_flows` flows.
    pub(crate) fn new(make: MakeBlocks, most_flows: usize, most_blocks: usize) -> Self {
        let (sleepers, wanted) = if most_blocks < most_flows { (most_flows, RESERVE) } else { (0, 0) };
        let mut blocks = Self {
            slots: Vec::with_capacity(most_flows),
            sleepers: Vec::with_capacity(sleepers),
            // Beyond `most_blocks`, as many as there are flows may be made ([`take_reserve`](Self::take_reserve)).
            spare: Vec::with_capacity(most_flows),
            bare: Vec::with_capacity(sleepers),
            homes: Vec::with_capacity(most_flows),
            make,
            most_flows,
            most_blocks,
            fresh: Vec::with_capacity(BURST),
            reserve: Vec::with_capacity(wanted),
            wanted,
            asleep: 0,
            hand: 0,
            rounds: [Time::ZERO; 2],
        };
        while blocks.lacks_reserve() {
            blocks.fill_reserve();
        }
        blocks
    }

    /// Whether flows sleep at all.
    #[inline]
    pub(crate) fn may_sleep(&self) -> bool {
        self.most_blocks < self.most_flows
    }

    /// Numbers given out, free ones among them.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Numbers that no flow has and no block.
    pub(crate) fn bare(&self) -> usize {
        self.bare.len()
    }

    /// Blocks made; those that lie at no number; flows that sleep.
    pub(crate) fn made(&self) -> usize {
        self.homes.len()
    }

    /// See [`made`](Self::made).
    #[inline]
    pub(crate) fn spare(&self) -> usize {
        self.spare.len()
    }

    /// See [`made`](Self::made).
    #[inline]
    pub(crate) fn asleep(&self) -> usize {
        self.asleep
    }

    /// Whether more blocks can be made.
    pub(crate) fn may_make(&self) -> bool {
        self.slots.len() < self.most_flows && self.made() < self.most_blocks
    }

    /// Whether there is a number that no flow has, for a spare block.
    pub(crate) fn may_place(&self) -> bool {
        !self.bare.is_empty() || self.slots.len() < self.most_flows
    }

    /// The number that block `block` lies at.
    pub(crate) fn home(&self, block: usize) -> Option<u32> {
        self.homes.get(block).copied().filter(|&number| number != NOWHERE)
    }

    /// Whether there can be more blocks, or flows that give theirs up.
    #[inline]
    pub(crate) fn may_grow(&self) -> bool {
        self.may_sleep() || self.slots.len() < self.most_flows
    }

    /// The block at the number, if there is one.
    #[inline]
    pub(crate) fn get(&self, number: usize) -> Option<&FlowBlock> {
        self.slots.get(number)?.as_deref()
    }

    /// The same, to be changed.
    #[inline]
    pub(crate) fn get_mut(&mut self, number: usize) -> Option<&mut FlowBlock> {
        self.slots.get_mut(number)?.as_deref_mut()
    }

    /// Whether a flow sleeps at the number.
    #[inline]
    pub(crate) fn is_asleep(&self, number: u32) -> bool {
        self.slots.get(number as usize).is_some_and(Option::is_none)
    }

    /// The flow that sleeps at the number.
    pub(crate) fn sleeper(&self, number: u32) -> Option<&RestingFlow> {
        let asleep = self.is_asleep(number);
        self.sleepers.get(number as usize).filter(|sleeper| asleep && sleeper.key() != FlowKey::NONE)
    }

    /// The same, if the application still knows of it.
    pub(crate) fn open_sleeper(&self, number: u32) -> Option<&RestingFlow> {
        self.sleeper(number).filter(|sleeper| sleeper.closed_since().is_none())
    }

    /// Flows that sleep, counted one by one: those that the application knows of, and the others.
    pub(crate) fn count_sleepers(&self) -> (usize, usize) {
        let closed = self.sleepers().filter(|sleeper| sleeper.closed_since().is_some()).count();
        (self.asleep - closed, closed)
    }

    /// Every flow that sleeps.
    pub(crate) fn sleepers(&self) -> impl Iterator<Item = &RestingFlow> {
        (0..self.slots.len() as u32).filter_map(|number| self.sleeper(number))
    }

    /// Whether the flow at the number has this key.
    #[inline]
    pub(crate) fn has_key(&self, number: u32, key: &FlowKey) -> bool {
        match self.slots.get(number as usize) {
            Some(Some(block)) => block.key == *key,
            _ => self.sleeper_has_key(number, key),
        }
    }

    #[cold]
    #[inline(never)]
    fn sleeper_has_key(&self, number: u32, key: &FlowKey) -> bool {
        self.sleeper(number).is_some_and(|sleeper| sleeper.key() == *key)
    }

    /// The port by which the frames of the flow at the number leave.
    pub(crate) fn port_of(&self, number: u32) -> u16 {
        match self.get(number as usize) {
            Some(block) => block.port,
            None => self.sleeper(number).map_or(0, RestingFlow::port),
        }
    }

    /// Has the frames of the flow that sleeps at the number go to `station`. Returns whether one sleeps there.
    pub(crate) fn move_sleeper(&mut self, number: u32, station: Mac) -> bool {
        let asleep = self.sleeper(number).is_some();
        if asleep {
            self.sleepers[number as usize].move_to(station);
        }
        asleep
    }

    /// Asks for the record of the flow that sleeps at the number.
    #[cold]
    pub(crate) fn prefetch_sleeper(&self, number: u32) {
        cpu::prefetch_index(&self.sleepers, number as usize);
    }

    /// Every block at a number, with that.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &FlowBlock)> {
        self.slots.iter().enumerate().filter_map(|(number, slot)| Some((number, slot.as_deref()?)))
    }

    /// Makes blocks, up to `count`, for the numbers that come next, which are pushed on `free`, the lowest last.
    pub(crate) fn make(&mut self, count: usize, free: &mut Vec<u32>) {
        let first = self.slots.len();
        let room = (self.most_flows - first).min(self.most_blocks.saturating_sub(self.made()));
        let mut fresh = std::mem::take(&mut self.fresh);
        (self.make)(count.min(room), &mut fresh);
        for block in fresh.drain(..) {
            if self.may_sleep() {
                let mut awake = RestingFlow::NOBODY;
                awake.forget_but(self.homes.len() as u32);
                self.sleepers.push(awake);
            }
            self.homes.push(self.slots.len() as u32);
            self.slots.push(Some(block));
        }
        self.fresh = fresh;
        free.extend((first as u32..self.slots.len() as u32).rev());
    }

    /// Whether the reserve lacks blocks.
    #[inline]
    pub(crate) fn lacks_reserve(&self) -> bool {
        self.reserve.len() < self.wanted
    }

    /// Makes blocks for the reserve, ahead of use.
    #[cold]
    pub(crate) fn fill_reserve(&mut self) {
        // Each flow beyond those that may be awake has one at most.
        self.wanted = self.wanted.min(self.most_flows.saturating_sub(self.made()));
        let count = self.wanted.saturating_sub(self.reserve.len()).min(BURST);
        (self.make)(count, &mut self.reserve);
    }

    /// Takes a block out of the reserve, more than there may be, for a flow that cannot wait; never more than there may be
    /// flows, since each that has none is one that sleeps. It stays.
    pub(crate) fn take_reserve(&mut self) {
        if self.reserve.is_empty() {
            (self.make)(1, &mut self.reserve);
        }
        if let Some(block) = self.reserve.pop() {
            self.spare.push((self.homes.len() as u32, block));
            self.homes.push(NOWHERE);
        }
    }

    /// A number that no flow has, with a spare block at it, if there are both.
    pub(crate) fn place_spare(&mut self) -> Option<u32> {
        if !self.may_place() {
            return None;
        }
        let (home, block) = self.spare.pop()?;
        let number = self.bare.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.sleepers.push(RestingFlow::NOBODY);
            self.slots.len() as u32 - 1
        });
        self.put(number, home, block);
        Some(number)
    }

    fn put(&mut self, number: u32, home: u32, block: &'static mut FlowBlock) {
        let sleeper = &mut self.sleepers[number as usize];
        block.generation = sleeper.generation;
        sleeper.forget_but(home);
        self.homes[home as usize] = number;
        self.slots[number as usize] = Some(block);
    }

    /// Takes the block away from a number that is free, and which has none from then on.
    pub(crate) fn lay_bare(&mut self, number: u32) {
        let Some(block) = self.slots[number as usize].take() else { return };
        let sleeper = &mut self.sleepers[number as usize];
        let home = sleeper.generation;
        sleeper.forget_but(block.generation);
        self.homes[home as usize] = NOWHERE;
        self.spare.push((home, block));
        self.bare.push(number);
    }

    /// The flow at the number sleeps from now on, as `sleeper`; its block is spare.
    pub(crate) fn lay_down(&mut self, number: u32, sleeper: RestingFlow) {
        let Some(block) = self.slots[number as usize].take() else { return };
        let home = std::mem::replace(&mut self.sleepers[number as usize], sleeper).generation;
        self.homes[home as usize] = NOWHERE;
        block.retire();
        self.spare.push((home, block));
        self.asleep += 1;
    }

    /// The flow that sleeps at the number gets a spare block, which is to be made its own again; returns who it was.
    pub(crate) fn get_up(&mut self, number: u32) -> Option<RestingFlow> {
        let sleeper = *self.sleeper(number)?;
        let (home, block) = self.spare.pop()?;
        self.put(number, home, block);
        self.asleep -= 1;
        Some(sleeper)
    }

    /// The flow that sleeps at the number is over: nobody has the number then.
    pub(crate) fn end_asleep(&mut self, number: u32) {
        let sleeper = &mut self.sleepers[number as usize];
        sleeper.forget_but(sleeper.generation);
        self.bare.push(number);
        self.asleep -= 1;
    }

    /// The next block in turn that lies at a number: that number, and before when its flow must have been heard last for
    /// nothing to have been heard of it since the hand came by. `now` is when.
    pub(crate) fn next_in_turn(&mut self, now: Time) -> Option<(u32, Time)> {
        if self.homes.is_empty() {
            return None;
        }
        self.hand += 1;
        if self.hand >= self.homes.len() {
            self.hand = 0;
            self.rounds = [now, self.rounds[0]];
        }
        let number = self.homes[self.hand];
        (number != NOWHERE).then_some((number, self.rounds[1].max(Time::from_micros(1))))
    }
}

impl Index<usize> for Blocks {
    type Output = &'static mut FlowBlock;

    #[inline]
    fn index(&self, number: usize) -> &Self::Output {
        match self.slots.get(number) {
            Some(Some(block)) => block,
            _ => no_block(number),
        }
    }
}

impl IndexMut<usize> for Blocks {
    #[inline]
    fn index_mut(&mut self, number: usize) -> &mut Self::Output {
        match self.slots.get_mut(number) {
            Some(Some(block)) => block,
            _ => no_block(number),
        }
    }
}

#[cold]
fn no_block(number: usize) -> ! {
    unreachable!("who asks for the block of flow {number} has woken it")
}
