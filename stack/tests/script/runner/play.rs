//! A script played on a host: `play`.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::host::{Host, Outcome};
use super::packet::{Conversation, Sent, fits};
use super::parse::{Event, Script};
use super::syntax::{Act, Call, Received, Segment, What, When};
use super::v6::build;
use super::v6::layers::{Icmp, Payload};
use super::v6::told::{Said, Told};

/// Where a script and a host part.
#[derive(Debug)]
pub struct Failure {
    path: String,
    line: usize,
    text: String,
    expected: String,
    got: String,
    so_far: Vec<String>,
    /// How much later than it should the peer, or the application, has done something: time is real on some hosts.
    pub lag: Duration,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, text, expected, got, so_far, .. } = self;
        writeln!(f, "stack/tests/script/{path}:{line}: {text}")?;
        writeln!(f, "  expected: {expected}")?;
        writeln!(f, "  got:      {got}")?;
        writeln!(f, "  so far:")?;
        so_far.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// Plays `script` on `host`. Returns what happened, line by line.
///
/// # Errors
/// The first line that does not come true.
pub fn play(script: &Script, host: &mut dyn Host) -> Result<Vec<String>, Box<Failure>> {
    let mut play = Play {
        script,
        host,
        conversations: HashMap::new(),
        last: Duration::ZERO,
        settled: Duration::ZERO,
        lag: Duration::ZERO,
        so_far: Vec::new(),
    };
    for event in &script.events {
        play.event(event).map_err(|parted| play.failure(event.line, &event.text, parted))?;
    }
    if let Some((at, frame)) = play.host.sent() {
        let end = script.events.last().map_or(0, |event| event.line);
        let got = play.read(at, &frame).map_or_else(|error| error, |got| got.text);
        return Err(play.failure(end, "the end of the script", Parted { expected: "nothing more".to_owned(), got }));
    }
    Ok(play.so_far)
}

/// What was to happen, and what did.
struct Parted {
    expected: String,
    got: String,
}

struct Play<'a> {
    script: &'a Script,
    host: &'a mut dyn Host,
    conversations: HashMap<u8, Conversation>,
    /// When the last line came true.
    last: Duration,
    /// When the host had done all that it does at once about the last line of the peer's or of the application's.
    settled: Duration,
    lag: Duration,
    so_far: Vec<String>,
}

