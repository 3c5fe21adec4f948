//! The listed classes of difference: a Markdown file that people read and this module checks.
//!
//! ````text
//! ## name-of-the-class
//! - request: `regular expression for the request that shows it`
//! - memcached: `regular expression for memcached's line`
//! - sidestep: `regular expression for our line`
//! - why: the reason, in one line
//!
//! ```transcript
//! > bytes sent, escaped as in Rust\r\n
//! memcached: its whole reply\r\n
//! sidestep: our whole reply\r\n
//! ```
//! ````
//!
//! A class whose difference shows wherever an earlier request has left something behind has no such expressions, which would
//! cover far too much, but one line
//!
//! ````text
//! - cause: `regular expression for the earlier request (the part of it that makes the difference)`
//! ````
//!
//! and covers what a play proves: with this part of one such request blanked the difference is gone, and Sidestep has
//! answered all the same.
//!
//! In a block ```` ```datagrams ```` each line `> ` is a datagram, sent over UDP; a header alone is shown as
//! `<header alone>`.
//!
//! Expressions match bytes, `^` and `$` at the ends of the whole text. The transcript is played: a class whose
//! transcript no longer holds fails, and so does a difference that no class covers.

use std::collections::HashMap;
use std::io;

use regex::bytes::{Regex, RegexBuilder};

use crate::target::Target;

/// Most classes that may be listed.
pub const MOST_CLASSES: usize = 25;

/// One class of difference.
#[derive(Debug)]
pub struct Class {
    /// Its heading.
    pub name: String,
    sign: Sign,
    /// The reason.
    pub why: String,
    sent: Vec<u8>,
    /// The lines of the transcript that are sent, where each is a datagram.
    datagrams: Option<Vec<Vec<u8>>>,
    memcached_says: Vec<u8>,
    sidestep_says: Vec<u8>,
    /// How often it was seen.
    pub seen: u64,
}

/// By what a difference of a class is known.
#[derive(Debug)]
enum Sign {
    /// The request that shows it, and the line of each.
    Lines { request: Regex, memcached: Regex, sidestep: Regex },
    /// An earlier request, and in a group what of it makes the difference.
    Cause(Regex),
}

impl Sign {
    fn read(mut expressions: HashMap<&str, Regex>) -> Result<Self, &'static str> {
        if let Some(cause) = expressions.remove("cause") {
            let alone = expressions.is_empty() && cause.captures_len() == 2;
            return if alone { Ok(Sign::Cause(cause)) } else { Err("'- cause:' alone, with one group") };
        }
        let mut take = |field, part| expressions.remove(field).ok_or(part);
        Ok(Sign::Lines {
            request: take("request", "'- request:' expression")?,
            memcached: take("memcached", "'- memcached:' expression")?,
            sidestep: take("sidestep", "'- sidestep:' expression")?,
        })
    }

    /// The expression for the request, if the class covers these two lines.
    fn of_lines(&self, memcached_says: &[u8], sidestep_says: &[u8]) -> Option<&Regex> {
        match self {
            Sign::Lines { request, memcached, sidestep } => {
                (memcached.is_match(memcached_says) && sidestep.is_match(sidestep_says)).then_some(request)
            }
            Sign::Cause(_) => None,
        }
    }
}

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DifferencesError {
    /// A line means nothing here.
    #[error("line {line}: {what}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is expected.
        what: String,
    },
    /// Too many classes.
    #[error("{count} classes are listed; at most {MOST_CLASSES} may be")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A class lacks a part.
    #[error("class '{name}' has no {part}")]
    Incomplete {
        /// Its heading.
        name: String,
        /// What it lacks.
        part: &'static str,
    },
}

/// All listed classes.
#[derive(Debug, Default)]
pub struct Differences {
    classes: Vec<Class>,
}

