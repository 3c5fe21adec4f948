//! What clients of the channel may do to it: others are answered meanwhile and afterwards.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sidestep_control::{
    AskError, Client, Decoder, Frame, Front, FrontError, FrontHandle, Limits, REPLY_MAX_BYTES, REQUEST_MAX_BYTES,
    Reply, Request, is_heard, serve,
};

/// Far longer than anything here takes: a test that waits for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A channel whose answering end echoes; `long` is what a list is filled with.
struct Channel {
    path: PathBuf,
    handle: Option<FrontHandle>,
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Answers; to `capture` with what it reads of the descriptor that came along.
fn echo(request: Request, descriptor: Option<OwnedFd>) -> Reply {
    match request {
        Request::Capture { .. } => {
            let mut text = String::new();
            let read = descriptor.map(|descriptor| File::from(descriptor).read_to_string(&mut text));
            Reply::Done(format!("{} {text}", read.is_some()))
        }
        Request::Set { name, .. } => Reply::Done(name),
        Request::Stats { .. } => Reply::Stats(vec![("long".to_owned(), "x".repeat(200_000))]),
        Request::Queues => Reply::Stats(vec![("longer".to_owned(), "x".repeat(REPLY_MAX_BYTES))]),
        _ => Reply::Error("not here".to_owned()),
    }
}

impl Channel {
    fn new(name: &str, limits: Limits) -> Channel {
        let folder = std::env::temp_dir().join(format!("sidestep-control-{}-{name}", std::process::id()));
        let path = folder.join("s.sock");
        let (ours, theirs) = UnixStream::pair().expect("two sockets");
        std::thread::spawn(move || serve(theirs, echo));
        let front = Front::open(&path, me()).expect("a path of its own");
        let handle = front.start(limits).expect("a thread");
        handle.set_plane(ours).expect("a socket");
        Channel { path, handle: Some(handle) }
    }

    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream
    }

    fn is_answered(&self, what: &str) {
        let mut client = Client::connect(&self.path, PATIENCE).expect("a hello");
        let request = Request::Set { name: what.to_owned(), value: String::new() };
        assert_eq!(client.ask(&request).expect("an answer"), Reply::Done(what.to_owned()));
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        drop(self.handle.take());
        assert!(!self.path.exists(), "the socket is removed at the end");
        let _ = std::fs::remove_dir(self.path.parent().expect("a folder"));
    }
}

/// Frames until the end of the connection, as text.
fn rest(mut stream: UnixStream) -> Vec<(u32, String)> {
    let (mut decoder, mut frames, mut buffer) = (Decoder::new(REPLY_MAX_BYTES), Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return frames,
            Ok(read) => decoder.push(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return frames,
            Err(error) => panic!("no end: {error}"),
        }
        while let Some(Frame { number, body, .. }) = decoder.next_frame().expect("frames") {
            frames.push((number, String::from_utf8(body).expect("text")));
        }
    }
}

#[test]
fn garbage_is_answered_by_an_error_and_closed() {
    let channel = Channel::new("garbage", Limits::default());
    let mut stream = channel.raw();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").expect("there is room");
    let said = rest(stream);
    assert_eq!(said.len(), 2, "a hello and an error: {said:?}");
    assert!(said[1].1.contains("no request"), "{said:?}");
    channel.is_answered("after garbage");
}

#[test]
fn a_request_that_is_not_known_is_answered_by_an_error_and_the_next_is_served() {
    let channel = Channel::new("unknown", Limits::default());
    let mut stream = channel.raw();
    for (number, body) in
        [(5, &b"{\"do\":\"dance\"}"[..]), (6, b"\xff\xfe"), (7, b"{\"do\":\"set\",\"name\":\"n\",\"value\":\"v\"}")]
    {
        stream.write_all(&Frame::new(number, body.to_vec()).encode()).expect("there is room");
    }
    stream.shutdown(std::net::Shutdown::Write).expect("a socket");
    let said = rest(stream);
    let [(0, _), (5, dance), (6, bytes), (7, set)] = &said[..] else { panic!("{said:?}") };
    assert!(dance.contains("not known") && bytes.contains("not known"), "{said:?}");
    assert_eq!(set, "{\"done\":\"n\"}");
}

/// A file of no name, at its beginning, that says so much.
fn file_of(text: &str) -> File {
    let path = std::env::temp_dir().join(format!("sidestep-control-{}-{text}", std::process::id()));
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).expect("a folder");
    std::fs::remove_file(&path).expect("it is there");
    file.write_all(text.as_bytes()).expect("there is room");
    file.rewind().expect("a file");
    file
}

