//! The file of `--cluster`: the nodes of which clients are told, one a line.
//!
//! ```text
//!  # an empty line, and what follows a #, is passed over
//!  version 7                     (if it is there, the first line)
//!  cache-a.example|10.0.0.1|11211
//!  cache-b.example||11211        (clients look the name up)
//! ```
//! Clients take over a list whose version has grown, so it must never go back, not even when the server starts again.
//! Without a line that says it, it is the time at which the file was written, in seconds since 1970, or one more than
//! before where that would be no more.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::UNIX_EPOCH;

use cache::{Cluster, ClusterNode};

use super::error::OptionError;

/// Nodes of a list: more than any cluster has, and what a connection may be owed is bounded.
const NODES_MAX: usize = 1000;

/// Bytes of a name (RFC 1035 §2.3.4, written out).
const HOST_MAX_BYTES: usize = 253;

/// Bytes of a file: every node with the longest name and address, and a remark for each.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// The first word of a line that says the version.
const VERSION: &str = "version";

/// Reads the file. `before`: what it said when it was read last.
///
/// # Errors
/// It cannot be read, names no node, too many or one twice, a line is none, or the version it says has not grown.
pub(super) fn read_cluster(path: &Path, before: Option<&Cluster>) -> Result<Cluster, OptionError> {
    cluster_in(path, cluster_text(path), before)
}

/// The list in what was read of `path`.
///
/// # Errors
/// As for [`read_cluster`].
pub(crate) fn cluster_in(
    path: &Path,
    read: io::Result<(String, u64)>,
    before: Option<&Cluster>,
) -> Result<Cluster, OptionError> {
    let wrong = |why: String| OptionError::File { option: "--cluster", path: path.display().to_string(), why };
    let (text, written) = read.map_err(|error| wrong(format!("{error}; name a file of lines HOST|ADDRESS|PORT")))?;
    let (said, nodes) = nodes_of(&text).map_err(wrong)?;
    let version = version_of(said, written, &nodes, before).map_err(wrong)?;
    Ok(Cluster { version, nodes })
}

/// What the file holds, and the second at which it was written.
///
/// # Errors
/// It cannot be read, or is too long.
pub(crate) fn cluster_text(path: &Path) -> io::Result<(String, u64)> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let written = found.modified()?.duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let mut text = String::new();
    match file.take(FILE_MAX_BYTES + 1).read_to_string(&mut text)? as u64 {
        0..=FILE_MAX_BYTES => Ok((text, written)),
        _ => Err(io::Error::other(format!("it has more than {FILE_MAX_BYTES} bytes"))),
    }
}

/// The version that the text says, if it says one, and its nodes.
fn nodes_of(text: &str) -> Result<(Option<u64>, Vec<ClusterNode>), String> {
    let (mut version, mut nodes, mut seen) = (None, Vec::new(), BTreeSet::new());
    for (number, line) in text.lines().enumerate() {
        let place = number + 1;
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if let Some(said) = line.strip_prefix(VERSION).filter(|said| said.starts_with(char::is_whitespace)) {
            let said = said.trim().parse().ok().filter(|&said: &u64| said > 0);
            let first = version.is_none() && nodes.is_empty();
            version = Some(said.filter(|_| first).ok_or_else(|| {
                format!("line {place}: write the version once, before the nodes, as version NUMBER, 1 or more")
            })?);
            continue;
        }
        let node = node_of(line).map_err(|why| format!("line {place}: {why}; write it as HOST|ADDRESS|PORT"))?;
        if !seen.insert((node.host.clone(), node.port)) {
            return Err(format!("line {place} names {} port {} again; name a node once", node.host, node.port));
        }
        nodes.push(node);
    }
    match nodes.len() {
        0 => Err("it names no node; write a line HOST|ADDRESS|PORT for each".to_owned()),
        1..=NODES_MAX => Ok((version, nodes)),
        more => Err(format!("it names {more} nodes, at most {NODES_MAX} are taken")),
    }
}

