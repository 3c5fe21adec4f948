//! The lists of `stats`, under memcached's names. Whoever is asked for one reads what all cores have counted.
//!
//! Read first: memcached `protocol.txt`, "Statistics".

use crate::clock::Now;
use crate::shared::Shared;

/// `stats`: the general list; `stats sidestep`.
mod general;
/// `stats settings`.
mod settings;
/// `stats items`, `stats slabs`.
mod slabs;
/// The text of a `STAT` list.
mod text;

/// The list that `stats <group>` answers, if there is one of that name. Those that are told part by part (conns, detail
/// dump, cachedump) are walks.
pub(crate) fn list(group: &[u8], shared: &Shared, now: Now) -> Option<Box<[u8]>> {
    Some(match group {
        b"" => general::general(shared, now),
        b"settings" => settings::settings(shared),
        b"items" => slabs::items(&shared.counters),
        b"slabs" => slabs::slabs(&shared.counters),
        b"sizes" => slabs::sizes(),
        b"sidestep" => general::sidestep(&shared.counters),
        _ => return None,
    })
}

/// The names and values of the list that `stats <group>` answers, in its order, for whoever asks otherwise than over a
/// connection. Any thread.
pub fn stats_list(group: &str, shared: &Shared, now: Now) -> Option<Vec<(String, String)>> {
    let text = list(group.as_bytes(), shared, now)?;
    let text = String::from_utf8_lossy(&text);
    let pair = |line: &str| {
        let (name, value) = line.strip_prefix("STAT ")?.split_once(' ')?;
        Some((name.to_owned(), value.to_owned()))
    };
    Some(text.lines().filter_map(pair).collect())
}