#[test]
fn a_descriptor_goes_with_its_own_request_whatever_comes_before_and_after_it() {
    let channel = Channel::new("descriptors", Limits::default());
    let stream = channel.raw();
    let set = |number| Frame::new(number, br#"{"do":"set","name":"n","value":"v"}"#.to_vec());
    let capture = |number, carries| Frame { carries, ..Frame::new(number, br#"{"do":"capture","on":true}"#.to_vec()) };
    set(1).send(&stream, &[]).expect("there is room");
    capture(2, true).send(&stream, &[file_of("two").as_fd()]).expect("there is room");
    capture(3, false).send(&stream, &[]).expect("there is room");
    // One that takes none, and one that says that one comes where none does.
    Frame { carries: true, ..set(4) }.send(&stream, &[file_of("four").as_fd()]).expect("there is room");
    capture(5, true).send(&stream, &[]).expect("there is room");
    stream.shutdown(std::net::Shutdown::Write).expect("a socket");
    let said: Vec<_> = rest(stream).into_iter().skip(1).collect();
    let of = |number: u32| said.iter().find(|(of, _)| *of == number).map_or("", |(_, text)| text);
    assert_eq!(
        (of(1), of(2), of(3)),
        (r#"{"done":"n"}"#, r#"{"done":"true two"}"#, r#"{"done":"false "}"#),
        "{said:?}"
    );
    assert_eq!(of(4), r#"{"done":"n"}"#, "{said:?}");
    assert!(of(5).contains("has not come with it"), "{said:?}");
}

fn is_stray(path: &Path) -> bool {
    path.to_string_lossy().contains(&format!("sidestep-control-{}-stray-", std::process::id()))
}

#[test]
fn descriptors_that_nobody_speaks_of_are_closed() {
    // Other tests of this process have descriptors too.
    let stray = || {
        let links = std::fs::read_dir("/proc/self/fd").expect("proc is there").flatten();
        links.filter_map(|link| std::fs::read_link(link.path()).ok()).filter(|to| is_stray(to)).count()
    };
    let channel = Channel::new("stray-descriptors", Limits::default());
    let stream = channel.raw();
    let heard = |number| {
        let (frame, _) = Frame::receive(&stream, REPLY_MAX_BYTES).expect("an answer");
        assert_eq!(frame.number, number);
    };
    heard(0);
    for number in 1..=200 {
        let file = file_of(&format!("stray-{number}"));
        Frame::new(number, br#"{"do":"set","name":"n","value":"v"}"#.to_vec())
            .send(&stream, &[file.as_fd(); 8])
            .expect("there is room");
        heard(number);
    }
    // As many as may wait for a message that speaks of them.
    assert!(stray() <= 4, "{} of 1,600 are kept", stray());
    channel.is_answered("after descriptors");
}

#[test]
fn half_a_message_times_out() {
    let channel = Channel::new("half", Limits { patience: Duration::from_millis(20), ..Limits::default() });
    let mut stream = channel.raw();
    stream.write_all(&[100, 0, 0, 0, 1]).expect("there is room");
    let said = rest(stream);
    assert!(said[1].1.contains("the rest of a message"), "{said:?}");
    channel.is_answered("after half a message");
}

#[test]
fn a_message_above_the_limit_is_refused_before_it_is_read() {
    let channel = Channel::new("long", Limits::default());
    let mut stream = channel.raw();
    stream.write_all(&(REQUEST_MAX_BYTES as u32 + 1).to_le_bytes()).expect("there is room");
    stream.write_all(&[0; 4]).expect("there is room");
    assert!(rest(stream)[1].1.contains("65537 bytes, where 65536 are allowed"));
}

#[test]
fn a_thousand_connections_keep_nobody_out() {
    let channel = Channel::new("thousand", Limits::default());
    let mut open = Vec::new();
    for round in 0..1_000 {
        // The backlog of the listener is shorter; a connection waits until it is taken.
        open.push(channel.raw());
        if round % 100 == 0 {
            channel.is_answered("among others");
        }
    }
    channel.is_answered("after all others");
}

#[test]
fn a_reader_that_reads_nothing_is_dropped_and_others_are_answered() {
    let channel = Channel::new("reader", Limits { patience: Duration::from_millis(50), ..Limits::default() });
    let mut stream = channel.raw();
    let request = Frame::new(1, br#"{"do":"stats"}"#.to_vec()).encode();
    // Its answers fill what the kernel keeps for it, and no more of its requests are read then.
    let mut sent = 0;
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    while stream.write_all(&request).is_ok() {
        sent += 1;
        assert!(sent < 10_000_000, "it was never dropped");
        if sent % 1_000 == 0 {
            channel.is_answered("beside one that does not read");
        }
    }
    channel.is_answered("after one that does not read");
}

#[test]
fn a_reply_that_is_too_long_is_an_error() {
    let channel = Channel::new("reply", Limits::default());
    let mut client = Client::connect(&channel.path, PATIENCE).expect("a hello");
    let reply = client.ask(&Request::Queues).expect("an answer");
    assert!(matches!(&reply, Reply::Error(why) if why.contains("more than")), "{reply:?}");
}

#[test]
fn who_does_not_answer_is_answered_for_and_who_is_gone_is_said_to_be() {
    let channel = Channel::new("silent", Limits { answer: Duration::from_millis(20), ..Limits::default() });
    let (silent, theirs) = UnixStream::pair().expect("two sockets");
    channel.handle.as_ref().expect("it runs").set_plane(theirs).expect("a socket");
    let mut client = Client::connect(&channel.path, PATIENCE).expect("a hello");
    let reply = client.ask(&Request::Settings).expect("an answer");
    assert!(matches!(&reply, Reply::Error(why) if why.contains("not answered")), "{reply:?}");
    drop(silent);
    let reply = client.ask(&Request::Settings).expect("an answer");
    assert!(matches!(&reply, Reply::Error(why) if why.contains("no cores run") || why.contains("ended")), "{reply:?}");
    // And once there are cores again, they answer.
    let (ours, theirs) = UnixStream::pair().expect("two sockets");
    std::thread::spawn(move || serve(ours, echo));
    channel.handle.as_ref().expect("it runs").set_plane(theirs).expect("a socket");
    channel.is_answered("after a restart");
}

#[test]
fn a_path_that_is_in_use_or_no_socket_is_refused_and_a_socket_of_the_dead_makes_room() {
    let channel = Channel::new("path", Limits::default());
    assert!(matches!(Front::open(&channel.path, me()), Err(FrontError::InUse(_))));
    let beside = channel.path.with_extension("file");
    std::fs::write(&beside, "precious").expect("a file");
    assert!(matches!(Front::open(&beside, me()), Err(FrontError::NoSocket(_))));
    assert_eq!(std::fs::read(&beside).expect("it stays"), b"precious");
    std::fs::remove_file(&beside).expect("a file");
    let dead = channel.path.with_extension("dead");
    drop(std::os::unix::net::UnixListener::bind(&dead).expect("a socket"));
    Front::open(&dead, me()).expect("nobody listens there");
    std::fs::remove_file(&dead).expect("it was made");
}

#[test]
fn whoever_accepts_nobody_is_waited_for_as_long_as_is_wanted_and_keeps_its_path() {
    let folder = std::env::temp_dir().join(format!("sidestep-control-{}-full", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("s.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a path of its own");
    rustix::net::listen(&listener, 0).expect("it listens");
    // The kernel has one more wait than it is told.
    let _first = UnixStream::connect(&path).expect("there is room for one");
    let patience = Duration::from_millis(20);
    let error = Client::connect(&path, patience).expect_err("nobody accepts");
    assert!(matches!(error, AskError::TimeOut(waited) if waited == patience), "{error:?}");
    assert!(is_heard(&path).expect("the kernel says so"));
    assert!(matches!(Front::open(&path, me()), Err(FrontError::InUse(_))));
    drop(listener);
    assert!(!is_heard(&path).expect("the kernel says so"));
    std::fs::remove_dir_all(&folder).expect("it was made");
    assert_eq!(is_heard(&path).expect_err("nothing is there").kind(), ErrorKind::NotFound);
}

#[test]
fn where_nobody_listens_the_error_names_the_path_and_what_to_do() {
    let error = Client::connect(Path::new("/nowhere/at-all.sock"), PATIENCE).expect_err("nobody");
    assert!(matches!(error, AskError::NoServer { .. }));
    let text = error.to_string();
    assert!(text.contains("/nowhere/at-all.sock") && text.contains("--control PATH"), "{text}");
}

#[test]
fn who_was_told_that_the_server_ends_has_the_answer_before_the_channel_is_gone() {
    for _ in 0..100 {
        let (ours, theirs) = UnixStream::pair().expect("two sockets");
        let (tell, told) = std::sync::mpsc::channel();
        let mut channel = Channel::new("last", Limits::default());
        channel.handle.as_ref().expect("it runs").set_plane(ours).expect("a socket");
        std::thread::spawn(move || {
            serve(theirs, |_, _| {
                let _ = tell.send(());
                Reply::Done("it ends".to_owned())
            })
        });
        let mut client = Client::connect(&channel.path, PATIENCE).expect("a hello");
        let asking = std::thread::spawn(move || client.ask(&Request::Shutdown));
        told.recv().expect("it is asked");
        drop(channel.handle.take());
        assert_eq!(asking.join().expect("no panic").expect("an answer"), Reply::Done("it ends".to_owned()));
    }
}

#[test]
fn an_answering_end_that_takes_nothing_is_sent_no_more_than_a_bound() {
    let limits = Limits { answer: Duration::from_millis(1), ..Limits::default() };
    let channel = Channel::new("stopped", limits);
    let (_silent, theirs) = UnixStream::pair().expect("two sockets");
    channel.handle.as_ref().expect("it runs").set_plane(theirs).expect("a socket");
    let mut client = Client::connect(&channel.path, PATIENCE).expect("a hello");
    let long = Request::Set { name: "n".to_owned(), value: "x".repeat(REQUEST_MAX_BYTES - 100) };
    // The kernel keeps some of them, the front sixteen more.
    for _ in 0..1_000 {
        match client.ask(&long).expect("an answer") {
            Reply::Error(why) if why.contains("have not taken") => return,
            reply => assert!(matches!(&reply, Reply::Error(why) if why.contains("not answered")), "{reply:?}"),
        }
    }
    panic!("every one of a thousand long requests was kept");
}
