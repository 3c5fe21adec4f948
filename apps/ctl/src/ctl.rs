//! `sidestep ctl`: a running server asked and governed over its control channel.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use control::{AskError, Client, Reply, Request};
use nic::guard::folder;

use crate::device;

/// What is typed after `sidestep ctl`.
#[derive(Debug, Args)]
pub struct CtlFlags {
    /// Socket of the server [default: the only one in /run/sidestep of this network namespace, or of any]
    #[arg(long, value_name = "PATH", global = true, conflicts_with = "interface")]
    control: Option<PathBuf>,
    /// Interface of the server, in this network namespace
    #[arg(long, visible_alias = "device", value_name = "NAME", value_parser = device::server, global = true)]
    interface: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// Seconds to wait for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600), global = true)]
    timeout: u64,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show every setting, and which of them can be changed while the server runs
    Settings,
    /// Change a setting until the server ends
    Set {
        /// Name, as `settings` shows it
        name: String,
        /// Value from now on
        value: String,
    },
    /// Show counts
    Stats {
        /// Which list: settings, items, slabs, sizes or sidestep [default: the general one]
        #[arg(default_value = "", hide_default_value = true)]
        kind: String,
    },
    /// Show by which queue connections came, and whether that is the one that the NIC's hash predicts
    Queues,
    /// Have the log say more or less: warn, info, debug, or what RUST_LOG takes
    LogLevel {
        /// What the log lets through from now on
        level: String,
    },
    /// Show every connection: client, state, core, seconds since its last command, bytes that wait, round trip
    Connections,
    /// Record every frame to a file, or no more
    Capture {
        #[command(subcommand)]
        what: CaptureWhat,
    },
    /// Accept no new connection, and end with the last one
    Drain {
        /// End after so many seconds although connections are left
        #[arg(long, value_name = "SECONDS")]
        within: Option<u64>,
    },
    /// End the server once it has answered what has arrived
    Shutdown,
}

