//! `Interpreter`: runs the compiled program without the kernel, and so without root.
//!
//! It is our own and not rbpf: `struct xdp_md` has packet pointers of 32 bits, which the kernel rewrites as it loads a
//! program and rbpf does not, and rbpf's helpers are given addresses of this process, which only unsafe code can read.
//! Here memory is four slices at addresses that fit 32 bits, and an access outside of them fails the test. The kernel
//! runs the same frames beside it where the tests are root (`bench.rs`).
//! Read first: kernel `bpf/standardization/instruction-set.rst`.

use std::collections::{BTreeMap, HashSet};

use aya_obj::Object;
use aya_obj::generated::bpf_insn;

use super::super::COUNTERS;

/// Where the four parts of memory begin.
const CONTEXT: u64 = 0x1_0000;
const PACKET: u64 = 0x10_0000;
const STACK: u64 = 0x20_0000;
const VALUES: u64 = 0x30_0000;

const STACK_BYTES: usize = 512;
/// Bytes that a map's value has here, whatever it has in the kernel: those of this program have four or eight.
const VALUE_BYTES: usize = 8;
/// More than the program has, so that a loop that does not end fails.
const STEPS_MAX: usize = 10_000;

/// `XDP_REDIRECT` and the helpers that the program calls (`linux/bpf.h`).
const XDP_REDIRECT: u64 = 4;
const MAP_LOOKUP_ELEM: i32 = 1;
const MAP_UPDATE_ELEM: i32 = 2;
const MAP_DELETE_ELEM: i32 = 3;
const REDIRECT: i32 = 23;
const REDIRECT_MAP: i32 = 51;
const ADJUST_TAIL: i32 = 65;
const GET_BUFF_LEN: i32 = 188;

/// What a map finds by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Find {
    /// The very key.
    Exact,
    /// The longest prefix that the key has: of a key, the first four bytes are its length in bits.
    Longest,
}

#[derive(Debug)]
struct Map {
    name: &'static str,
    key_bytes: usize,
    find: Find,
    /// By key, the value's index among all values.
    entries: BTreeMap<Vec<u8>, usize>,
}

/// The maps of `bpf/maps.h` but that of sockets, with the length of their keys.
const MAPS: [(&str, usize, Find); 7] = [
    ("addresses", 16, Find::Exact),
    ("ports", 4, Find::Exact),
    ("settings", 4, Find::Exact),
    ("station", 4, Find::Exact),
    ("allowed", 20, Find::Longest),
    ("fragmented", 40, Find::Exact),
    ("counters", 4, Find::Exact),
];
/// The map of sockets, by the number that stands for its descriptor.
const SOCKETS: usize = MAPS.len();

/// The program with its maps.
#[derive(Debug)]
pub(super) struct Interpreter {
    code: Vec<bpf_insn>,
    maps: Vec<Map>,
    values: Vec<u8>,
    /// Queues that have a socket.
    sockets: HashSet<u64>,
    /// Instructions that the last frame took, those of helpers apart.
    pub(super) steps: usize,
}

/// Memory and registers of one run.
struct Run<'a> {
    of: &'a mut Interpreter,
    context: Vec<u8>,
    packet: Vec<u8>,
    stack: [u8; STACK_BYTES],
    registers: [u64; 11],
}

