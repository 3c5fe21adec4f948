//! `cache/tests/crashes.md`: what crashed, hung or leaked a memcached, and what is sent here to show it.

use differential::differences::unescape;
use differential::packet::{self, Packet};

/// What a server is started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// As it is without options.
    Plain,
    /// `-Y`, with foo:bar in its file.
    Auth,
    /// `-X`.
    NoDump,
}

/// One line of what is played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A client sends.
    Send(String, Vec<u8>),
    /// It has received this and nothing else since the last look.
    Is(String, Vec<u8>),
    /// The same, of packets: a line each, uniques left out.
    IsPackets(String, String),
    /// It has received this among others.
    Has(String, Vec<u8>),
    /// It has received so many bytes.
    Got(String, usize),
    /// The server has closed it.
    Closed(String),
    /// It reads from now on, or reads nothing.
    Reads(String, bool),
    /// It closes.
    Leaves(String),
    /// Seconds pass.
    Wait(u32),
    /// The file of `-Y` holds this name and password.
    Users(String, String),
}

impl Step {
    /// Whose step it is; `None`: nobody's.
    pub fn client(&self) -> Option<&str> {
        match self {
            Step::Send(client, _)
            | Step::Is(client, _)
            | Step::IsPackets(client, _)
            | Step::Has(client, _)
            | Step::Got(client, _)
            | Step::Closed(client)
            | Step::Reads(client, _)
            | Step::Leaves(client) => Some(client),
            Step::Wait(_) | Step::Users(..) => None,
        }
    }
}

impl Step {
    /// What is wrong with what was `received`, if anything is; `None`: this step is not about that.
    pub fn judge(&self, received: &[u8]) -> Option<Result<(), String>> {
        let shown = |bytes: &[u8]| {
            let (start, end) = (bytes.len().min(300), bytes.len().saturating_sub(300));
            format!("{} bytes, {} ... {}", bytes.len(), bytes[..start].escape_ascii(), bytes[end..].escape_ascii())
        };
        let check = |holds: bool| if holds { Ok(()) } else { Err(format!("it received {}", shown(received))) };
        Some(match self {
            Step::Is(_, expected) => check(received == &expected[..]),
            Step::IsPackets(_, expected) => {
                let lines = packet::lines(received, |response| if response.cas == 0 { "0" } else { "new" }.to_owned());
                if lines == expected.as_bytes() { Ok(()) } else { Err(String::from_utf8_lossy(&lines).into_owned()) }
            }
            Step::Has(_, text) => check(received.windows(text.len()).any(|bytes| bytes == text)),
            Step::Got(_, bytes) => check(received.len() == *bytes),
            _ => return None,
        })
    }
}

/// One fault of memcached's.
#[derive(Debug)]
pub struct Crash {
    /// Its heading.
    pub name: String,
    /// The release that mended it.
    pub version: String,
    /// The change that did.
    pub commit: String,
    /// What went wrong.
    pub cause: String,
    pub started: Started,
    /// The line of `stats` that must have grown, if not `bytes_read`.
    pub counted: Option<String>,
    /// Why there is no input.
    pub not_played: Option<String>,
    /// Why memcached answers otherwise, where it does.
    pub unlike_memcached: Option<String>,
    /// What is played, each with its line's number.
    pub steps: Vec<(usize, Step)>,
    /// Command lines, and whether each is taken.
    pub options: Vec<(String, bool)>,
}

impl Crash {
    /// Bytes that its clients send in all.
    pub fn bytes_sent(&self) -> usize {
        let bytes = |(_, step): &(usize, Step)| if let Step::Send(_, bytes) = step { bytes.len() } else { 0 };
        self.steps.iter().map(bytes).sum()
    }
}

/// Reads the list. Panics, with the line, where it does not say what it should.
pub fn listed(text: &str) -> Vec<Crash> {
    let mut crashes: Vec<Crash> = Vec::new();
    let mut block = "";
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        if let Some(name) = line.strip_prefix("## ") {
            crashes.push(Crash {
                name: name.to_owned(),
                version: String::new(),
                commit: String::new(),
                cause: String::new(),
                started: Started::Plain,
                counted: None,
                not_played: None,
                unlike_memcached: None,
                steps: Vec::new(),
                options: Vec::new(),
            });
            continue;
        }
        let Some(crash) = crashes.last_mut() else { continue };
        match (block, line) {
            ("", "```play" | "```options") => block = &line[3..],
            (_, "```") => block = "",
            ("play", line) => {
                let step = step(line).unwrap_or_else(|| panic!("line {number}: {line}"));
                crash.steps.push((number, step));
            }
            ("options", line) => match line.split_at_checked(2) {
                Some(("> ", options)) => crash.options.push((options.to_owned(), true)),
                Some(("< ", verdict @ ("taken" | "refused"))) => {
                    crash.options.last_mut().unwrap_or_else(|| panic!("line {number}: of what?")).1 =
                        verdict == "taken";
                }
                _ => panic!("line {number}: {line}"),
            },
            (_, line) => {
                if let Some((field, value)) = line.strip_prefix("- ").and_then(|line| line.split_once(": ")) {
                    tell(crash, field, value, number);
                }
            }
        }
    }
    crashes
}

fn tell(crash: &mut Crash, field: &str, value: &str, number: usize) {
    let text = value.to_owned();
    match (field, value) {
        ("version", _) => crash.version = text,
        ("commit", _) => crash.commit = text,
        ("cause", _) => crash.cause = text,
        ("server", "auth") => crash.started = Started::Auth,
        ("server", "no dump") => crash.started = Started::NoDump,
        ("counted", _) => crash.counted = Some(text),
        ("not played", _) => crash.not_played = Some(text),
        ("as memcached", _) => crash.unlike_memcached = Some(text),
        _ => panic!("line {number}: {field}: {value}"),
    }
}

/// Reads a line of what is played; `None`: it is none.
fn step(line: &str) -> Option<Step> {
    let (client, rest) = line.split_once(' ')?;
    let (verb, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let who = client.to_owned();
    Some(match (client, verb) {
        ("wait", seconds) => Step::Wait(seconds.parse().ok()?),
        ("users", pair) => {
            let (name, password) = pair.split_once(':')?;
            Step::Users(name.to_owned(), password.to_owned())
        }
        (_, ">") => Step::Send(who, unescape(text)?),
        (_, ">b") => {
            let (times, packet) = text.split_once('*').unwrap_or(("1", text));
            Step::Send(who, Packet::read(packet).ok()?.encode().repeat(times.parse().ok()?))
        }
        // The text once for each number, which stands where `%` is.
        (_, ">n") => {
            let (times, text) = text.split_once(' ')?;
            let each = (1..=times.parse().ok()?).map(|at: usize| unescape(&text.replace('%', &at.to_string())));
            Step::Send(who, each.collect::<Option<Vec<_>>>()?.concat())
        }
        (_, "<") => Step::Is(who, unescape(text)?),
        (_, "<b") => Step::IsPackets(who, format!("{text}\r\n")),
        (_, "has") if !text.is_empty() => Step::Has(who, unescape(text)?),
        (_, "got") => Step::Got(who, text.parse().ok()?),
        (_, "closed") => Step::Closed(who),
        (_, "deaf") => Step::Reads(who, false),
        (_, "reads") => Step::Reads(who, true),
        (_, "leaves") => Step::Leaves(who),
        _ => return None,
    })
}
