//! The same odd segments to our stack and to the Linux kernel, in every state of a connection; what both answer is
//! compared. Where they differ, `kernel_differential/differences.txt` says why, or the test fails.
//!
//! Needs root; without it the test says so and passes. `SIDESTEP_DIFFERENTIAL_SEED` and `SIDESTEP_DIFFERENTIAL_CASES`
//! draw others. Nothing depends on time: a host's limits are out of the way, and an echo request behind each segment
//! says when no more answers come (`host.rs`).

#[path = "kernel_differential/differences.rs"]
mod differences;
#[path = "kernel_differential/host.rs"]
mod host;
#[path = "lab/lab.rs"]
mod lab;
#[path = "kernel_differential/segment.rs"]
mod segment;
#[path = "../../nic/tests/xdp_veth/lab.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod veth;

use differences::Differences;
use host::{Host, Kernel, Ours};
use lab::raw::{ACK, FIN, PSH, RST, SYN, Tcp};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use segment::{Answer, BENDS, Bend, Segment, URG, letters};

/// Where the connection is when the odd segment comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Listen,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    Closing,
    TimeWait,
    CloseWait,
    LastAck,
}

const STATES: [State; 10] = [
    State::Closed,
    State::Listen,
    State::SynReceived,
    State::Established,
    State::FinWait1,
    State::FinWait2,
    State::Closing,
    State::TimeWait,
    State::CloseWait,
    State::LastAck,
];

const FLAGS: [u8; 16] = [
    ACK,
    ACK | PSH,
    ACK | FIN,
    ACK | URG,
    RST,
    RST | ACK,
    SYN,
    SYN | ACK,
    0,
    PSH,
    FIN,
    SYN | FIN,
    SYN | RST,
    FIN | RST,
    SYN | FIN | ACK,
    SYN | FIN | RST | PSH | ACK | URG,
];

/// Offsets from the next sequence number expected. The window of either host ends between 2,000 and 70,000.
const SEQ: [i32; 9] = [0, 0, -1, -2_000, 1, 2_000, 70_000, -70_000, i32::MIN];
/// Offsets from what the host has sent.
const ACKED: [i32; 7] = [0, 0, 1, 1_000_000, -1, -100_000, i32::MIN];
const LENGTHS: [usize; 3] = [0, 1, 100];

/// Options of a SYN: none, a segment size, two, one that lies about its length, window scale and SACK twice.
const OPTIONS: [&[u8]; 5] =
    [&[], &[2, 4, 5, 0xb4], &[2, 4, 5, 0xb4, 2, 4, 2, 0], &[2, 40, 5, 0xb4], &[4, 2, 4, 2, 1, 3, 3, 2, 3, 3, 14, 1]];

/// An odd segment.
#[derive(Debug, Clone, Copy)]
struct Case {
    state: State,
    flags: u8,
    seq: i32,
    ack: i32,
    len: usize,
    options: usize,
    bend: Bend,
}

impl Case {
    fn draw(rng: &mut Xoshiro256PlusPlus) -> Self {
        let mut pick = |count: usize| (rng.next_u64() % count as u64) as usize;
        let flags = FLAGS[pick(FLAGS.len())];
        Self {
            state: STATES[pick(STATES.len())],
            flags,
            seq: SEQ[pick(SEQ.len())],
            ack: ACKED[pick(ACKED.len())],
            len: LENGTHS[pick(LENGTHS.len())],
            options: if flags & SYN != 0 { pick(OPTIONS.len()) } else { 0 },
            // Every other is a plain one.
            bend: BENDS[pick(2 * BENDS.len()) % BENDS.len() * pick(2)],
        }
    }

    /// The words by which `differences.txt` knows the case.
    fn words(&self, what: &str) -> [String; 8] {
        let Self { state, flags, seq, ack, len, options, bend } = self;
        let named = [format!("{state:?}"), letters(*flags), format!("seq{seq:+}"), format!("ack{ack:+}")];
        let [state, flags, seq, ack] = named;
        [state, flags, seq, ack, format!("len{len}"), format!("options{options}"), format!("{bend:?}"), what.to_owned()]
    }
}

