//! Lines of dumps: `lru_crawler metadump` and `mgdump`, `stats cachedump`.

use std::io::Write as _;

use crate::clock::Now;
use crate::proto::base64;
use crate::proto::word::{append_uri, append_word, is_word};
use crate::shard::Walked;

/// How items are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dump {
    /// `key=… exp=… la=… cas=… fetch=… cls=… size=… flags=… `, a line an item, which ends with a blank and `\n` (memcached's
    /// `crawler_metadump_eval`).
    Meta,
    /// `mg <key>`, ready to be sent (memcached's `crawler_mgdump_eval`, since 1.6.19); `mg <base64> b` where the key was
    /// stored so, or is no word.
    Mg,
    /// `ITEM <key> [<bytes> b; <unix time> s]`, the key as one word, and 0 for never (memcached's `item_cachedump`).
    Cache,
}

/// Which items are told, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) dump: Dump,
    /// A bit for each slab class, by memcached's number.
    pub(crate) classes: u64,
}

impl Told {
    /// Appends the line of an item, if its class is to be told.
    pub(crate) fn append(self, walked: &Walked<'_>, now: Now, text: &mut Vec<u8>) {
        let &Walked { item, class, size, base64 } = walked;
        if self.classes >> class & 1 == 0 {
            return;
        }
        let unix = |secs: u32| now.unix_epoch + u64::from(secs);
        // Writing to a Vec cannot fail.
        let _ = match self.dump {
            Dump::Meta => {
                text.extend_from_slice(b"key=");
                append_uri(text, item.key);
                let exp = if item.expiry.is_never() { -1 } else { unix(item.expiry.secs()) as i64 };
                let la = unix(now.secs.saturating_sub(item.idle_secs(now)));
                let (cas, fetched) = (item.cas, if item.fetched { "yes" } else { "no" });
                let flags = item.flags;
                writeln!(text, " exp={exp} la={la} cas={cas} fetch={fetched} cls={class} size={size} flags={flags} ")
            }
            Dump::Mg if base64 || !is_word(item.key) => {
                text.extend_from_slice(b"mg ");
                base64::encode(item.key, |four| text.extend_from_slice(four));
                text.write_all(b" b\r\n")
            }
            Dump::Mg => {
                text.extend_from_slice(b"mg ");
                text.extend_from_slice(item.key);
                text.write_all(b"\r\n")
            }
            Dump::Cache => {
                let expiry = if item.expiry.is_never() { 0 } else { unix(item.expiry.secs()) };
                text.extend_from_slice(b"ITEM ");
                append_word(text, item.key);
                write!(text, " [{} b; {expiry} s]\r\n", item.value.len())
            }
        };
    }
}