impl Play<'_> {
    fn failure(&mut self, line: usize, text: &str, parted: Parted) -> Box<Failure> {
        let Parted { expected, got } = parted;
        let so_far = std::mem::take(&mut self.so_far);
        let (path, text, lag) = (self.script.path.clone(), text.to_owned(), self.lag);
        Box::new(Failure { path, line, text, expected, got, so_far, lag })
    }

    fn conversation(&mut self, peer: u8) -> &mut Conversation {
        let (ports, isn) = (self.host.ports(peer), self.script.settings.peer_isn);
        let first = isn.unwrap_or(100_000 * u32::from(peer));
        self.conversations.entry(peer).or_insert_with(|| Conversation::new(ports, first))
    }

    /// Notes that the host's time is what it is when it should be `at`.
    fn note_lag(&mut self, at: Duration) {
        self.lag = self.lag.max(self.host.now().saturating_sub(at));
    }

    fn note(&mut self, at: Duration, text: &str) {
        self.so_far.push(format!("{:.6} {text}", at.as_secs_f64()));
    }

    fn event(&mut self, event: &Event) -> Result<(), Parted> {
        match &event.act {
            Act::Out(segment) => return self.expect(event, Wanted::Segment(segment)),
            Act::Told(told) => return self.expect(event, Wanted::Told(told)),
            _ => {}
        }
        let at = match event.when {
            When::At(at) => at,
            When::After(span) => self.last + span,
            When::Within(..) | When::AnyTime => unreachable!("the parser refuses it"),
        };
        let quiet = self.pass_until(at);
        self.note_lag(at);
        quiet?;
        self.last = at;
        let ends = self.host.ends();
        match &event.act {
            Act::In(segment) => {
                let frame = self.conversation(segment.peer).write(&ends, segment);
                self.note(at, &format!("< {segment}"));
                self.host.take(&frame);
            }
            Act::Icmp(icmp) => {
                let frame = self.conversation(icmp.peer).write_icmp(&ends, icmp);
                self.note(at, &format!("< {icmp:?}"));
                self.host.take(&frame);
            }
            Act::Packet(packet) => {
                let peer = match &packet.payload {
                    Payload::Segment(segment) => segment.peer,
                    Payload::Icmp(Icmp::Error { peer, .. }) => *peer,
                    _ => 1,
                };
                let frame = build::frame(packet, &ends, self.conversation(peer));
                self.note(at, &format!("< {}", packet.text));
                self.host.take(&frame);
            }
            Act::Call(call) => {
                if matches!(call.what, What::Connect(_)) {
                    self.conversation(call.peer).host_connects();
                }
                let outcome = self.host.call(call);
                self.note(at, &format!("{:?}: {outcome:?}", call.what));
                self.note_lag(at);
                judge(call, outcome)?;
            }
            Act::Quiet | Act::Out(_) | Act::Told(_) => {}
        }
        self.note_lag(at);
        self.settled = self.host.now();
        Ok(())
    }

    /// Lets time pass until `at`; the host is to send nothing meanwhile.
    fn pass_until(&mut self, at: Duration) -> Result<(), Parted> {
        loop {
            if let Some((sent_at, frame)) = self.host.sent() {
                let got = self.read(sent_at, &frame).map_or_else(|error| error, |got| got.text);
                let expected = format!("nothing until {:.6}", at.as_secs_f64());
                return Err(Parted { expected, got });
            }
            if self.host.now() >= at {
                return Ok(());
            }
            self.host.wait(at);
        }
    }

    /// Waits for a segment or another packet of the host's.
    fn expect(&mut self, event: &Event, wanted: Wanted<'_>) -> Result<(), Parted> {
        let tolerance = self.host.tolerance();
        let exact = |at: Duration| {
            // What is due at once has been sent by now.
            let late = if at == self.last { Duration::ZERO } else { tolerance.late };
            (at.saturating_sub(tolerance.early).max(self.last), at + late)
        };
        let (earliest, latest) = match event.when {
            When::At(at) => exact(at),
            When::After(span) => exact(self.last + span),
            When::Within(from, to) => (self.last + from, self.last + to + tolerance.late),
            When::AnyTime => (self.last, self.last + tolerance.ever),
        };
        let expected = format!("{:.6}~{:.6} > {wanted}", earliest.as_secs_f64(), latest.as_secs_f64());
        loop {
            if let Some((at, frame)) = self.host.sent() {
                let got = match self.read(at, &frame) {
                    Ok(read) => read,
                    Err(got) => return Err(Parted { expected, got }),
                };
                let in_time = at >= earliest.saturating_sub(tolerance.early) && at <= latest.max(self.settled);
                if !in_time || !self.is_wanted(wanted, &got) {
                    return Err(Parted { expected, got: got.text });
                }
                self.last = at;
                self.so_far.push(got.text);
                return Ok(());
            }
            if self.host.now() >= latest {
                return Err(Parted { expected, got: format!("nothing until {:.6}", latest.as_secs_f64()) });
            }
            self.host.wait(latest);
        }
    }

    fn is_wanted(&self, wanted: Wanted<'_>, got: &Got) -> bool {
        match wanted {
            Wanted::Segment(segment) => got.segment.as_ref().is_some_and(|got| fits(segment, got)),
            Wanted::Told(told) => {
                let ends = self.host.ends();
                got.said.as_ref().is_some_and(|said| told.fits(said, got.segment.as_ref(), &ends))
            }
        }
    }

    /// Reads a frame that was sent at `at`.
    ///
    /// # Errors
    /// What is wrong with it whatever the script says.
    fn read(&mut self, at: Duration, frame: &[u8]) -> Result<Got, String> {
        let seconds = at.as_secs_f64();
        let said = Said::read(frame, &self.host.ends()).transpose()?;
        let Some(sent) = Sent::read(frame) else {
            let text = match &said {
                Some(said) => format!("{seconds:.6} > {said}"),
                None => format!("{seconds:.6} > {frame:02x?}"),
            };
            return Ok(Got { text, said, segment: None });
        };
        let peers = 1..=9;
        let Some(peer) = peers.into_iter().find(|&peer| self.host.ports(peer).0 == sent.peer_port) else {
            return Ok(Got { text: format!("{seconds:.6} > {sent:?}"), said, segment: None });
        };
        let segment = self.conversation(peer).read(&sent, peer)?;
        Ok(Got { text: format!("{seconds:.6} > {segment}"), said, segment: Some(segment) })
    }
}

/// What the host is to send.
#[derive(Debug, Clone, Copy)]
enum Wanted<'a> {
    Segment(&'a Segment),
    Told(&'a Told),
}

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => segment.fmt(f),
            Self::Told(told) => f.write_str(&told.text),
        }
    }
}

/// What it has sent: as text, as a packet of IPv6 and as a segment, if it is one.
struct Got {
    text: String,
    said: Option<Said>,
    segment: Option<Segment>,
}

/// Whether a call gave what it had to.
fn judge(call: &Call, outcome: Outcome) -> Result<(), Parted> {
    let wanted = match &call.what {
        What::Connect(true) | What::Accept(true) | What::Readable(true) | What::Writable(true) => Outcome::Done,
        What::Connect(false) | What::Accept(false) | What::Readable(false) | What::Writable(false) => Outcome::None,
        What::Up | What::Listen | What::Opened | What::Shutdown | What::Close | What::Abort => Outcome::Done,
        What::Send(_, bytes) => Outcome::Bytes(*bytes),
        What::Recv(_, Received::Bytes(bytes)) => Outcome::Bytes(*bytes),
        What::Recv(_, Received::None) => Outcome::None,
        What::Recv(_, Received::End) => Outcome::End,
        What::Closed(reason) => Outcome::Ended(*reason),
        What::State(state) => Outcome::State(*state),
    };
    if outcome == wanted {
        return Ok(());
    }
    Err(Parted { expected: format!("{:?}: {wanted:?}", call.what), got: format!("{outcome:?}") })
}