impl Interpreter {
    /// The program `name` of the object file `object`.
    pub(super) fn load(object: &[u8], name: &str) -> Self {
        let mut object = Object::parse(object).expect("build.rs has made an object file");
        let maps = object.maps.clone();
        let number = |name: &str| MAPS.iter().position(|(known, ..)| *known == name).unwrap_or(SOCKETS);
        let numbered = maps.iter().map(|(name, map)| (name.as_str(), number(name) as i32, map));
        object.relocate_maps(numbered, &HashSet::new()).expect("the program's maps are known");
        let function = object.functions.get(&object.programs[name].function_key()).expect("a program is a function");
        let maps = MAPS.map(|(name, key_bytes, find)| Map { name, key_bytes, find, entries: BTreeMap::new() });
        let mut loaded = Self {
            code: function.instructions.clone(),
            maps: maps.into(),
            values: Vec::new(),
            sockets: HashSet::new(),
            steps: 0,
        };
        loaded.set("settings", &0u32.to_ne_bytes(), 0);
        loaded.set("station", &0u32.to_ne_bytes(), 0);
        for index in 0..COUNTERS as u32 {
            loaded.set("counters", &index.to_ne_bytes(), 0);
        }
        loaded
    }

    /// Makes `value` that of `key`.
    pub(super) fn set(&mut self, map: &str, key: &[u8], value: u64) {
        let map = self.maps.iter_mut().find(|known| known.name == map).expect("a map of the program");
        assert_eq!(key.len(), map.key_bytes);
        let next = self.values.len() / VALUE_BYTES;
        let index = *map.entries.entry(key.to_vec()).or_insert(next);
        if index == next {
            self.values.resize(self.values.len() + VALUE_BYTES, 0);
        }
        self.values[index * VALUE_BYTES..][..VALUE_BYTES].copy_from_slice(&value.to_ne_bytes());
    }

    /// The value of `key`.
    pub(super) fn get(&self, map: &str, key: &[u8]) -> Option<u64> {
        let index = *self.maps.iter().find(|known| known.name == map)?.entries.get(key)?;
        let bytes = self.values.get(index * VALUE_BYTES..)?.first_chunk::<VALUE_BYTES>()?;
        Some(u64::from_ne_bytes(*bytes))
    }

    /// Takes `key` away; false when it was not there.
    pub(super) fn remove(&mut self, map: &str, key: &[u8]) -> bool {
        self.maps.iter_mut().find(|known| known.name == map).is_some_and(|map| map.entries.remove(key).is_some())
    }

    /// Gives receive queue `queue` a socket.
    pub(super) fn set_socket(&mut self, queue: u64) {
        self.sockets.insert(queue);
    }

    /// What the program says of `frame`, which came by queue 0, and makes of it.
    pub(super) fn run(&mut self, frame: &[u8]) -> (u32, Vec<u8>) {
        // data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex (struct xdp_md).
        let end = PACKET + frame.len() as u64;
        let context = [PACKET, end, PACKET, 1, 0, 0].map(|field| (field as u32).to_ne_bytes()).concat();
        let mut registers = [0; 11];
        registers[1] = CONTEXT;
        registers[10] = STACK + STACK_BYTES as u64;
        let mut run = Run { of: self, context, packet: frame.to_vec(), stack: [0; STACK_BYTES], registers };
        (run.finish(), run.packet)
    }
}

impl Map {
    fn find(&self, key: &[u8]) -> Option<usize> {
        if self.find == Find::Exact {
            return self.entries.get(key).copied();
        }
        let bits = |key: &[u8]| key.first_chunk().map_or(0, |bits| u32::from_ne_bytes(*bits));
        let same = |prefix: &[u8]| {
            let len = bits(prefix) as usize;
            let bit = |key: &[u8], at: usize| key[4 + at / 8] >> (7 - at % 8) & 1;
            len <= bits(key) as usize && (0..len).all(|at| bit(prefix, at) == bit(key, at))
        };
        let found = self.entries.iter().filter(|(prefix, _)| same(prefix));
        found.max_by_key(|(prefix, _)| bits(prefix)).map(|(_, value)| *value)
    }
}