#[derive(Debug, Subcommand)]
enum CaptureWhat {
    /// Record to this new file (pcap)
    On {
        /// File
        file: PathBuf,
        /// The most bytes that it gets; then the recording ends
        #[arg(long, value_name = "BYTES", default_value_t = control::CAPTURE_LIMIT_BYTES)]
        limit: u64,
    },
    /// End the recording, and say how many frames it has
    Off,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CtlError {
    /// No answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Nothing says which server is meant.
    #[error("no server runs here that can be asked: there is no socket in {0}; name one with --control PATH")]
    NoServer(PathBuf),
    /// Several could be meant.
    #[error("several servers run here: {0}; name one with --interface NAME or --control PATH")]
    Several(String),
    /// Several could be meant, none of them in this network namespace.
    #[error(
        "servers run in other network namespaces: {0}; enter the one that is meant (ip netns exec), or name its socket with --control PATH"
    )]
    Elsewhere(String),
    /// There is no file to record to.
    #[error("cannot record to {path}: {source}")]
    File {
        /// Its path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The answer cannot be shown.
    #[error("cannot print the answer: {0}")]
    Print(#[from] io::Error),
}

/// Asks, and prints the answer. Returns whether the server did what was asked; why not goes to `err`.
///
/// # Errors
/// [`CtlError`].
pub fn run(flags: &CtlFlags, out: &mut dyn Write, err: &mut dyn Write) -> Result<bool, CtlError> {
    let path = match (&flags.control, &flags.interface) {
        (Some(path), _) => path.clone(),
        (None, Some(interface)) => control::default_path(&folder(), interface),
        (None, None) => only_socket(&folder())?,
    };
    let mut client = Client::connect(&path, Duration::from_secs(flags.timeout))?;
    let file = match &flags.what {
        // Opened with the rights of who asks: the server has none.
        What::Capture { what: CaptureWhat::On { file, .. } } => {
            // What all clients say is for nobody else to read.
            let opened = File::options().write(true).create_new(true).mode(0o600).open(file);
            Some(opened.map_err(|source| CtlError::File { path: file.clone(), source })?)
        }
        _ => None,
    };
    let reply = client.ask_with(&request(&flags.what), file.as_ref().map(AsFd::as_fd))?;
    let (reply, unknown) = every_page(&mut client, reply)?;
    if let Reply::Error(why) = &reply {
        if let What::Capture { what: CaptureWhat::On { file, .. } } = &flags.what {
            // It was made for nothing.
            let _ = fs::remove_file(file);
        }
        if flags.json {
            print_json(&reply, out)?;
        }
        writeln!(err, "sidestep: {why}")?;
        return Ok(false);
    }
    if flags.json {
        print_json(&reply, out)?
    } else {
        print(&reply, out)?
    }
    unknown.iter().try_for_each(|why| writeln!(err, "sidestep: {why}"))?;
    Ok(unknown.is_empty())
}

/// A reply with what the following pages have, if it is the first of several; and why cores have not told of their connections.
fn every_page(client: &mut Client, mut reply: Reply) -> Result<(Reply, Vec<String>), AskError> {
    let mut unknown = Vec::new();
    while let Reply::Connections { connections, next, unknown: why } = &mut reply {
        unknown.extend(why.take());
        let Some((core, from)) = next.take() else { break };
        match client.ask(&Request::Connections { core, from })? {
            Reply::Connections { connections: more, next: after, unknown: of_these } => {
                connections.extend(more);
                (*next, *why) = (after, of_these);
            }
            other => reply = other,
        }
    }
    Ok((reply, unknown))
}

fn request(what: &What) -> Request {
    match what {
        What::Settings => Request::Settings,
        What::Set { name, value } => Request::Set { name: name.clone(), value: value.clone() },
        What::Stats { kind } => Request::Stats { kind: kind.clone() },
        What::Queues => Request::Queues,
        What::LogLevel { level } => Request::Set { name: "log_filter".to_owned(), value: level.clone() },
        What::Connections => Request::Connections { core: 0, from: 0 },
        What::Capture { what: CaptureWhat::On { limit, .. } } => Request::Capture { on: true, limit: *limit },
        What::Capture { what: CaptureWhat::Off } => Request::Capture { on: false, limit: 0 },
        What::Drain { within } => Request::Drain { seconds: *within },
        What::Shutdown => Request::Shutdown,
    }
}

/// The socket in `folder` whose server is meant: the only one of this network namespace, or of any.
fn only_socket(folder: &Path) -> Result<PathBuf, CtlError> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.ends_with(".sock"));
    names.sort();
    // A server that was killed has left its socket there. The only one is meant whether or not anybody listens.
    let is_heard = |name: &String| !is_dead(&folder.join(name));
    if names.iter().any(is_heard) {
        names.retain(is_heard);
    }
    let own = control::default_ending();
    let here: Vec<String> = names.iter().filter(|name| name.ends_with(&own)).cloned().collect();
    match (&here[..], &names[..]) {
        ([only], _) | ([], [only]) => Ok(folder.join(only)),
        (_, []) => Err(CtlError::NoServer(folder.to_owned())),
        ([], several) => Err(CtlError::Elsewhere(several.join(", "))),
        (several, _) => {
            let interfaces: Vec<_> = several.iter().filter_map(|name| name.strip_suffix(&own)).collect();
            Err(CtlError::Several(interfaces.join(", ")))
        }
    }
}

/// Whether nobody listens there. One of which the kernel does not say is believed to be heard.
fn is_dead(path: &Path) -> bool {
    matches!(control::is_heard(path), Ok(false))
}

/// One document: of counts an object by name, of anything else what the channel says.
fn print_json(reply: &Reply, out: &mut dyn Write) -> io::Result<()> {
    match reply {
        Reply::Stats(lines) => {
            let counts = lines.iter().map(|(name, value)| (name.clone(), value.clone().into()));
            serde_json::to_writer(&mut *out, &serde_json::Value::Object(counts.collect()))?;
        }
        Reply::Settings(settings) => serde_json::to_writer(&mut *out, settings)?,
        Reply::Connections { connections, .. } => serde_json::to_writer(&mut *out, connections)?,
        reply => serde_json::to_writer(&mut *out, reply)?,
    }
    writeln!(out)
}

