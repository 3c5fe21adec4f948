//! Commands of those who run the server: flush_all, cache_memlimit, verbosity, watch, dumps, shutdown, and the knobs of
//! memcached's own machinery.
//!
//! flush_all and cache_memlimit are barriers within a connection: they begin when everything before them has been
//! answered, and nothing after them begins before every shard has obeyed.
//! `config get cluster` is no command of memcached's, but of Amazon ElastiCache's.
//! What tunes machinery that is not here is checked and answered as memcached does when that machinery is off.
//! Read first: memcached `protocol.txt`, "Slabs Reassign" to "Watchers"; the `process_*_command` of `proto_text.c`.

use super::{State, Stop, Taking};
use crate::clock::Now;
use crate::cluster::{CLUSTER, Cluster};
use crate::control::{Control, Stopping};
use crate::core::walk::{Over, Walk};
use crate::dump::{Dump, Told};
use crate::mesh::message::{OrderToAll, Request};
use crate::number::{signed_32, unsigned_32};
use crate::proto::asked::Order;
use crate::proto::form::{Form, Kind};
use crate::proto::line::Line;
use crate::proto::words::{self, WORDS_MAX};
use crate::replies::{Owed, Waiting};
use crate::watch::{FETCHERS, wanted_by};

/// Slab classes that memcached may have (memcached.h, `MAX_NUMBER_OF_SLAB_CLASSES`).
pub(super) const SLAB_CLASSES_MAX: u32 = 64;

/// The longest `lru_crawler sleep`, in microseconds.
const CRAWLER_SLEEP_MAX_US: u32 = 1_000_000;

/// The most that `lru tune` gives to the hot and the warm LRU together, in percent.
const HOT_AND_WARM_MAX_PCT: u32 = 80;

/// The shortest and the longest `slabs automove window`, in seconds.
const AUTOMOVE_WINDOW_MIN_SECS: u32 = 3;
const AUTOMOVE_WINDOW_MAX_SECS: u32 = 1800;

