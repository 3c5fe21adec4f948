//! `Cluster`: the nodes of a cluster, as one of them tells all to a client that asks: the auto-discovery that the clients
//! of Amazon ElastiCache speak.
//!
//! ```text
//!  config get cluster                        get AmazonElastiCache:cluster      (clients written for servers below 1.4.14)
//!  CONFIG cluster 0 <bytes>                  VALUE AmazonElastiCache:cluster 0 <bytes>
//!  <version>\n                               <version>\n
//!  <host>|<address>|<port> ...\n             <host>|<address>|<port> ...\n
//!                                            (the end of a value)
//!  END                                       END
//! ```
//! A client asks again from time to time, and takes over a list whose version is another one, or a larger one, than that
//! which it has: so the version grows with every change, and never goes back.
//! Read first: Amazon's "Adding Auto Discovery to your Memcached client library".

use std::fmt::{self, Write as _};
use std::net::IpAddr;

/// The key under which clients that do not know the command `config` look for the list.
pub(crate) const CLUSTER_KEY: &[u8] = b"AmazonElastiCache:cluster";

/// What `config get` and the binary packet ask for by name; there is nothing else.
pub(crate) const CLUSTER: &[u8] = b"cluster";

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterNode {
    /// Its name, or its address once more; holds neither blank, `|` nor control character.
    pub host: Box<str>,
    /// Its address. `None`: clients look the name up.
    pub address: Option<IpAddr>,
    /// Its TCP port.
    pub port: u16,
}

impl fmt::Display for ClusterNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|", self.host)?;
        self.address.map_or(Ok(()), |address| write!(f, "{address}"))?;
        write!(f, "|{}", self.port)
    }
}

/// The list of nodes, and which of its versions it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Grows with every change.
    pub version: u64,
    /// In the order in which clients are told of them.
    pub nodes: Vec<ClusterNode>,
}

impl Cluster {
    /// What follows the line that says its length. Allocates, as all of these do: clients ask once a minute.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n", self.version);
        for (index, node) in self.nodes.iter().enumerate() {
            let blank = if index > 0 { " " } else { "" };
            // Writing to a String does not fail.
            let _ = write!(text, "{blank}{node}");
        }
        text.push('\n');
        text
    }

    /// The answer to `config get cluster`.
    pub(crate) fn config(&self) -> Box<[u8]> {
        let text = self.text();
        format!("CONFIG cluster 0 {}\r\n{text}\r\nEND\r\n", text.len()).into_bytes().into()
    }

    /// The list as the item of [`CLUSTER_KEY`]. `cas`: with a unique, which is the version; `last`: END follows.
    pub(crate) fn item(&self, cas: bool, last: bool) -> Box<[u8]> {
        let text = self.text();
        let unique = if cas { format!(" {}", self.version) } else { String::new() };
        let end = if last { "END\r\n" } else { "" };
        format!("VALUE AmazonElastiCache:cluster 0 {}{unique}\r\n{text}\r\n{end}", text.len()).into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_what_amazons_page_shows() {
        let node = |host: &str, address: Option<[u8; 4]>| ClusterNode {
            host: host.into(),
            address: address.map(IpAddr::from),
            port: 11211,
        };
        let nodes = vec![node("a.example", Some([10, 0, 0, 1])), node("b.example", None)];
        let told = "12\na.example|10.0.0.1|11211 b.example||11211\n";
        let cluster = Cluster { version: 12, nodes };
        assert_eq!(cluster.text(), told);
        let config = format!("CONFIG cluster 0 {}\r\n{told}\r\nEND\r\n", told.len());
        assert_eq!(&*cluster.config(), config.as_bytes());
        let item = format!("VALUE AmazonElastiCache:cluster 0 {} 12\r\n{told}\r\n", told.len());
        assert_eq!(&*cluster.item(true, false), item.as_bytes());
    }
}
