//! The binary protocol: a header of 24 bytes, extras, a key, a value; all numbers in network byte order.
//!
//! ```text
//!  0       1        2..4      4          5          6..8      8..12       12..16   16..24
//! | magic | opcode | key len | extras len | data type | status | body len | opaque | cas |   body: extras, key, value
//! ```
//!
//! The field of the status is the vbucket in a request, which memcached passes over. Read first: `protocol_binary.h`
//! and `proto_bin.c` of memcached 1.6.45; the texts of errors are its own.

use super::asked::{Asked, Order, Storing};
use super::form::{Form, Kind, Said};
use super::line::{Line, VERSION};
use super::sink::Sink;
use crate::clock::{Expiry, Now};
use crate::key::KEY_MAX_BYTES;
use crate::operation::{Count, Delete, Operation, Outcome, Purpose, Step, Steps, Store, StoreMode};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 24;

/// The first byte of a request.
pub const MAGIC_REQUEST: u8 = 0x80;

/// The first byte of a response.
pub const MAGIC_RESPONSE: u8 = 0x81;

/// An expiration of incr and decr that makes no item where there is none.
pub const NO_VIVIFY: u32 = u32::MAX;

/// The longest body that is waited for: the most that memcached's `-I` can be, which its later versions check as well
/// (1.6.45, `dispatch_bin_command`). A longer one is not on its way, and a client that is told nothing waits for ever.
const BODY_MAX_BYTES: u32 = 1 << 30;

const GETQ: u8 = 0x09;
const STAT: u8 = 0x10;

/// Config Get of Amazon ElastiCache's clients; unknown to memcached.
pub(crate) const CONFIG_GET: u8 = 0x60;

/// What an opcode asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// Get, GetK.
    Get {
        /// The key is answered too.
        with_key: bool,
    },
    /// GAT, GATK.
    GetAndTouch {
        /// The key is answered too.
        with_key: bool,
    },
    /// Touch.
    Touch,
    /// Set, Add, Replace: [`StoreMode`] without a unique.
    Store(StoreMode),
    /// Append, Prepend.
    Join {
        /// Append.
        append: bool,
    },
    /// Delete.
    Delete,
    /// Increment, Decrement.
    Arith {
        /// Increment.
        increment: bool,
    },
    /// Flush, now or later.
    Flush,
    /// Stat.
    Stat,
    /// Version.
    Version,
    /// Noop.
    Noop,
    /// Quit.
    Quit,
    /// SASL list mechanisms.
    SaslList,
    /// SASL auth and step.
    Sasl,
    /// Anything else.
    Unknown,
}

impl Opcode {
    /// The command of `opcode`, and whether its nominal answer is not wanted.
    pub fn of(opcode: u8) -> (Opcode, bool) {
        let quiet = matches!(opcode, GETQ | 0x0d | 0x11..=0x1a | 0x1e | 0x24);
        let command = match opcode {
            0x00 | GETQ => Opcode::Get { with_key: false },
            0x0c | 0x0d => Opcode::Get { with_key: true },
            0x01 | 0x11 => Opcode::Store(StoreMode::Set),
            0x02 | 0x12 => Opcode::Store(StoreMode::Add),
            0x03 | 0x13 => Opcode::Store(StoreMode::Replace),
            0x04 | 0x14 => Opcode::Delete,
            0x05 | 0x15 => Opcode::Arith { increment: true },
            0x06 | 0x16 => Opcode::Arith { increment: false },
            0x07 | 0x17 => Opcode::Quit,
            0x08 | 0x18 => Opcode::Flush,
            0x0a => Opcode::Noop,
            0x0b => Opcode::Version,
            0x0e | 0x19 => Opcode::Join { append: true },
            0x0f | 0x1a => Opcode::Join { append: false },
            STAT => Opcode::Stat,
            0x1c => Opcode::Touch,
            0x1d | 0x1e => Opcode::GetAndTouch { with_key: false },
            0x20 => Opcode::SaslList,
            0x21 | 0x22 => Opcode::Sasl,
            0x23 | 0x24 => Opcode::GetAndTouch { with_key: true },
            _ => Opcode::Unknown,
        };
        (command, quiet)
    }

    /// Whether the answer has the key, found or not.
    pub fn answers_key(self) -> bool {
        matches!(self, Opcode::Get { with_key: true } | Opcode::GetAndTouch { with_key: true })
    }