impl Taking<'_> {
    /// Obeys one of these commands.
    pub(super) fn operate(&mut self, order: &Order<'_>, form: &Form<'_>) -> Result<(), Stop> {
        let words = |arguments| words::first(arguments, WORDS_MAX - 1);
        match *order {
            Order::Flush(exptime) => self.flush_all(exptime, form),
            Order::MemoryLimit { megabytes } => self.memory_limit(megabytes, form),
            Order::Verbosity { level } => {
                self.tell(form, Line::Ok)?;
                self.clients.shared.control.set_verbosity(level);
                Ok(())
            }
            Order::Stats(arguments) => self.stats(arguments),
            Order::Watch(arguments) => self.watch(&words(arguments)),
            Order::Crawler(arguments) => self.crawler(&words(arguments), form),
            Order::Shutdown(arguments) => self.shut_server_down(&words(arguments), form),
            Order::Lru(arguments) => self.tell(form, lru(&words(arguments))),
            Order::Slabs(arguments) => self.tell(form, slabs(&words(arguments))),
            Order::Config(arguments) if self.clients.shared.control.cluster().is_some() => {
                self.config(&words(arguments))
            }
            Order::Debugtime(arguments) if self.clients.config.commands.debug => {
                self.reply_room()?;
                let line = debugtime(&self.clients.shared.control, self.here.now, &words(arguments));
                self.tell(form, line)
            }
            Order::Config(_) | Order::Debugtime(_) => self.tell(form, Line::Error),
        }
    }

    /// `config get cluster`: the nodes. Nothing else can be asked for, and nothing set.
    fn config(&mut self, words: &[&[u8]]) -> Result<(), Stop> {
        match *words {
            [b"get", CLUSTER, ..] => self.tell_of_cluster(&Form::classic(false), Cluster::config),
            [b"get", _, ..] => self.answer(Line::End),
            [_, _, ..] => self.answer(Line::Error),
            _ => self.answer(Line::BadFormat),
        }
    }

    /// Answers with what `tell` makes of the cluster, which there is. A connection has one such text at a time.
    pub(super) fn tell_of_cluster(
        &mut self,
        form: &Form<'_>,
        tell: impl Fn(&Cluster) -> Box<[u8]>,
    ) -> Result<(), Stop> {
        self.text_room()?;
        let text = self.clients.shared.control.cluster().map(|cluster| tell(&cluster));
        self.owe(form, Owed::Text(text.unwrap_or_default()));
        Ok(())
    }

    /// Every item stored before `exptime` is gone, of all cores.
    fn flush_all(&mut self, exptime: Result<i64, Line>, form: &Form<'_>) -> Result<(), Stop> {
        let refused = if self.clients.config.commands.flush { exptime.err() } else { Some(Line::FlushDisabled) };
        let is_counted = match refused {
            Some(line) => {
                self.tell(form, line)?;
                // memcached counts it before it looks whether it may, but a packet's after that.
                form.kind == Kind::Classic
            }
            None => {
                self.begin_barrier()?;
                self.order_all(OrderToAll::Flush { exptime: exptime.unwrap_or(0) }, form);
                true
            }
        };
        self.clients.counters.cmd_flush.add(u64::from(is_counted));
        Ok(())
    }

    /// cache_memlimit.
    fn memory_limit(&mut self, megabytes: u32, form: &Form<'_>) -> Result<(), Stop> {
        self.begin_barrier()?;
        let bytes = (u64::from(megabytes) << 20) / self.clients.shared.counters.cores() as u64;
        if self.order_all(OrderToAll::MemoryLimit { bytes }, form) {
            self.clients.shared.control.set_limit_bytes(u64::from(megabytes) << 20);
        }
        Ok(())
    }

    /// Stops until everything before the barrier has been answered by the other cores and there is room for its reply.
    fn begin_barrier(&mut self) -> Result<(), Stop> {
        self.reply_room()?;
        if self.clients.conns[self.session.conn].in_flight > 0 { Err(Stop::Waiting) } else { Ok(()) }
    }

    /// Has this core obey an order, and every other. The answer is known when all have. Returns whether this core
    /// could.
    fn order_all(&mut self, order: OrderToAll, form: &Form<'_>) -> bool {
        let obeyed = self.here.obey(order);
        let line = if obeyed { Line::Ok } else { Line::MemlimitRefused };
        let cores = self.clients.shared.counters.cores();
        if cores == 1 {
            self.say(form, line);
            return obeyed;
        }
        let token = self.owe(form, Owed::Waiting(Waiting::Order { said: line.into() }));
        let this = self.here.id;
        for peer in (0..cores).filter(|&peer| peer != this) {
            self.clients.owe(peer, token, Request::Order(order));
        }
        self.session.state = State::Barrier;
        obeyed
    }

    /// `watch [kind]*`: from now on the connection is told what happens, and what it sends is passed over.
    fn watch(&mut self, words: &[&[u8]]) -> Result<(), Stop> {
        // A datagram is answered once; its sender cannot be told what happens later.
        if !self.clients.config.commands.watch || self.session.datagram {
            return self.answer(Line::WatchDisabled);
        }
        // Replies that are owed leave first: memcached refuses a watch that shares a packet with what comes before.
        self.text_room()?;
        let kinds = words.iter().map(|word| wanted_by(word)).try_fold(0, |sum, kind| Some(sum | kind?));
        let kinds = if words.is_empty() { Some(FETCHERS) } else { kinds };
        let Some(kinds) = kinds else { return self.answer(Line::Error) };
        match self.clients.begin_watch(self.here.id, self.session.conn, kinds) {
            Some(watch) => {
                self.owe(&Form::classic(false), Owed::Watch(Box::new(watch)));
                self.session.state = State::Deaf;
                Ok(())
            }
            None => self.answer(Line::WatchersFull),
        }
    }

    /// `lru_crawler …`.
    fn crawler(&mut self, words: &[&[u8]], form: &Form<'_>) -> Result<(), Stop> {
        let enabled = self.clients.shared.control.lru_crawler();
        let line = match *words {
            [b"crawl" | b"metadump" | b"mgdump", _] if !enabled => Line::CrawlerDisabled,
            // The shard gives up expired items segment by segment by itself; the command has nothing to do.
            [b"crawl", classes] => {
                if classes_of(classes).is_some() {
                    self.reply_room()?;
                    self.clients.counters.lru_crawler_starts.add(1);
                    Line::Ok
                } else {
                    Line::BadClass
                }
            }
            [b"metadump", _] if !self.clients.config.commands.dump || self.session.datagram => Line::DumpDisabled,
            [b"mgdump", _] if !self.clients.config.commands.dump || self.session.datagram => Line::KeyDumpDisabled,
            [name @ (b"metadump" | b"mgdump"), classes] => {
                let dump = if name == b"mgdump" { Dump::Mg } else { Dump::Meta };
                return self.dump(dump, classes);
            }
            [b"tocrawl", number] => {
                if unsigned_32(number).is_some() {
                    Line::Ok
                } else {
                    Line::BadFormat
                }
            }
            [b"sleep", number] => match unsigned_32(number) {
                Some(0..=CRAWLER_SLEEP_MAX_US) => Line::Ok,
                Some(_) => Line::CrawlerSleep,
                None => Line::BadFormat,
            },
            [b"enable"] if enabled => Line::CrawlerRunning,
            [word @ (b"enable" | b"disable")] => {
                self.reply_room()?;
                self.clients.shared.control.set_lru_crawler(word == b"enable");
                Line::Ok
            }
            _ => Line::Error,
        };
        self.tell(form, line)
    }

    fn dump(&mut self, dump: Dump, classes: &[u8]) -> Result<(), Stop> {
        self.text_room()?;
        let classes = if classes == b"hash" { Some(u64::MAX) } else { classes_of(classes) };
        let Some(classes) = classes else { return self.answer(Line::BadClass) };
        let Some(ticket) = self.clients.shared.control.dumping.take(self.here.now.secs, self.clients.config.grace_secs)
        else {
            return self.answer(Line::CrawlerBusy);
        };
        self.clients.counters.lru_crawler_starts.add(1);
        self.begin_walk(Walk::new(Over::Items(Told { dump, classes }), usize::MAX).with_right(ticket));
        Ok(())
    }

    /// Owes a text that is told part by part, after [`reply_room`](Self::reply_room). The connection is read no further
    /// until all of it has been given.
    pub(super) fn begin_walk(&mut self, walk: Walk) {
        self.owe(&Form::classic(false), Owed::Walk(Box::new(walk)));
        self.session.state = State::Telling;
    }

    /// `shutdown [graceful]`: the server ends. Every core first gives what it owes.
    fn shut_server_down(&mut self, words: &[&[u8]], form: &Form<'_>) -> Result<(), Stop> {
        let how = match *words {
            _ if !self.clients.config.commands.shutdown => return self.tell(form, Line::ShutdownDisabled),
            [] => Stopping::Now,
            [b"graceful"] => Stopping::Graceful,
            _ => return self.tell(form, Line::ShutdownMode),
        };
        self.clients.shared.control.stop(how);
        self.close();
        Ok(())
    }
}

