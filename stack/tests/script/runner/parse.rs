//! Scripts read: `Script::parse`. Whatever is not understood is an error that names its file and line.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::syntax::{Act, Call, FLAGS, Icmp, Reason, Received, Segment, State, TcpOption, What, When};
use super::v6::layers::Packet;
use super::v6::told::Told;

/// A script.
#[derive(Debug, Clone)]
pub struct Script {
    /// Folder and name.
    pub path: String,
    pub settings: Settings,
    pub events: Vec<Event>,
}

/// A line that says what happens.
#[derive(Debug, Clone)]
pub struct Event {
    pub line: usize,
    pub text: String,
    pub when: When,
    pub act: Act,
}

/// What the lines `--name=value` say.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The first sequence numbers of the peer and of the host, instead of any.
    pub peer_isn: Option<u32>,
    pub isn: Option<u32>,
    /// Whether it is played over IPv6.
    pub v6: bool,
    /// Whether the script itself has the neighbours' questions and answers; else the peer's are given for it.
    pub shows_neighbors: bool,
    /// The peer's address, where it is not on the link.
    pub peer: Option<Ipv6Addr>,
    /// Settings of our stack, by name.
    pub stack: Vec<(String, String)>,
}

impl Script {
    /// Reads `text`, which is that of the file `path`.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn parse(path: &str, text: &str) -> Result<Self, String> {
        let mut script = Self { path: path.to_owned(), settings: Settings::default(), events: Vec::new() };
        if !text.lines().next().is_some_and(names_a_clause) {
            return Err(format!(
                "{path}:1: the first line must be a comment that names its clause: // RFC 9293 §3.4: ..."
            ));
        }
        for (number, line) in text.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default().trim();
            script.take(number + 1, line).map_err(|error| format!("{path}:{}: `{line}`: {error}", number + 1))?;
        }
        Ok(script)
    }

    fn take(&mut self, line: usize, text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        if let Some(setting) = text.strip_prefix("--") {
            let (name, value) = setting.split_once('=').ok_or("a setting is --name=value")?;
            match name {
                "peer_isn" => self.settings.peer_isn = Some(number(value)?),
                "isn" => self.settings.isn = Some(number(value)?),
                "ip_version" => self.settings.v6 = named(&[("ipv4", false), ("ipv6", true)], value)?,
                "neighbors" => {
                    self.settings.shows_neighbors = named(&[("hidden", false), ("shown", true)], value)?;
                }
                "peer" => self.settings.peer = Some(number(value)?),
                _ => self.settings.stack.push((name.to_owned(), value.to_owned())),
            }
            return Ok(());
        }
        let (when, what) = text.split_once(char::is_whitespace).ok_or("a line is a time and what happens then")?;
        let (when, act) = (read_when(when)?, read_act(what.trim())?);
        if matches!(when, When::AnyTime | When::Within(..)) && !matches!(act, Act::Out(_) | Act::Told(_)) {
            return Err("only what the host sends may come at some time or other".to_owned());
        }
        self.events.push(Event { line, text: text.to_owned(), when, act });
        Ok(())
    }

    /// Whether the host listens.
    pub fn listens(&self) -> bool {
        self.calls(|what| matches!(what, What::Listen))
    }

    /// Whether the host connects.
    pub fn connects(&self) -> bool {
        self.calls(|what| matches!(what, What::Connect(_)))
    }

    /// Whether the host begins to use its address in it.
    pub fn comes_up(&self) -> bool {
        self.calls(|what| matches!(what, What::Up))
    }

    fn calls(&self, which: impl Fn(&What) -> bool) -> bool {
        self.events.iter().any(|event| matches!(&event.act, Act::Call(call) if which(&call.what)))
    }

    /// How long it takes at the least, where a line that says nothing of its time takes `any_time`.
    pub fn span(&self, any_time: Duration) -> Duration {
        self.events.iter().fold(Duration::ZERO, |at, event| match event.when {
            When::At(moment) => at.max(moment),
            When::After(span) | When::Within(span, _) => at + span,
            When::AnyTime => at + any_time,
        })
    }
}

/// Whether a line is a comment that names a clause of an RFC.
fn names_a_clause(line: &str) -> bool {
    let Some((_, clause)) = line.split_once("RFC ") else { return false };
    line.starts_with("//")
        && clause.starts_with(|c: char| c.is_ascii_digit())
        && clause.split_once('§').is_some_and(|(_, section)| section.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

pub fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number that fits here"))
}

/// A number, or `*`.
fn number_or_any<T: std::str::FromStr>(text: &str) -> Result<Option<T>, String> {
    if text == "*" { Ok(None) } else { number(text).map(Some) }
}

fn span(text: &str) -> Result<Duration, String> {
    let seconds: f64 = number(text)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("`{text}` is no time in seconds"))
}

