//! A stream as a trace file that libcachesim reads (its `oracleGeneral` format), with each request's next one known.
//!
//! A record is 24 bytes, little-endian: time (4), number (8), size (4), the place of the next request for the same key
//! or -1 (8).

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::ours::REQUESTS_PER_SECOND;
use crate::stream::Stream;

/// Bytes beside key and value that each item is taken to cost: our header, and its part of the index.
pub const BESIDE_BYTES: u32 = 25;

/// Writes `stream` to `path`.
///
/// # Errors
/// When the file cannot be written.
pub fn write(stream: Stream, path: &Path) -> std::io::Result<()> {
    let asked: Vec<_> =
        stream.map(|asked| (asked.number, asked.key_bytes + asked.value_bytes + BESIDE_BYTES)).collect();
    let mut next = vec![-1i64; asked.len()];
    let mut seen: HashMap<u64, i64> = HashMap::with_capacity(asked.len() / 4);
    for (at, (number, _)) in asked.iter().enumerate().rev() {
        next[at] = seen.insert(*number, at as i64).unwrap_or(-1);
    }
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for (at, ((number, size), next)) in asked.iter().zip(next).enumerate() {
        out.write_all(&((at as u64 / REQUESTS_PER_SECOND) as u32).to_le_bytes())?;
        out.write_all(&(number + 1).to_le_bytes())?;
        out.write_all(&size.to_le_bytes())?;
        out.write_all(&next.to_le_bytes())?;
    }
    out.flush()
}