/// One host in one conversation.
struct Conversation<'a> {
    host: &'a mut dyn Host,
    ports: (u16, u16),
    peer_isn: u32,
    host_isn: u32,
    /// The next sequence numbers of both.
    seq: u32,
    ack: u32,
    /// What the host has said that takes sequence numbers: the same again is a retransmission, which time brings.
    said: Vec<(u8, u32)>,
}

impl<'a> Conversation<'a> {
    fn new(host: &'a mut dyn Host, port: u16, isn: u32) -> Self {
        let ports = (port, host.port());
        Self { host, ports, peer_isn: isn, host_isn: 0, seq: isn, ack: 0, said: Vec::new() }
    }

    fn segment(&self, flags: u8) -> Segment {
        let Self { ports, seq, ack, .. } = *self;
        Segment { ports, flags, seq, ack, options: &[], len: 0, bend: Bend::Plain }
    }

    /// Gives the host a segment and returns its answers.
    fn say(&mut self, segment: &Segment) -> Vec<Tcp> {
        let frame = segment.frame(&self.host.ends());
        let mut answers = self.host.exchange(&[frame], self.ports.0);
        answers.retain(|answer| {
            let takes = answer.flags & (SYN | FIN) != 0 || !answer.data.is_empty();
            let what = (answer.flags & (SYN | FIN), answer.seq);
            let new = !takes || !self.said.contains(&what);
            self.said.extend(takes.then_some(what));
            new
        });
        answers
    }

    /// Sends a segment of the conversation itself.
    fn go_on(&mut self, flags: u8) -> Vec<Tcp> {
        let answers = self.say(&self.segment(flags));
        self.seq = self.seq.wrapping_add(u32::from(flags & (SYN | FIN) != 0));
        if let Some(fin) = answers.iter().find(|answer| answer.flags & FIN != 0) {
            self.ack = fin.seq.wrapping_add(1);
        }
        answers
    }

    /// A byte that was received before: nothing of the conversation, and answered at once with where the host is.
    fn old_byte(&self) -> Segment {
        Segment { seq: self.seq.wrapping_sub(1), len: 1, ..self.segment(ACK | PSH) }
    }

    /// Has the host's FIN come, which it sends when its application is done.
    fn take_fin(&mut self) {
        let answers = self.say(&self.old_byte());
        let fin = answers.iter().find(|answer| answer.flags & FIN != 0).expect("a FIN");
        self.ack = fin.seq.wrapping_add(1);
    }

    fn reach(&mut self, state: State) {
        match state {
            State::Closed => self.ports.1 = 9,
            State::Listen => {}
            State::SynReceived => {
                let syn_ack = self.go_on(SYN);
                assert_eq!((syn_ack.len(), syn_ack[0].flags), (1, SYN | ACK));
                self.host_isn = syn_ack[0].seq;
                self.ack = self.host_isn.wrapping_add(1);
            }
            State::Established => {
                self.reach(State::SynReceived);
                self.go_on(ACK);
            }
            State::FinWait1 => {
                self.reach(State::Established);
                self.host.shut_down();
                self.take_fin();
                self.ack = self.ack.wrapping_sub(1);
            }
            State::FinWait2 => {
                self.reach(State::FinWait1);
                self.ack = self.ack.wrapping_add(1);
                self.go_on(ACK);
            }
            State::Closing => {
                self.reach(State::FinWait1);
                self.go_on(ACK | FIN);
            }
            State::TimeWait => {
                self.reach(State::Established);
                self.host.close();
                self.take_fin();
                self.go_on(ACK | FIN);
            }
            State::CloseWait => {
                self.reach(State::Established);
                self.go_on(ACK | FIN);
            }
            State::LastAck => {
                self.reach(State::CloseWait);
                self.host.shut_down();
                self.take_fin();
                self.ack = self.ack.wrapping_sub(1);
            }
        }
    }

