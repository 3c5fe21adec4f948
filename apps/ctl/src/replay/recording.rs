//! `Recording`: what captures of one server hold: its connections, what its clients sent, what it answered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nic::{Capture, PcapError};
use stack::{Ends, RecordedIsns};

use super::error::ReplayError;
use super::segment::{ACK, SYN, Segment, Sum};
use super::stream::Stream;

/// One recorded connection.
#[derive(Debug, Clone)]
pub struct Dialogue {
    /// The client.
    pub client: SocketAddr,
    /// Sequence number of its SYN.
    pub syn: u32,
    /// Sequence number of the server's SYN; `None` when it was not recorded.
    pub isn: Option<u32>,
    /// What the client sent.
    pub asked: Stream,
    /// What the server sent.
    pub said: Stream,
}

/// A frame that a client sent.
#[derive(Debug, Clone)]
pub struct ClientFrame {
    /// When it was recorded.
    pub at: Duration,
    /// Which connection it is of, as an index into [`Recording::dialogues`].
    pub dialogue: usize,
    /// Its bytes, as the link would have sent them.
    pub bytes: Vec<u8>,
}

/// What the captures of one server hold.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// Connections, in the order in which they began.
    pub dialogues: Vec<Dialogue>,
    /// Frames of clients, in order of time.
    pub frames: Vec<ClientFrame>,
    /// Clients of connections that had begun before the recording.
    pub headless: BTreeSet<SocketAddr>,
    /// Frames that are not of the server's TCP connections.
    pub others: usize,
}

impl Recording {
    /// Reads captures of one session with `server`, merged by time.
    ///
    /// # Errors
    /// A file cannot be used, or none of them has a whole connection to the server.
    pub fn read(files: &[PathBuf], server: SocketAddr) -> Result<Self, ReplayError> {
        let open = |path: &PathBuf| {
            Capture::open(path).map_err(|source| match source {
                // It names the file itself.
                source @ PcapError::Open { .. } => ReplayError::Open(source),
                source => ReplayError::Capture { path: path.display().to_string(), source },
            })
        };
        let captures = files.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Self::of(&captures, server)
    }

    /// The same of captures that have been read.
    ///
    /// # Errors
    /// None of them has a whole connection to the server.
    pub fn of(captures: &[Capture], server: SocketAddr) -> Result<Self, ReplayError> {
        if server.ip().is_loopback() {
            return Err(ReplayError::Address { address: server.ip() });
        }
        let mut frames: Vec<_> = captures.iter().flat_map(Capture::iter).collect();
        // Stable: what has the same time stays in the order of its file.
        frames.sort_by_key(|(at, _)| *at);
        let mut recording = Self::default();
        let mut current = HashMap::new();
        let mut destinations: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        for &(at, bytes) in &frames {
            let Some(segment) = Segment::of(bytes) else {
                recording.others += 1;
                continue;
            };
            *destinations.entry(segment.destination).or_default() += 1;
            if segment.destination == server {
                if segment.source.ip() == server.ip() {
                    return Err(ReplayError::Address { address: server.ip() });
                }
                recording.hear_client(at, bytes, &segment, &mut current);
            } else if segment.source == server {
                recording.hear_server(bytes, &segment, &current);
            } else {
                recording.others += 1;
            }
        }
        let connections = recording.dialogues.len() + recording.headless.len();
        if connections == 0 {
            let busiest = destinations.iter().max_by_key(|(_, count)| **count);
            let hint = match busiest {
                Some((other, count)) => {
                    format!("most are for {other} ({count} frames); give --address and --port of the server")
                }
                None => "is it a capture of TCP over IPv4 or IPv6?".to_owned(),
            };
            return Err(ReplayError::NoTraffic { server, frames: frames.len(), hint });
        }
        if recording.dialogues.iter().all(|dialogue| dialogue.isn.is_none()) {
            return Err(ReplayError::NoBeginning { server, connections });
        }
        Ok(recording)
    }

    fn hear_client(&mut self, at: Duration, bytes: &[u8], segment: &Segment, current: &mut HashMap<SocketAddr, usize>) {
        let client = segment.source;
        let mut known = current.get(&client).copied();
        if segment.flags & (SYN | ACK) == SYN && segment.sum != Sum::Wrong {
            let again = known.is_some_and(|dialogue| self.dialogues[dialogue].syn == segment.seq);
            if !again {
                known = Some(self.dialogues.len());
                current.insert(client, self.dialogues.len());
                let asked = Stream::new(segment.seq.wrapping_add(1));
                let said = Stream::default();
                self.dialogues.push(Dialogue { client, syn: segment.seq, isn: None, asked, said });
            }
        }
        let Some(dialogue) = known else {
            // A damaged frame may be of no client at all.
            if segment.sum == Sum::Wrong {
                self.others += 1;
            } else {
                self.headless.insert(client);
            }
            return;
        };
        if segment.sum != Sum::Wrong {
            self.dialogues[dialogue].asked.add(segment.seq, &bytes[segment.payload.clone()]);
        }
        let frames = segment.as_sent(bytes).into_iter();
        self.frames.extend(frames.map(|bytes| ClientFrame { at, dialogue, bytes }));
    }

    fn hear_server(&mut self, bytes: &[u8], segment: &Segment, current: &HashMap<SocketAddr, usize>) {
        let Some(&dialogue) = current.get(&segment.destination) else { return };
        let dialogue = &mut self.dialogues[dialogue];
        if segment.sum == Sum::Wrong {
            return;
        }
        if segment.has(SYN | ACK) && segment.ack == dialogue.syn.wrapping_add(1) && dialogue.isn.is_none() {
            dialogue.isn = Some(segment.seq);
            dialogue.said = Stream::new(segment.seq.wrapping_add(1));
        }
        if dialogue.isn.is_some() && !segment.has(SYN) {
            dialogue.said.add(segment.seq, &bytes[segment.payload.clone()]);
        }
    }

    /// The sequence numbers that the server chose.
    pub fn isns(&self, server: SocketAddr) -> RecordedIsns {
        let mut isns = RecordedIsns::default();
        for dialogue in &self.dialogues {
            let Some(isn) = dialogue.isn else { continue };
            let ends = Ends {
                remote: dialogue.client.ip(),
                local: server.ip(),
                remote_port: dialogue.client.port(),
                local_port: server.port(),
            };
            isns.insert(ends, dialogue.syn, isn);
        }
        isns
    }
}