/// A bit for each class of `all` or `1,2,3`.
fn classes_of(text: &[u8]) -> Option<u64> {
    if text == b"all" {
        return Some(u64::MAX);
    }
    let bit = |word| match unsigned_32(word) {
        Some(class @ 1..SLAB_CLASSES_MAX) => Some(1u64 << class),
        _ => None,
    };
    // strtok passes over empty words.
    text.split(|&byte| byte == b',').filter(|word| !word.is_empty()).try_fold(0, |sum, word| Some(sum | bit(word)?))
}

fn decimal(word: &[u8]) -> Option<f64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// `lru tune|mode|temp_ttl …`, as memcached answers without its LRU maintainer.
fn lru(words: &[&[u8]]) -> Line {
    let [b"tune", hot, warm, hot_factor, warm_factor, ..] = *words else { return Line::Error };
    let numbers = || Some((unsigned_32(hot)?, unsigned_32(warm)?, decimal(hot_factor)?, decimal(warm_factor)?));
    match numbers() {
        None => Line::Error,
        Some((hot, warm, _, _)) if hot.saturating_add(warm) > HOT_AND_WARM_MAX_PCT => Line::LruPercents,
        Some((_, _, hot, warm)) if hot <= 0.0 || warm <= 0.0 => Line::LruFactors,
        Some(_) => Line::Ok,
    }
}

/// `slabs reassign|automove …`, as memcached answers without slab_reassign.
fn slabs(words: &[&[u8]]) -> Line {
    match *words {
        [b"reassign", _, _] => Line::SlabsDisabled,
        [b"automove", b"ratio" | b"freeratio", ratio, ..] if decimal(ratio).is_some() => Line::Ok,
        [b"automove", b"ratio" | b"freeratio", ..] => Line::Error,
        [b"automove", b"window", ref seconds @ ..] => match seconds.first().and_then(|seconds| unsigned_32(seconds)) {
            Some(AUTOMOVE_WINDOW_MIN_SECS..=AUTOMOVE_WINDOW_MAX_SECS) => Line::Ok,
            Some(_) => Line::AutomoveWindow,
            None => Line::BadFormat,
        },
        [b"automove", level, ..] => match unsigned_32(level) {
            Some(0..=2) => Line::Ok,
            Some(_) => Line::Error,
            None => Line::BadFormat,
        },
        _ => Line::Error,
    }
}

/// `debugtime p|r|<seconds>`: stops the cache's clock, lets it go on, moves it.
///
/// Deviates: the clock does not go back, since what is stored is ordered by it.
fn debugtime(control: &Control, now: Now, words: &[&[u8]]) -> Line {
    match words.first() {
        Some(&b"p") => control.pause_clock(now.secs),
        Some(&b"r") => control.resume_clock(),
        Some(seconds) => match signed_32(seconds).and_then(|seconds| u32::try_from(seconds).ok()) {
            Some(seconds) => control.move_clock(seconds),
            None => return Line::Error,
        },
        None => return Line::Error,
    }
    Line::Ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_read_as_memcached_reads_them() {
        assert_eq!(classes_of(b"all"), Some(u64::MAX));
        assert_eq!(classes_of(b"1,3,,5"), Some(0b10_1010));
        for wrong in [&b"0"[..], b"64", b"x", b"1,x"] {
            assert_eq!(classes_of(wrong), None, "{wrong:?}");
        }
    }
}