impl Class {
    /// Reads a class: its heading and all that stands below. `first` is the heading's line, for errors.
    fn read(first: usize, section: &str) -> Result<Self, DifferencesError> {
        let name = section.lines().next().unwrap_or_default().trim().to_owned();
        let lacks = |part| DifferencesError::Incomplete { name: name.clone(), part };
        let (mut why, mut expressions) = (None, HashMap::new());
        let (mut inside, mut datagrams, mut sent) = (false, false, Vec::new());
        let mut says: HashMap<&str, Vec<u8>> = HashMap::new();
        for (number, line) in section.lines().enumerate().skip(1) {
            let wrong = |what: String| DifferencesError::Line { line: first + number, what };
            let unescaped = |text: &str| unescape(text).ok_or_else(|| wrong(format!("cannot unescape \"{text}\"")));
            if inside {
                match line.split_once([':', ' ']) {
                    _ if line == "```" => inside = false,
                    Some((">", text)) => sent.push(unescaped(text)?),
                    Some((side @ ("memcached" | "sidestep"), text)) => {
                        says.entry(side).or_default().extend(unescaped(text.trim())?);
                    }
                    _ => return Err(wrong("a transcript has lines '> ', 'memcached: ' and 'sidestep: '".to_owned())),
                }
            } else if line == "```transcript" || line == "```datagrams" {
                (inside, datagrams) = (true, line == "```datagrams");
            } else if let Some((field, value)) = line.strip_prefix("- ").and_then(|line| line.split_once(": ")) {
                let value = value.trim();
                match field {
                    "why" => why = Some(value.to_owned()),
                    "request" | "cause" | "memcached" | "sidestep" => {
                        let mut builder = RegexBuilder::new(value.trim_matches('`'));
                        let built = builder.unicode(false).dot_matches_new_line(true).build();
                        expressions.insert(field, built.map_err(|error| wrong(error.to_string()))?);
                    }
                    other => {
                        return Err(wrong(format!("'{other}' is none of request, cause, memcached, sidestep, why")));
                    }
                }
            }
        }
        if sent.is_empty() {
            return Err(lacks("transcript with a '> ' line"));
        }
        let mut reply = |side, part| says.remove(side).ok_or_else(|| lacks(part));
        Ok(Self {
            sign: Sign::read(expressions).map_err(lacks)?,
            why: why.ok_or_else(|| lacks("reason ('- why: ...')"))?,
            sent: sent.concat(),
            datagrams: datagrams.then_some(sent),
            memcached_says: reply("memcached", "'memcached:' line in its transcript")?,
            sidestep_says: reply("sidestep", "'sidestep:' line in its transcript")?,
            seen: 0,
            name: name.clone(),
        })
    }
}

impl Differences {
    /// Reads the file's text; headings of level 2 start a class, text before the first is for people.
    ///
    /// # Errors
    /// [`DifferencesError`] with the line.
    pub fn parse(text: &str) -> Result<Self, DifferencesError> {
        // With a line end before the first line, every heading follows one, and line numbers are counted from 1.
        let text = format!("\n{text}");
        let mut sections = text.split("\n## ");
        let mut line = sections.next().map_or(0, |people| people.split('\n').count());
        let mut classes = Vec::new();
        for section in sections {
            classes.push(Class::read(line, section)?);
            line += section.split('\n').count();
        }
        match classes.len() {
            ..=MOST_CLASSES => Ok(Self { classes }),
            count => Err(DifferencesError::TooMany { count }),
        }
    }

    /// The listed class that covers a difference by its lines, which is counted.
    pub fn classify(&mut self, request: &[u8], memcached: &[u8], sidestep: &[u8]) -> Option<&str> {
        let covers =
            |class: &Class| class.sign.of_lines(memcached, sidestep).is_some_and(|shows| shows.is_match(request));
        let class = self.classes.iter_mut().find(|class| covers(class))?;
        class.seen += 1;
        Some(&class.name)
    }

    /// The listed class that covers the two lines and shows at one of `requests` at least; each of those is counted.
    /// Returns which requests they are.
    pub fn classify_any(&mut self, requests: &[Vec<u8>], memcached: &[u8], sidestep: &[u8]) -> Option<Vec<usize>> {
        self.classes.iter_mut().find_map(|class| {
            let shows = class.sign.of_lines(memcached, sidestep)?;
            let showing: Vec<usize> = (0..requests.len()).filter(|&at| shows.is_match(&requests[at])).collect();
            class.seen += showing.len() as u64;
            (!showing.is_empty()).then_some(showing)
        })
    }

    /// Whether `request` may be the cause of a later difference: the number of the class, and what of it would be.
    pub fn cause(&self, request: &[u8]) -> Option<(usize, Vec<u8>)> {
        self.classes.iter().enumerate().find_map(|(number, class)| {
            let Sign::Cause(cause) = &class.sign else { return None };
            Some((number, cause.captures(request)?.get(1)?.as_bytes().to_vec()))
        })
    }

    /// Counts a difference whose cause was that of class number `class`.
    pub fn count(&mut self, class: usize) {
        if let Some(class) = self.classes.get_mut(class) {
            class.seen += 1;
        }
    }

    /// All classes, in the file's order.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// Plays every transcript on both targets; returns a line for each that no longer holds.
    ///
    /// # Errors
    /// A target failed or hung.
    pub fn verify(&self, memcached: &mut dyn Target, sidestep: &mut dyn Target) -> io::Result<Vec<String>> {
        let mut stale = Vec::new();
        let over_udp = memcached.takes_datagrams() && sidestep.takes_datagrams();
        for class in self.classes.iter().filter(|class| class.datagrams.is_none() || over_udp) {
            let sides: [(&mut dyn Target, &[u8]); 2] =
                [(&mut *memcached, &class.memcached_says), (&mut *sidestep, &class.sidestep_says)];
            for (target, expected) in sides {
                target.exchange(&[b"flush_all\r\n"])?;
                let said = match &class.datagrams {
                    None => target.exchange(&[&class.sent])?,
                    Some(datagrams) => {
                        let mut messages = target.datagrams(datagrams)?.concat();
                        for header in messages.iter_mut().filter(|message| message.is_empty()) {
                            header.extend_from_slice(b"<header alone>");
                        }
                        messages.concat()
                    }
                };
                if said != expected {
                    stale.push(format!(
                        "{}: {} says \"{}\", the transcript \"{}\"",
                        class.name,
                        target.name(),
                        said.escape_ascii(),
                        expected.escape_ascii()
                    ));
                }
            }
        }
        Ok(stale)
    }
}