impl Run<'_> {
    fn finish(&mut self) -> u32 {
        let mut at = 0;
        for step in 1..=STEPS_MAX {
            self.of.steps = step;
            let instruction = self.of.code[at];
            at += 1;
            match instruction.code {
                0x95 => return self.registers[0] as u32,
                0x85 => self.call(instruction.imm),
                // A constant of two instructions, or a map, of which the number does as its address.
                0x18 => {
                    let high = self.of.code[at].imm as u32;
                    at += 1;
                    self.set(&instruction, u64::from(high) << 32 | u64::from(instruction.imm as u32));
                }
                code => match code & 7 {
                    1..=3 => self.access(&instruction),
                    4 | 7 => self.calculate(&instruction),
                    _ if self.jumps(&instruction) => at = at.strict_add_signed(instruction.off.into()),
                    _ => {}
                },
            }
        }
        panic!("the program does not end");
    }

    fn set(&mut self, instruction: &bpf_insn, value: u64) {
        self.registers[usize::from(instruction.dst_reg())] = value;
    }

    fn dst(&self, instruction: &bpf_insn) -> u64 {
        self.registers[usize::from(instruction.dst_reg())]
    }

    fn src(&self, instruction: &bpf_insn) -> u64 {
        self.registers[usize::from(instruction.src_reg())]
    }

    /// The second operand: a register, or a constant.
    fn operand(&self, instruction: &bpf_insn) -> u64 {
        if instruction.code & 8 != 0 { self.src(instruction) } else { instruction.imm as i64 as u64 }
    }

    fn call(&mut self, helper: i32) {
        let [_, map, key, value, ..] = self.registers;
        self.registers[0] = match helper {
            MAP_LOOKUP_ELEM => {
                let map = &self.of.maps[map as usize];
                let key = self.read_bytes(key, map.key_bytes);
                map.find(&key).map_or(0, |index| VALUES + (index * VALUE_BYTES) as u64)
            }
            MAP_UPDATE_ELEM => {
                let (name, key_bytes) = (self.of.maps[map as usize].name, self.of.maps[map as usize].key_bytes);
                let (key, value) = (self.read_bytes(key, key_bytes), self.read(value, 4));
                self.of.set(name, &key, value);
                0
            }
            MAP_DELETE_ELEM => {
                let (name, key_bytes) = (self.of.maps[map as usize].name, self.of.maps[map as usize].key_bytes);
                let key = self.read_bytes(key, key_bytes);
                if self.of.remove(name, &key) { 0 } else { (-i64::from(libc::ENOENT)) as u64 }
            }
            REDIRECT_MAP => {
                assert_eq!(map as usize, SOCKETS);
                if self.of.sockets.contains(&key) { XDP_REDIRECT } else { value }
            }
            // To the interface that the frame came by (`run`).
            REDIRECT => {
                assert_eq!((map, key), (1, 0));
                XDP_REDIRECT
            }
            ADJUST_TAIL => {
                let length = self.packet.len().strict_add_signed(key as i32 as isize);
                assert!(length <= self.packet.len(), "a frame grows");
                self.packet.truncate(length);
                self.context[4..8].copy_from_slice(&((PACKET as usize + length) as u32).to_ne_bytes());
                0
            }
            GET_BUFF_LEN => self.packet.len() as u64,
            other => panic!("the program calls helper {other}"),
        };
        // A call leaves nothing in the registers of its arguments.
        self.registers[1..=5].fill(0xdead_dead_dead_dead);
    }

    /// Loads and stores: the two bits below the class are the size.
    fn access(&mut self, instruction: &bpf_insn) {
        let bytes = [4, 2, 1, 8][usize::from(instruction.code >> 3 & 3)];
        assert_eq!(instruction.code >> 5, 3, "an access of another kind than to memory: {instruction:?}");
        let offset = i64::from(instruction.off) as u64;
        match instruction.code & 7 {
            1 => {
                let value = self.read(self.src(instruction).wrapping_add(offset), bytes);
                self.set(instruction, value);
            }
            2 => self.write(self.dst(instruction).wrapping_add(offset), bytes, instruction.imm as i64 as u64),
            _ => self.write(self.dst(instruction).wrapping_add(offset), bytes, self.src(instruction)),
        }
    }

    fn calculate(&mut self, instruction: &bpf_insn) {
        let wide = instruction.code & 7 == 7;
        let (mut a, mut b) = (self.dst(instruction), self.operand(instruction));
        if instruction.code >> 4 == 0xd {
            // The machine's order to network order, of so many bits; all that build this are little-endian.
            let swapped = a.swap_bytes() >> (64 - instruction.imm);
            let kept = a & (u64::MAX >> (64 - instruction.imm));
            return self.set(instruction, if instruction.code & 8 != 0 { swapped } else { kept });
        }
        if !wide {
            (a, b) = (a & u64::from(u32::MAX), b & u64::from(u32::MAX));
        }
        let shift = b & if wide { 63 } else { 31 };
        let result = match instruction.code >> 4 {
            0x0 => a.wrapping_add(b),
            0x1 => a.wrapping_sub(b),
            0x2 => a.wrapping_mul(b),
            0x4 => a | b,
            0x5 => a & b,
            0x6 => a << shift,
            0x7 => a >> shift,
            0x8 => a.wrapping_neg(),
            0xa => a ^ b,
            0xb => b,
            0xc if wide => (a as i64 >> shift) as u64,
            0xc => (a as i32 >> shift) as u64,
            _ => panic!("an operation that the interpreter does not know: {instruction:?}"),
        };
        self.set(instruction, if wide { result } else { result & u64::from(u32::MAX) });
    }

    fn jumps(&self, instruction: &bpf_insn) -> bool {
        let (mut a, mut b) = (self.dst(instruction), self.operand(instruction));
        let (mut signed_a, mut signed_b) = (a as i64, b as i64);
        if instruction.code & 7 == 6 {
            (signed_a, signed_b) = (i64::from(a as i32), i64::from(b as i32));
            (a, b) = (a & u64::from(u32::MAX), b & u64::from(u32::MAX));
        }
        match instruction.code >> 4 {
            0x0 => true,
            0x1 => a == b,
            0x2 => a > b,
            0x3 => a >= b,
            0x4 => a & b != 0,
            0x5 => a != b,
            0x6 => signed_a > signed_b,
            0x7 => signed_a >= signed_b,
            0xa => a < b,
            0xb => a <= b,
            0xc => signed_a < signed_b,
            0xd => signed_a <= signed_b,
            _ => panic!("a jump that the interpreter does not know: {instruction:?}"),
        }
    }

    fn read_bytes(&self, address: u64, bytes: usize) -> Vec<u8> {
        let (memory, begin) = match address {
            VALUES.. => (&self.of.values[..], VALUES),
            STACK.. => (&self.stack[..], STACK),
            PACKET.. => (&self.packet[..], PACKET),
            _ => (&self.context[..], CONTEXT),
        };
        let at = address.checked_sub(begin).expect("an address of no memory") as usize;
        memory.get(at..at + bytes).unwrap_or_else(|| panic!("{bytes} bytes at {address:#x} are read")).to_vec()
    }

    fn read(&self, address: u64, bytes: usize) -> u64 {
        let mut value = [0; 8];
        value[..bytes].copy_from_slice(&self.read_bytes(address, bytes));
        u64::from_ne_bytes(value)
    }

    fn write(&mut self, address: u64, bytes: usize, value: u64) {
        let (memory, begin) = match address {
            VALUES.. => (&mut self.of.values[..], VALUES),
            STACK.. => (&mut self.stack[..], STACK),
            PACKET.. => (&mut self.packet[..], PACKET),
            _ => panic!("{bytes} bytes at {address:#x} are written"),
        };
        let at = (address - begin) as usize;
        let place =
            memory.get_mut(at..at + bytes).unwrap_or_else(|| panic!("{bytes} bytes at {address:#x} are written"));
        place.copy_from_slice(&value.to_ne_bytes()[..bytes]);
    }
}