    /// Whether the answer has the value.
    pub fn answers_value(self) -> bool {
        matches!(self, Opcode::Get { .. } | Opcode::GetAndTouch { .. })
    }
}

/// The header of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader {
    /// What is asked for.
    pub opcode: u8,
    /// Bytes of the key.
    pub key_len: u16,
    /// Bytes of the extras.
    pub extras_len: u8,
    /// Bytes of extras, key and value together.
    pub body_len: u32,
    /// Comes back as it is.
    pub opaque: [u8; 4],
    /// Only this version of the item; 0 is any.
    pub cas: u64,
}

impl RequestHeader {
    /// Reads a header; `None` when it does not begin with [`MAGIC_REQUEST`].
    pub fn read(bytes: &[u8; HEADER_BYTES]) -> Option<RequestHeader> {
        let &[magic, opcode, k0, k1, extras_len, _, _, _, b0, b1, b2, b3, o0, o1, o2, o3, ref cas @ ..] = bytes;
        (magic == MAGIC_REQUEST).then(|| RequestHeader {
            opcode,
            key_len: u16::from_be_bytes([k0, k1]),
            extras_len,
            body_len: u32::from_be_bytes([b0, b1, b2, b3]),
            opaque: [o0, o1, o2, o3],
            cas: u64::from_be_bytes(*cas),
        })
    }

    /// Bytes of header, extras and key: what must be seen whole.
    pub fn head_bytes(&self) -> usize {
        HEADER_BYTES + usize::from(self.extras_len) + usize::from(self.key_len)
    }

    /// Bytes of the value.
    pub fn value_len(&self) -> u32 {
        self.body_len.saturating_sub(u32::from(self.extras_len) + u32::from(self.key_len))
    }

    /// What is wrong with the lengths; both are answered and then the connection is closed (`dispatch_bin_command`).
    ///
    /// # Errors
    /// [`Line::Error`]: the parts are longer than the body. [`Line::BadFormat`]: the command has other parts, or the
    /// body is longer than any that may come.
    ///
    /// Deviates: memcached lets Touch, GAT and Stat have a value, which it then takes for the next header.
    pub fn check(&self, key_max_bytes: usize) -> Result<(), Line> {
        let (key, extras) = (usize::from(self.key_len), self.extras_len);
        if u32::from(self.key_len) + u32::from(extras) > self.body_len {
            return Err(Line::Error);
        }
        if key > key_max_bytes {
            return Err(Line::BadFormat);
        }
        let value = self.value_len();
        let fits = match Opcode::of(self.opcode).0 {
            Opcode::Get { .. } | Opcode::Delete => extras == 0 && key > 0 && value == 0,
            Opcode::GetAndTouch { .. } | Opcode::Touch => extras == 4 && key > 0 && value == 0,
            Opcode::Store(_) => extras == 8 && key > 0,
            Opcode::Join { .. } => extras == 0 && key > 0,
            Opcode::Arith { .. } => extras == 20 && key > 0 && value == 0,
            Opcode::Flush => (extras == 0 || extras == 4) && key == 0 && value == 0,
            Opcode::Stat => extras == 0 && value == 0,
            Opcode::Version | Opcode::Noop | Opcode::Quit | Opcode::SaslList => self.body_len == 0,
            Opcode::Sasl => extras == 0 && key > 0,
            Opcode::Unknown => true,
        };
        if fits && self.body_len <= BODY_MAX_BYTES { Ok(()) } else { Err(Line::BadFormat) }
    }
}

/// The extras of a packet: what is not there is 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extras<'a>(pub(crate) &'a [u8]);