/// Bytes that one `\*N{text}` may stand for.
const REPEATED_MAX: usize = 1 << 24;

/// Where the brace is that closes the one before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    text.bytes().position(|byte| {
        depth += i32::from(byte == b'{') - i32::from(byte == b'}');
        depth == 0
    })
}

/// Undoes `escape_ascii`: `\r \n \t \0 \\ \' \" \xNN`, and `\*N{text}` for N times `text`, which may hold another.
/// `None`: it is no such text, or stands for more than 16 MiB.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let mut after = rest[at + 1..].chars();
        let byte = match after.next()? {
            'r' => b'\r',
            'n' => b'\n',
            't' => b'\t',
            '0' => 0,
            other @ ('\\' | '\'' | '"') => other as u8,
            'x' => {
                let digits = after.as_str().get(..2)?;
                after = after.as_str()[2..].chars();
                u8::from_str_radix(digits, 16).ok()?
            }
            '*' => {
                let (count, text) = after.as_str().split_once('{')?;
                let (text, left) = text.split_at(closing(text)?);
                let repeated = unescape(text)?;
                let bytes = |count: &usize| count.checked_mul(repeated.len());
                let count =
                    count.parse().ok().filter(|count| bytes(count).is_some_and(|bytes| bytes <= REPEATED_MAX))?;
                out.extend(repeated.repeat(count));
                rest = &left[1..];
                continue;
            }
            _ => return None,
        };
        out.push(byte);
        rest = after.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# For people\n\n## shouting\n- request: `^FOO`\n- memcached: `^ERROR`\n- sidestep: `^$`\n\
                        - why: nobody shouts\n\n```transcript\n> FOO\\r\\n\nmemcached: ERROR\\r\\n\nsidestep:\n```\n";

    #[test]
    fn a_listed_class_covers_what_matches_all_three_expressions_and_is_counted() {
        let mut differences = Differences::parse(FILE).unwrap();
        assert_eq!(differences.classify(b"FOO\r\n", b"ERROR\r\n", b""), Some("shouting"));
        assert_eq!(differences.classify(b"foo\r\n", b"ERROR\r\n", b""), None);
        assert_eq!(differences.classify(b"FOO\r\n", b"ERROR\r\n", b"OK\r\n"), None);
        assert_eq!(differences.classes()[0].seen, 1);
    }

    #[test]
    fn a_class_without_reason_or_transcript_is_refused_by_name() {
        let message = |text: String| Differences::parse(&text).unwrap_err().to_string();
        assert_eq!(
            message(FILE.replace("- why: nobody shouts\n", "")),
            "class 'shouting' has no reason ('- why: ...')"
        );
        assert_eq!(message(FILE.replace("> FOO\\r\\n\n", "")), "class 'shouting' has no transcript with a '> ' line");
        assert!(message(FILE.replace("^FOO", "(")).starts_with("line 4: "));
        assert!(message(FILE.repeat(26)).starts_with("26 classes are listed"));
    }

    #[test]
    fn a_class_with_a_cause_covers_no_lines_and_names_the_part_that_makes_the_difference() {
        let by_lines =
            FILE.lines().filter(|line| !line.starts_with("- ") || line.starts_with("- why")).collect::<Vec<_>>();
        let of = |cause: &str| by_lines.join("\n").replace("- why", &format!("{cause}\n- why"));
        let mut differences = Differences::parse(&of("- cause: `^BAR (E[0-9]+)`")).unwrap();
        assert_eq!(differences.cause(b"BAR E12 x\r\n"), Some((0, b"E12".to_vec())));
        assert_eq!(differences.cause(b"FOO\r\n"), None);
        assert_eq!(differences.classify(b"BAR E12 x\r\n", b"ERROR\r\n", b""), None);
        differences.count(0);
        assert_eq!(differences.classes()[0].seen, 1);
        for cause in ["- cause: `^BAR`", "- cause: `^(B)`\n- request: `B`"] {
            let message = Differences::parse(&of(cause)).unwrap_err().to_string();
            assert_eq!(message, "class 'shouting' has no '- cause:' alone, with one group");
        }
    }

    #[test]
    fn escapes_are_undone() {
        let bytes: Vec<u8> = (0..=255).filter(|&byte| byte != b'*').collect();
        assert_eq!(unescape(&bytes.escape_ascii().to_string()).unwrap(), bytes);
        assert_eq!(unescape("a\\*3{xy}b").unwrap(), b"axyxyxyb");
        assert_eq!(unescape("\\*2{a\\*3{x}b}").unwrap(), b"axxxbaxxxb");
        assert_eq!(unescape("\\*2{a"), None);
        assert_eq!(unescape("\\*9{\\*9000000{x}}"), None);
        assert_eq!(unescape("\\q"), None);
    }
}