fn read_when(text: &str) -> Result<When, String> {
    if text == "*" {
        return Ok(When::AnyTime);
    }
    let Some(relative) = text.strip_prefix('+') else { return span(text).map(When::At) };
    match relative.split_once('~') {
        None => span(relative).map(When::After),
        Some((from, to)) => {
            let (from, to) = (span(from)?, span(to.trim_start_matches('+'))?);
            if from <= to { Ok(When::Within(from, to)) } else { Err("from late to early".to_owned()) }
        }
    }
}

fn read_act(text: &str) -> Result<Act, String> {
    match text.split_once(char::is_whitespace) {
        Some(("<", rest)) if rest.trim().split(' ').any(|word| word == "icmp") => read_icmp(rest.trim()).map(Act::Icmp),
        Some(("<", rest)) => match Packet::parse(rest.trim())? {
            Some(packet) => Ok(Act::Packet(packet)),
            None => read_segment(rest.trim()).map(Act::In),
        },
        Some((">", rest)) => match Told::parse(rest.trim())? {
            Some(told) => Ok(Act::Told(told)),
            None => read_segment(rest.trim()).map(Act::Out),
        },
        _ if text == "quiet" => Ok(Act::Quiet),
        _ => read_call(text).map(Act::Call),
    }
}

/// Takes `@2` off the front of a line.
pub fn read_peer(text: &str) -> Result<(u8, &str), String> {
    let Some(rest) = text.strip_prefix('@') else { return Ok((1, text)) };
    let (peer, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    match number(peer)? {
        peer @ 1..=9 => Ok((peer, rest.trim())),
        _ => Err("the peer's ports are @1 to @9".to_owned()),
    }
}

/// `from:to(len)`.
pub fn read_range(text: &str) -> Result<(i64, usize), String> {
    let wrong = || format!("`{text}` is not first:next(length)");
    let (seq, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (end, len) = rest.strip_suffix(')').and_then(|rest| rest.split_once('(')).ok_or_else(wrong)?;
    let (seq, end, len): (i64, i64, u16) = (number(seq)?, number(end)?, number(len)?);
    if seq + i64::from(len) != end {
        return Err(format!("`{text}`: {seq} and {len} bytes are {}", seq + i64::from(len)));
    }
    Ok((seq, usize::from(len)))
}

pub fn read_segment(text: &str) -> Result<Segment, String> {
    let (text, options) = match text.split_once('<') {
        None => (text, Some(Vec::new())),
        Some((text, options)) => {
            let list = options.strip_suffix('>').ok_or("the options end with >")?;
            (text, if list == "..." { None } else { Some(read_options(list)?) })
        }
    };
    let (peer, text) = read_peer(text.trim())?;
    let mut words = text.split_whitespace();
    let mut flags = 0;
    for letter in words.next().ok_or("a segment has flags")?.chars().filter(|&letter| letter != '-') {
        let known = FLAGS.iter().find(|(known, _)| *known == letter);
        flags |= known.ok_or_else(|| format!("`{letter}` is no flag: F S R P . U E W, or - for none"))?.1;
    }
    let (seq, len) = read_range(words.next().ok_or("a segment has sequence numbers")?)?;
    let mut segment = Segment { peer, flags, seq, len, ack: None, win: None, options };
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{word}` wants a value"))?;
        match word {
            "ack" => segment.ack = Some(number(value)?),
            "win" => segment.win = Some(number(value)?),
            _ => return Err(format!("`{word}` is neither ack nor win")),
        }
    }
    if segment.ack.is_some() != (flags & 16 != 0) {
        return Err("the flag . and an ack belong together".to_owned());
    }
    Ok(segment)
}

fn read_options(list: &str) -> Result<Vec<TcpOption>, String> {
    list.split(',').map(|option| read_option(&option.split_whitespace().collect::<Vec<_>>())).collect()
}

fn read_option(words: &[&str]) -> Result<TcpOption, String> {
    Ok(match words {
        ["eol"] => TcpOption::End,
        ["nop"] => TcpOption::Nop,
        ["mss", mss] => TcpOption::Mss(number_or_any(mss)?),
        ["wscale", bits] => TcpOption::WindowScale(number_or_any(bits)?),
        ["sackOK"] => TcpOption::SackPermitted,
        ["sack", blocks @ ..] if !blocks.is_empty() => {
            let block = |text: &&str| {
                let (from, to) = text.split_once(':').ok_or_else(|| format!("`{text}` is not from:to"))?;
                Ok::<_, String>((number(from)?, number(to)?))
            };
            TcpOption::Sack(blocks.iter().map(block).collect::<Result<_, _>>()?)
        }
        ["TS", "val", value, "ecr", echo] => {
            TcpOption::Timestamps { value: number_or_any(value)?, echo: number_or_any(echo)? }
        }
        ["bytes", bytes @ ..] => {
            let byte = |text: &&str| u8::from_str_radix(text, 16).map_err(|_| format!("`{text}` is no byte in hex"));
            TcpOption::Bytes(bytes.iter().map(byte).collect::<Result<_, _>>()?)
        }
        words => return Err(format!("`{}` is no option", words.join(" "))),
    })
}

fn read_icmp(text: &str) -> Result<Icmp, String> {
    let (peer, text) = read_peer(text)?;
    let words: Vec<_> = text.split_whitespace().collect();
    let [quoted, "icmp", "unreachable", code, mtu @ ..] = &words[..] else {
        return Err("< [first:next(length)] icmp unreachable CODE [mtu N]".to_owned());
    };
    let quoted = quoted.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let (seq, len) = read_range(quoted.ok_or("what is quoted stands in brackets")?)?;
    let codes = ["net", "host", "protocol", "port", "frag_needed", "source_route"];
    let code = codes.iter().position(|known| known == code).ok_or_else(|| format!("`{code}` is none of {codes:?}"))?;
    let mtu = match mtu {
        [] => 0,
        ["mtu", mtu] => number(mtu)?,
        _ => return Err("behind the code comes mtu N, or nothing".to_owned()),
    };
    Ok(Icmp { peer, seq, len, code: code as u8, mtu })
}

fn read_call(text: &str) -> Result<Call, String> {
    let (call, answer) = match text.split_once('=') {
        None => (text.trim(), None),
        Some((call, answer)) => (call.trim(), Some(answer.trim())),
    };
    let (call, peer) = match call.split_once('@') {
        None => (call, 1),
        Some((call, peer)) => (call.trim(), number(peer.trim())?),
    };
    let (name, argument) = match call.split_once('(') {
        None => (call, None),
        Some((name, rest)) => (name, Some(number(rest.strip_suffix(')').ok_or("no closing bracket")?)?)),
    };
    let is = |answer: Option<&str>| match answer {
        None => Ok(true),
        Some("none") => Ok(false),
        Some(other) => Err(format!("`{other}` is not none")),
    };
    let what = match (name, argument) {
        ("up", None) => What::Up,
        ("listen", None) => What::Listen,
        ("accept", None) => What::Accept(is(answer)?),
        ("connect", None) => What::Connect(is(answer)?),
        ("opened", None) => What::Opened,
        ("send", Some(bytes)) => What::Send(bytes, answer.map_or(Ok(bytes), number)?),
        ("recv", limit) => {
            let received = match answer.ok_or("recv = what it gives: a number, none, end")? {
                "none" => Received::None,
                "end" => Received::End,
                bytes => Received::Bytes(number(bytes)?),
            };
            What::Recv(limit.unwrap_or(usize::MAX), received)
        }
        ("shutdown", None) => What::Shutdown,
        ("close", None) => What::Close,
        ("abort", None) => What::Abort,
        ("readable", None) => What::Readable(is(answer)?),
        ("writable", None) => What::Writable(is(answer)?),
        (name, None) => match name.split_once(' ') {
            Some(("closed", reason)) => What::Closed(named(&Reason::ALL, reason)?),
            Some(("state", state)) => What::State(named(&State::ALL, state)?),
            _ => return Err(format!("`{name}` is nothing that an application does")),
        },
        (name, Some(_)) => return Err(format!("`{name}` takes no number")),
    };
    let answered = matches!(
        what,
        What::Connect(_) | What::Accept(_) | What::Send(..) | What::Recv(..) | What::Readable(_) | What::Writable(_)
    );
    if answer.is_some() && !answered {
        return Err(format!("`{name}` gives nothing"));
    }
    Ok(Call { peer, what })
}

fn named<T: Copy>(all: &[(&str, T)], name: &str) -> Result<T, String> {
    let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
    let found = all.iter().find(|(known, _)| *known == name.trim());
    found.map(|&(_, value)| value).ok_or_else(|| format!("`{name}` is none of {}", names.join(", ")))
}