impl Extras<'_> {
    /// The number of four bytes from byte `at` on.
    pub(crate) fn u32_at(self, at: usize) -> u32 {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    fn u64_at(self, at: usize) -> u64 {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

impl RequestHeader {
    /// What the packet asks for at `now`, but for quit and stat. Without uniques in the cache (`use_cas`) memcached has nowhere to keep the
    /// one that a store names, and stores as if there were none.
    pub(crate) fn asked<'a>(&self, extras: Extras<'_>, key: &'a [u8], use_cas: bool, now: Now) -> Asked<'a> {
        let expiry = |exptime: u32| Expiry::from_exptime(i64::from(exptime), now);
        let operation = |operation| Asked::Operation { key, operation };
        let unique = if use_cas { self.cas } else { 0 };
        let mode = match (Opcode::of(self.opcode).0, unique) {
            (Opcode::Get { .. }, _) => return operation(Operation::GET),
            (Opcode::Touch | Opcode::GetAndTouch { .. }, _) => {
                return operation(Operation::get_and_touch(expiry(extras.u32_at(0))));
            }
            (Opcode::Delete, _) => {
                let cas = (self.cas != 0).then_some(self.cas);
                return operation(Operation::Delete(Delete { cas, ..Delete::CLASSIC }));
            }
            (Opcode::Arith { increment: up }, _) => {
                let steps = match extras.u32_at(16) {
                    NO_VIVIFY => Steps::NONE,
                    exptime => Steps::one(Step::Vivify(expiry(exptime))),
                };
                let (delta, initial, cas) = (extras.u64_at(0), extras.u64_at(8), self.cas);
                return operation(Operation::Count(Count { cas, steps, initial, ..Count::by(delta, up) }));
            }
            (Opcode::Store(mode), 0) => mode,
            (Opcode::Store(_), cas) => StoreMode::Cas(cas),
            (Opcode::Join { append: true }, 0) => StoreMode::Append,
            (Opcode::Join { append: true }, cas) => StoreMode::AppendIf(cas),
            (Opcode::Join { append: false }, 0) => StoreMode::Prepend,
            (Opcode::Join { append: false }, cas) => StoreMode::PrependIf(cas),
            (Opcode::Flush, _) => return Asked::Order(Order::Flush(Ok(i64::from(extras.u32_at(0))))),
            (Opcode::Version, _) => return Asked::Line(Line::Version),
            _ => return Asked::Line(Line::Ok),
        };
        // An append has no extras; it takes flags and expiry of the item there.
        let (flags, expiry) = (extras.u32_at(0), expiry(extras.u32_at(4)));
        let drops_old = Opcode::of(self.opcode).0 == Opcode::Store(StoreMode::Set);
        let store = Store { mode, flags, expiry, drops_old, ..Store::SET };
        Asked::Store(Storing { key, store, bytes: self.value_len() })
    }

    /// How the response is to look; `key` is that of the packet.
    pub(crate) fn form<'a>(&'a self, key: &'a [u8]) -> Form<'a> {
        let (command, quiet) = Opcode::of(self.opcode);
        let key = if command.answers_key() { key } else { &[] };
        let bare = Form::bare(Kind::Packet(self.opcode));
        Form { quiet, value: command.answers_value(), opaque: &self.opaque, key, ..bare }
    }
}

/// Bytes of the longest response but for its value: header, flags or a number, key.
pub(crate) const HEAD_MAX_BYTES: usize = HEADER_BYTES + 8 + KEY_MAX_BYTES;

/// Status and text of an error.
type Failure = (u16, &'static [u8]);

/// What `outcome` of `command` is as an error; `None` is success.
fn failure_of(command: Opcode, outcome: &Outcome) -> Option<Failure> {
    const NOT_FOUND: Failure = (0x01, b"Not found");
    const EXISTS: Failure = (0x02, b"Data exists for key.");
    Some(match (outcome, command) {
        (Outcome::Hit(_) | Outcome::Stored { .. } | Outcome::Deleted | Outcome::Touched, _) => return None,
        (Outcome::Number(_) | Outcome::Debug(_), _) => return None,
        (Outcome::Missed, _) => NOT_FOUND,
        (Outcome::Exists, _) => EXISTS,
        (Outcome::NotStored, Opcode::Store(StoreMode::Add)) => EXISTS,
        (Outcome::NotStored, Opcode::Store(StoreMode::Replace)) => NOT_FOUND,
        (Outcome::NotStored, _) => (0x05, b"Not stored."),
        (Outcome::TooLarge, _) => (0x03, b"Too large."),
        (Outcome::NotANumber, _) => (0x06, b"Non-numeric server-side value for incr or decr"),
        (Outcome::NoMemory(Purpose::Store), _) => (0x82, b"Out of memory allocating item"),
        (Outcome::NoMemory(Purpose::Change), _) => (0x82, b"Out of memory incrementing value"),
        (Outcome::NoMemory(Purpose::Create), _) => (0x82, b"Out of memory allocating new item"),
    })
}

/// Writes the response but for a value that follows.
pub(crate) fn head(form: &Form<'_>, opcode: u8, outcome: &Outcome, out: &mut impl Sink) {
    let (command, _) = Opcode::of(opcode);
    let (flags, number);
    let mut response = Response::to(form, opcode);
    if let Some((status, text)) = failure_of(command, outcome) {
        response.status = status;
        match status == 0x01 && command.answers_key() {
            true => response.key = form.key,
            false => response.text = text,
        }
        return response.write(out);
    }
    match outcome {
        Outcome::Hit(view) => {
            flags = view.flags.to_be_bytes();
            response.value_len = if form.value { view.len as usize } else { 0 };
            (response.cas, response.extras) = (view.cas, &flags);
        }
        Outcome::Number(counted) => {
            number = counted.value.to_be_bytes();
            (response.cas, response.text) = (counted.cas, &number);
        }
        Outcome::Stored { cas, .. } => response.cas = *cas,
        _ => {}
    }
    response.key = if command.answers_key() { form.key } else { b"" };
    response.write(out);
}

/// Writes the response that says `line`.
pub(crate) fn line(form: &Form<'_>, opcode: u8, line: Line, out: &mut impl Sink) {
    let (status, text): (u16, &[u8]) = match line {
        Line::Ok => (0, b""),
        Line::Version => (0, VERSION.as_bytes()),
        Line::FlushDisabled => (0x20, b"Auth failure."),
        Line::Error => (0x81, b"Unknown command"),
        _ => (0x04, b"Invalid arguments"),
    };
    Response { status, text, ..Response::to(form, opcode) }.write(out);
}

/// A response, but for its value.
#[derive(Default)]
struct Response<'a> {
    opcode: u8,
    opaque: [u8; 4],
    status: u16,
    cas: u64,
    extras: &'a [u8],
    key: &'a [u8],
    text: &'a [u8],
    value_len: usize,
}

impl Response<'_> {
    /// The response to a packet of `opcode`, with nothing in it yet.
    fn to(form: &Form<'_>, opcode: u8) -> Self {
        Response { opcode, opaque: form.opaque.first_chunk().copied().unwrap_or_default(), ..Response::default() }
    }

    fn write(&self, out: &mut impl Sink) {
        let &Response { opcode, opaque, status, cas, extras, key, text, value_len } = self;
        let body_len = extras.len() + key.len() + text.len() + value_len;
        let mut header = [0; HEADER_BYTES];
        (header[0], header[1], header[4]) = (MAGIC_RESPONSE, opcode, extras.len() as u8);
        header[2..4].copy_from_slice(&(key.len() as u16).to_be_bytes());
        header[6..8].copy_from_slice(&status.to_be_bytes());
        header[8..12].copy_from_slice(&(body_len as u32).to_be_bytes());
        header[12..16].copy_from_slice(&opaque);
        header[16..24].copy_from_slice(&cas.to_be_bytes());
        for part in [&header[..], extras, key, text] {
            out.put(part);
        }
    }
}

/// Whether a quiet `opcode` hides this: of a get a miss, of others success.
#[inline]
pub(crate) fn hides(opcode: u8, said: &Said) -> bool {
    match (Opcode::of(opcode), said) {
        ((_, false), _) => false,
        ((command, true), said) if command.answers_value() => *said == Said::Outcome(Outcome::Missed),
        ((command, true), Said::Outcome(outcome)) => failure_of(command, outcome).is_none(),
        ((_, true), Said::Line(line)) => *line == Line::Ok,
    }
}

/// Appends one packet of a Stat's answer; without a name it is the last.
pub(crate) fn stat_packet(out: &mut Vec<u8>, opaque: [u8; 4], name: &[u8], value: &[u8]) {
    Response { opcode: STAT, opaque, key: name, text: value, ..Response::default() }.write(out);
}

/// The answer to a [`CONFIG_GET`]: flags of 0, then the text.
pub(crate) fn config_packet(text: &str, opaque: [u8; 4]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(HEADER_BYTES + 4 + text.len());
    let text = text.as_bytes();
    Response { opcode: CONFIG_GET, opaque, extras: &[0; 4], text, ..Response::default() }.write(&mut out);
    out.into_boxed_slice()
}

/// The packets of a list of `STAT <name> <value>` lines, the last one included. Allocates: administrative commands
/// only.
pub(crate) fn stat_packets(text: &[u8], opaque: [u8; 4]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(text.len() * 2);
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(stat) = line.strip_prefix(b"STAT ") {
            let end = stat.iter().position(|&byte| byte == b' ').unwrap_or(stat.len());
            stat_packet(&mut out, opaque, &stat[..end], stat.get(end + 1..).unwrap_or_default());
        }
    }
    stat_packet(&mut out, opaque, b"", b"");
    out.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::View;

    fn header(opcode: u8, key_len: u16, extras_len: u8, body_len: u32) -> RequestHeader {
        let mut bytes = [0; HEADER_BYTES];
        (bytes[0], bytes[1], bytes[4]) = (MAGIC_REQUEST, opcode, extras_len);
        bytes[2..4].copy_from_slice(&key_len.to_be_bytes());
        bytes[8..12].copy_from_slice(&body_len.to_be_bytes());
        RequestHeader::read(&bytes).unwrap()
    }

    #[test]
    fn every_opcode_has_its_parts_and_other_lengths_are_refused() {
        for opcode in 0..=255u8 {
            let (key, extras) = match Opcode::of(opcode).0 {
                Opcode::Store(_) => (3, 8),
                Opcode::Arith { .. } => (3, 20),
                Opcode::Touch | Opcode::GetAndTouch { .. } => (3, 4),
                Opcode::Get { .. } | Opcode::Join { .. } | Opcode::Delete | Opcode::Sasl => (3, 0),
                _ => (0, 0),
            };
            let body = u32::from(key) + u32::from(extras);
            assert_eq!(header(opcode, key, extras, body).check(250), Ok(()), "{opcode:#x}");
            assert_eq!(header(opcode, 3, 1, 3).check(250), Err(Line::Error), "{opcode:#x}");
            assert_eq!(header(opcode, 251, extras, 300).check(250), Err(Line::BadFormat), "{opcode:#x}");
            if Opcode::of(opcode).0 != Opcode::Unknown {
                assert_eq!(header(opcode, key, extras + 1, body + 1).check(250), Err(Line::BadFormat), "{opcode:#x}");
            }
        }
        assert!(RequestHeader::read(&[0x81; HEADER_BYTES]).is_none());
    }

    #[test]
    fn a_body_that_nobody_sends_is_refused_by_its_header_alone() {
        for opcode in 0..=255u8 {
            let (key, extras) = match Opcode::of(opcode).0 {
                Opcode::Store(_) => (3, 8),
                Opcode::Join { .. } | Opcode::Sasl => (3, 0),
                Opcode::Unknown => (0, 0),
                // The others have no value at all.
                _ => continue,
            };
            assert_eq!(header(opcode, key, extras, BODY_MAX_BYTES).check(250), Ok(()), "{opcode:#x}");
            for body in [BODY_MAX_BYTES + 1, 1 << 31, u32::MAX] {
                assert_eq!(header(opcode, key, extras, body).check(250), Err(Line::BadFormat), "{opcode:#x}, {body}");
            }
        }
    }

    #[test]
    fn quiet_gets_hide_misses_and_other_quiet_commands_success() {
        let hides = |opcode, said: Said| hides(opcode, &said);
        let (hit, stored) = (Outcome::Hit(View::default()), Outcome::Stored { cas: 1, len: 0 });
        assert!(hides(GETQ, Outcome::Missed.into()) && !hides(GETQ, hit.into()) && !hides(0, Outcome::Missed.into()));
        assert!(hides(0x11, stored.into()) && !hides(0x11, Outcome::NotStored.into()) && !hides(0x01, stored.into()));
        assert!(hides(0x17, Line::Ok.into()) && !hides(0x07, Line::Ok.into()) && !hides(0x17, Line::BadFormat.into()));
        let quiet: Vec<u8> = (0..=255).filter(|&opcode| Opcode::of(opcode).1).collect();
        assert_eq!(quiet, [9, 0x0d, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1e, 0x24]);
    }

    #[test]
    fn stats_become_packets() {
        let packets = stat_packets(b"STAT pid 7\r\nSTAT empty \r\nEND\r\n", *b"abcd");
        assert_eq!(packets.len(), 3 * HEADER_BYTES + 4 + 5);
        assert_eq!(&packets[..HEADER_BYTES + 4], b"\x81\x10\0\x03\0\0\0\0\0\0\0\x04abcd\0\0\0\0\0\0\0\0pid7");
        assert!(packets.ends_with(b"\x81\x10\0\0\0\0\0\0\0\0\0\0abcd\0\0\0\0\0\0\0\0"));
    }
}