    /// Plays a case. Returns what the host has answered, and then, asked where it is by an old byte, has said.
    fn play(mut self, case: &Case) -> (Vec<Answer>, Vec<Answer>) {
        self.reach(case.state);
        if !matches!(case.state, State::Closed | State::Listen) {
            // What it owes for the way here, it says now.
            self.say(&self.old_byte());
        }
        let Case { flags, len, bend, .. } = *case;
        let (seq, ack) = (self.seq.wrapping_add_signed(case.seq), self.ack.wrapping_add_signed(case.ack));
        let odd = Segment { ports: self.ports, flags, seq, ack, options: OPTIONS[case.options], len, bend };
        let answers = self.say(&odd);
        let then = self.say(&self.old_byte());
        // Nothing is to be left of it, wherever it has got to.
        for seq in then.iter().map(|answer| answer.ack).chain([self.seq]) {
            self.say(&Segment { seq, ..self.segment(RST) });
        }
        self.host.end();
        if let Some(syn_ack) = answers.iter().find(|answer| answer.flags & SYN != 0) {
            self.host_isn = syn_ack.seq;
        }
        let read = |answers: &[Tcp]| -> Vec<Answer> {
            answers.iter().map(|answer| Answer::of(answer, self.host_isn, self.peer_isn)).collect()
        };
        let (mut answers, mut then) = (read(&answers), read(&then));
        // The delayed ACK of the one, and the ACK of the other, at once.
        then.dedup();
        // Of what was taken the ACK may wait, on either host.
        let expected = self.seq.wrapping_sub(self.peer_isn) as i32;
        if then.iter().any(|answer| answer.flags & RST == 0 && answer.ack.is_some_and(|ack| ack > expected)) {
            answers.retain(|answer| !answer.is_bare_ack());
        }
        (answers, then)
    }
}

/// What differs: the answers to the odd segment, where the host is then, or both.
fn differing(here: &(Vec<Answer>, Vec<Answer>), there: &(Vec<Answer>, Vec<Answer>)) -> Option<&'static str> {
    match (here.0 != there.0, here.1 != there.1) {
        (false, false) => None,
        (true, false) => Some("answer"),
        (false, true) => Some("then"),
        (true, true) => Some("both"),
    }
}

fn spelled((answers, then): &(Vec<Answer>, Vec<Answer>)) -> String {
    let list = |answers: &[Answer]| answers.iter().map(|answer| answer.to_string()).collect::<Vec<_>>().join(",");
    format!("[{}]then[{}]", list(answers), list(then))
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn odd_segments_are_answered_as_the_kernel_answers_them() {
    let Some(mut kernel) = Kernel::new() else { return };
    let mut ours = Ours::new();
    let (seed, cases) =
        (from_environment("SIDESTEP_DIFFERENTIAL_SEED", 1), from_environment("SIDESTEP_DIFFERENTIAL_CASES", 12_000));
    println!("seed {seed}, {cases} cases");
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut differences = Differences::read();
    let mut unexplained = Vec::new();
    for number in 0..cases {
        let case = Case::draw(&mut rng);
        let (port, isn) = (10_000 + (number % 50_000) as u16, rng.next_u32());
        let here = Conversation::new(&mut ours, port, isn).play(&case);
        let there = Conversation::new(&mut kernel, port, isn).play(&case);
        let Some(what) = differing(&here, &there) else { continue };
        let words = case.words(what);
        if !differences.explain(&words) {
            unexplained.push(format!("{} | ours {} | kernel {}", words.join(" "), spelled(&here), spelled(&there)));
        }
    }
    for line in &unexplained {
        println!("{line}");
    }
    assert!(unexplained.is_empty(), "{} of {cases} differ and no line says why", unexplained.len());
    if seed == 1 {
        assert_eq!(differences.unused(), Vec::<String>::new(), "explains nothing any more");
    }
}