fn node_of(line: &str) -> Result<ClusterNode, String> {
    let mut parts = line.split('|').map(str::trim);
    let (Some(host), Some(address), Some(port), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(format!("{line:?} has not three parts"));
    };
    let named = !host.is_empty() && host.len() <= HOST_MAX_BYTES && host.bytes().all(|byte| byte.is_ascii_graphic());
    if !named {
        return Err(format!("{host:?} is no name of 1 to {HOST_MAX_BYTES} letters"));
    }
    let address = match address {
        "" => None,
        address => Some(address.parse().map_err(|_| format!("{address:?} is no IP address"))?),
    };
    let port = port.parse().ok().filter(|&port| port != 0);
    let port = port.ok_or_else(|| format!("{:?} does not end with a port from 1 to 65535", line))?;
    Ok(ClusterNode { host: host.into(), address, port })
}

/// The version of a list whose file says `said` and was `written` at this second.
fn version_of(said: Option<u64>, written: u64, nodes: &[ClusterNode], before: Option<&Cluster>) -> Result<u64, String> {
    let Some(before) = before else { return Ok(said.unwrap_or(written)) };
    let same = before.nodes == nodes;
    match said {
        Some(said) if said > before.version || (same && said == before.version) => Ok(said),
        Some(said) => Err(format!(
            "clients know version {} and take over no other list of version {said}; raise it",
            before.version
        )),
        None if same => Ok(before.version),
        None => Ok(written.max(before.version.saturating_add(1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_read_line_by_line() {
        let (version, nodes) =
            nodes_of("# ours\nversion 7\n\na.example|10.0.0.1|11211 # one\r\n b||2\n::1|::1|3\n").expect("three nodes");
        assert_eq!(version, Some(7));
        let shown: Vec<_> = nodes.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a.example|10.0.0.1|11211", "b||2", "::1|::1|3"]);
        assert_eq!(nodes_of("version|10.0.0.1|1\n").map(|(version, nodes)| (version, nodes.len())), Ok((None, 1)));
    }

    #[test]
    fn a_file_that_no_client_could_use_is_refused_and_says_where() {
        for (wrong, place) in [
            ("", "no node"),
            ("# nothing\n", "no node"),
            ("a\n", "line 1"),
            ("a|10.0.0.1\n", "line 1"),
            ("\na|10.0.0.1|0\n", "line 2"),
            ("a|10.0.0.1|65536\n", "line 1"),
            ("a|b|1\n", "IP address"),
            ("|10.0.0.1|1\n", "line 1"),
            ("a b|10.0.0.1|1\n", "line 1"),
            ("a|10.0.0.1|1|2\n", "line 1"),
            ("a||1\na|10.0.0.1|1\n", "line 2 names a port 1 again"),
            ("a||1\nversion 2\n", "line 2"),
            ("version 0\na||1\n", "line 1"),
            ("version x\na||1\n", "line 1"),
        ] {
            let error = nodes_of(wrong).expect_err(wrong);
            assert!(error.contains(place), "{wrong:?}: {error}");
        }
        let many: String = (0..=NODES_MAX).map(|number| format!("n{number}||1\n")).collect();
        assert!(nodes_of(&many).is_err());
    }

    #[test]
    fn the_version_grows_with_every_change_of_the_list_and_never_goes_back() {
        let nodes = |text: &str| nodes_of(text).expect("nodes").1;
        let (one, two) = (nodes("a||1\n"), nodes("a||1\nb||1\n"));
        let before = Cluster { version: 100, nodes: one.clone() };
        let version = |said, written, nodes: &[_]| version_of(said, written, nodes, Some(&before));
        assert_eq!(version_of(None, 90, &one, None), Ok(90));
        assert_eq!(version_of(Some(7), 90, &one, None), Ok(7));
        assert_eq!(version(None, 200, &one), Ok(100), "the same nodes, written again");
        assert_eq!(version(None, 200, &two), Ok(200));
        assert_eq!(version(None, 50, &two), Ok(101), "an older file, or a clock that went back");
        assert_eq!((version(Some(101), 0, &two), version(Some(100), 0, &one)), (Ok(101), Ok(100)));
        assert!(version(Some(100), 0, &two).is_err() && version(Some(99), 0, &one).is_err());
    }
}