fn print(reply: &Reply, out: &mut dyn Write) -> io::Result<()> {
    match reply {
        Reply::Done(what) | Reply::Error(what) => writeln!(out, "{what}"),
        Reply::Stats(lines) => lines.iter().try_for_each(|(name, value)| writeln!(out, "{name} {value}")),
        Reply::Settings(settings) => settings.iter().try_for_each(|setting| {
            let mark = if setting.changeable { "  (can change)" } else { "" };
            writeln!(out, "{} {}{mark}", setting.name, setting.value)
        }),
        Reply::Connections { connections, .. } => connections.iter().try_for_each(|row| {
            let rtt = row.rtt_us.map_or("-".to_owned(), |micros| format!("{micros}us"));
            writeln!(
                out,
                "{} {} core={} idle={}s unread={} unsent={} rtt={rtt}",
                row.peer, row.state, row.core, row.idle_secs, row.unread_bytes, row.unsent_bytes
            )
        }),
        Reply::Queues { rule, queues } => {
            writeln!(out, "{rule}")?;
            queues.iter().try_for_each(|row| {
                write!(out, "queue {} core {}: connections={}", row.queue, row.core, row.connections)?;
                if let (Some(predicted), Some(elsewhere)) = (row.as_predicted, row.elsewhere) {
                    write!(out, " as_predicted={predicted} elsewhere={elsewhere}")?;
                }
                writeln!(out)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use control::{ConnectionRow, QueueRow, Setting};

    use super::*;

    fn shown(reply: &Reply, json: bool) -> String {
        let mut out = Vec::new();
        if json { print_json(reply, &mut out) } else { print(reply, &mut out) }.expect("memory takes it");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn answers_are_lines_for_people_and_one_document_for_programs() {
        let stats = Reply::Stats(vec![("uptime".to_owned(), "4".to_owned()), ("inter".to_owned(), "ss0".to_owned())]);
        assert_eq!(shown(&stats, false), "uptime 4\ninter ss0\n");
        assert_eq!(shown(&stats, true), "{\"inter\":\"ss0\",\"uptime\":\"4\"}\n");
        let settings = Reply::Settings(vec![
            Setting { name: "verbosity".to_owned(), value: "0".to_owned(), changeable: true },
            Setting { name: "tcpport".to_owned(), value: "11211".to_owned(), changeable: false },
        ]);
        assert_eq!(shown(&settings, false), "verbosity 0  (can change)\ntcpport 11211\n");
        assert!(shown(&settings, true).starts_with("[{\"name\":\"verbosity\",\"value\":\"0\",\"changeable\":true},"));
        let row = ConnectionRow {
            peer: "10.0.0.1:4000".to_owned(),
            state: "ESTAB".to_owned(),
            core: 1,
            idle_secs: 2,
            unread_bytes: 0,
            unsent_bytes: 9,
            rtt_us: Some(120),
        };
        let connections = Reply::Connections { connections: vec![row], next: None, unknown: None };
        let text = "10.0.0.1:4000 ESTAB core=1 idle=2s unread=0 unsent=9 rtt=120us\n";
        assert_eq!(shown(&connections, false), text);
        assert!(shown(&connections, true).starts_with("[{\"peer\":\"10.0.0.1:4000\","));
        let row = QueueRow { queue: 1, core: 0, connections: 5, as_predicted: Some(4), elsewhere: Some(1) };
        let queues = Reply::Queues { rule: "by a hash".to_owned(), queues: vec![row] };
        let text = "by a hash\nqueue 1 core 0: connections=5 as_predicted=4 elsewhere=1\n";
        assert_eq!(shown(&queues, false), text);
        assert!(shown(&queues, true).contains("\"as_predicted\":4"));
    }

    #[test]
    fn the_only_socket_is_meant_and_several_are_named() {
        let folder = std::env::temp_dir().join(format!("sidestep-ctl-{}", std::process::id()));
        assert!(matches!(only_socket(&folder), Err(CtlError::NoServer(_))));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("eth1.json"), "").expect("a file");
        assert!(matches!(only_socket(&folder), Err(CtlError::NoServer(_))));
        let listen = |path: &Path| UnixListener::bind(path).expect("a folder");
        // What a server that was killed leaves there.
        let die = |path: &Path| drop(listen(path));
        die(&folder.join("eth1.7.sock"));
        assert_eq!(only_socket(&folder).expect("one"), folder.join("eth1.7.sock"));
        die(&folder.join("eth1.6.sock"));
        let error = only_socket(&folder).expect_err("two, and nobody listens").to_string();
        assert!(error.contains("eth1.6.sock, eth1.7.sock"), "{error}");
        let _eighth = listen(&folder.join("eth1.8.sock"));
        assert_eq!(only_socket(&folder).expect("one that is heard"), folder.join("eth1.8.sock"));
        fs::remove_file(folder.join("eth1.7.sock")).expect("it was left");
        let _seventh = listen(&folder.join("eth1.7.sock"));
        let error = only_socket(&folder).expect_err("two").to_string();
        assert!(error.contains("eth1.7.sock, eth1.8.sock") && error.contains("netns"), "{error}");
        let ours = ["eth1", "eth2"].map(|name| control::default_path(&folder, name));
        let _first = listen(&ours[0]);
        die(&ours[1]);
        assert_eq!(only_socket(&folder).expect("one here"), ours[0]);
        fs::remove_file(&ours[1]).expect("it was left");
        let _second = listen(&ours[1]);
        let error = only_socket(&folder).expect_err("two here").to_string();
        fs::remove_dir_all(&folder).expect("it was made");
        assert!(error.contains("eth1, eth2") && error.contains("--interface"), "{error}");
    }
}
