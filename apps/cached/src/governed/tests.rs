//! What is answered at once, what waits for cores, and that the one does not wait for the other. Time is an argument.

use std::sync::{Arc, Mutex};

use cache::{CacheConfig, Core, Now, Shared};
use nic::Doorbell;

use super::*;
use crate::admission::Admission;
use crate::clock::Clock;
use crate::live_capture::CaptureWriter;
use crate::losses::Losses;
use crate::orders::Orders;

/// Far more than anything here takes, so that what is late is so because a test says that it is.
const LIMIT: Duration = Duration::from_secs(3_600);

/// A plane of one core that does nothing, and what whoever waits for its end was told.
fn plane() -> (Governed, Arc<Shared>, Arc<Mutex<Vec<Ending>>>) {
    plane_of(1)
}

/// The same of several cores.
fn plane_of(cores: usize) -> (Governed, Arc<Shared>, Arc<Mutex<Vec<Ending>>>) {
    let caches = Core::mesh(&CacheConfig::default(), [7; 16]).expect("the defaults");
    let shared = caches[0].shared().clone();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = told.clone();
    let doorbells: Vec<_> = (0..cores).map(|_| Arc::new(Doorbell::new().expect("a descriptor"))).collect();
    let cores = Cores {
        shared: shared.clone(),
        losses: Arc::new(Losses::new(cores)),
        writer: CaptureWriter::start(None).expect("a thread"),
        orders: Arc::new(Orders::new(&doorbells)),
        admission: Arc::new(Admission::new(8)),
        reserved: 8,
        flows_per_core: 16,
        clock: Clock::start(),
        wake: Box::new(move |ending| tells.lock().expect("nobody panics").push(ending)),
    };
    (Governed::within(cores, LIMIT), shared, told)
}

/// The answer to a request of which no core is late.
fn answer(plane: &mut Governed, request: Request, descriptor: Option<OwnedFd>) -> Reply {
    answer_after(Duration::ZERO, plane, request, descriptor)
}

/// The answer to a request once that time is over.
fn answer_after(time: Duration, plane: &mut Governed, request: Request, descriptor: Option<OwnedFd>) -> Reply {
    let now = Instant::now();
    // It is begun at once, and looked at when that time is over.
    let mut told = plane.ask_at(7, request, descriptor, now).map(|reply| (7, reply)).or_else(|| plane.owed_at(now));
    while told.is_none() {
        assert!(plane.owes());
        // A core or a file takes its time.
        std::thread::yield_now();
        told = plane.owed_at(now + time);
    }
    let (number, reply) = told.expect("it was told");
    assert_eq!(number, 7);
    reply
}

#[test]
fn stats_settings_and_the_channel_agree_before_and_after_a_change() {
    let (mut plane, shared, _) = plane();
    let now = Now { secs: 2, unix_epoch: 0 };
    for (name, value) in [
        ("", ""),
        ("detail_enabled", "yes"),
        ("lru_crawler", "no"),
        ("maxconns", "5"),
        ("idle_timeout", "60"),
        ("idle_timeout", "0"),
    ] {
        if !name.is_empty() {
            let set = Request::Set { name: name.to_owned(), value: value.to_owned() };
            assert_eq!(answer(&mut plane, set, None), Reply::Done(format!("{name} is {value}")));
        }
        let Reply::Settings(settings) = answer(&mut plane, Request::Settings, None) else { panic!("settings") };
        let shown: Vec<_> = settings.iter().map(|one| (one.name.clone(), one.value.clone())).collect();
        let said = stats_list("settings", &shared, now).expect("there is such a list");
        assert_eq!(shown[..said.len()], said[..]);
        assert_eq!(shown[said.len()..].iter().map(|(name, _)| &name[..]).collect::<Vec<_>>(), [ADDRESSES, LOG_FILTER]);
        if !name.is_empty() {
            assert!(said.contains(&(name.to_owned(), value.to_owned())), "{name}");
        }
        let changeable = settings.iter().filter(|one| one.changeable).map(|one| &one.name[..]);
        let mut changeable: Vec<_> = changeable.collect();
        let mut promised = CHANGEABLE.to_vec();
        changeable.sort_unstable();
        promised.sort_unstable();
        assert_eq!(changeable, promised, "each that can change is shown once");
    }
}

#[test]
fn what_cannot_change_says_why() {
    let (mut plane, _, _) = plane();
    let mut why = |name: &str, value: &str| {
        let set = Request::Set { name: name.to_owned(), value: value.to_owned() };
        match answer(&mut plane, set, None) {
            Reply::Error(why) => why,
            reply => panic!("{name}={value}: {reply:?}"),
        }
    };
    assert!(why("tcpport", "1").contains("when the server starts"));
    assert!(why("colour", "red").contains("no such setting"));
    assert!(why("verbosity", "3").contains("0, 1 or 2"));
    assert!(why("detail_enabled", "perhaps").contains("yes or no"));
    assert!(why("maxconns", "9").contains("1 to 8") && why("maxconns", "0").contains("1 to 8"));
    assert!(why("idle_timeout", "-1").contains("a number of seconds"));
    assert!(why("maxbytes", "64m").contains("a number of bytes") && why("maxbytes", "8388607").contains("at least"));
}

#[test]
fn the_lists_of_stats_are_those_of_the_protocol_and_others_are_refused() {
    let (mut plane, _, _) = plane();
    for kind in ["", "settings", "slabs", "sizes", "sidestep"] {
        let reply = answer(&mut plane, Request::Stats { kind: kind.to_owned() }, None);
        assert!(matches!(&reply, Reply::Stats(lines) if !lines.is_empty()), "{kind}: {reply:?}");
    }
    assert!(matches!(answer(&mut plane, Request::Stats { kind: "nothing".to_owned() }, None), Reply::Error(_)));
}

#[test]
fn shutdown_sets_the_reason_and_wakes_who_waits() {
    let (mut plane, shared, told) = plane();
    assert!(matches!(answer(&mut plane, Request::Shutdown, None), Reply::Done(_)));
    assert_eq!(*told.lock().expect("nobody panics"), [Ending::Now]);
    assert_eq!(shared.control.stopping(), Some(Stopping::Graceful));
}

#[test]
fn who_drains_hears_it_once_every_core_has_obeyed_and_a_second_time_changes_the_time() {
    let (mut plane, shared, told) = plane();
    let orders = plane.cores.orders.clone();
    let core = std::thread::spawn(move || {
        let done = loop {
            match orders.take(0) {
                Some(Order::StopListening { done }) => break done,
                _ => std::thread::yield_now(),
            }
        };
        let _ = done.send(());
    });
    for seconds in [None, Some(7)] {
        let reply = answer(&mut plane, Request::Drain { seconds }, None);
        let Reply::Done(said) = reply else { panic!("it drains: {reply:?}") };
        assert_eq!(said.contains("in 7 s"), seconds.is_some(), "{said}");
    }
    core.join().expect("it obeys");
    assert_eq!(plane.cores.orders.waiting(0), 0, "it is told no third time");
    let within = Some(Duration::from_secs(7));
    let endings = [Ending::WithLastConnection { within: None }, Ending::WithLastConnection { within }];
    assert_eq!(*told.lock().expect("nobody panics"), endings);
    assert_eq!(shared.control.stopping(), None);
}

#[test]
fn a_server_drains_although_a_core_hangs_and_says_which() {
    let (mut plane, _, told) = plane();
    let reply = answer_after(LIMIT, &mut plane, Request::Drain { seconds: Some(7) }, None);
    let Reply::Done(said) = reply else { panic!("it drains: {reply:?}") };
    let late = "; core 0 has not done what it was told in time, and will once it goes on";
    assert!(said.contains("in 7 s") && said.ends_with(late), "{said}");
    let within = Some(Duration::from_secs(7));
    assert_eq!(*told.lock().expect("nobody panics"), [Ending::WithLastConnection { within }]);
    assert!(matches!(plane.cores.orders.take(0), Some(Order::StopListening { .. })), "the core finds it");
}

fn file() -> Option<OwnedFd> {
    Some(std::fs::File::options().write(true).open("/dev/null").expect("it is there").into())
}

#[test]
fn a_capture_needs_a_file_and_nothing_else_takes_one() {
    let (mut plane, _, _) = plane();
    for (request, descriptor, why) in [
        (Request::Capture { on: true, limit: 1 << 20 }, None, "no file came along"),
        (Request::Capture { on: false, limit: 0 }, file(), "nothing is to be recorded"),
        (Request::Capture { on: false, limit: 0 }, None, "no capture is on"),
        (Request::Capture { on: true, limit: 1 << 20 }, file(), "core 0 has not done what it was told"),
        // What one core did not begin has ended for all.
        (Request::Capture { on: false, limit: 0 }, None, "no capture is on"),
        (Request::Settings, file(), "takes no descriptor"),
    ] {
        let Reply::Error(said) = answer_after(LIMIT, &mut plane, request, descriptor) else { panic!("{why}") };
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_core_that_hangs_keeps_nobody_from_what_others_can_answer() {
    let (mut plane, _, _) = plane_of(2);
    let (begin, orders) = (Instant::now(), plane.cores.orders.clone());
    let set = || Request::Set { name: "maxbytes".to_owned(), value: "67108864".to_owned() };
    let list = |core| Request::Connections { core, from: 0 };
    let at = |hundredths: u32| begin + LIMIT * hundredths / 100;
    // What needs the core that hangs, and one that only waits behind that.
    assert_eq!(plane.ask_at(1, Request::Capture { on: true, limit: 1 << 20 }, file(), at(0)), None);
    assert_eq!(plane.ask_at(2, set(), None, at(10)), None);
    assert_eq!(plane.ask_at(3, list(0), None, at(20)), None);
    assert_eq!(plane.owed_at(at(30)), None);
    // What needs no core, and what needs another.
    assert!(matches!(plane.ask_at(4, Request::Settings, None, at(30)), Some(Reply::Settings(_))));
    assert!(matches!(plane.ask_at(5, Request::Stats { kind: String::new() }, None, at(30)), Some(Reply::Stats(_))));
    assert_eq!(plane.ask_at(6, list(1), None, at(30)), None);
    while let Some(order) = orders.take(1) {
        match order {
            Order::Connections(listing) => drop(listing.go_on(0, |_| None)),
            Order::Capture { done, .. } => drop(done.send(())),
            order => panic!("{order:?} was begun before its turn"),
        }
    }
    let none = Reply::Connections { connections: Vec::new(), next: None, unknown: None };
    assert_eq!((plane.owed_at(at(40)), plane.owed_at(at(40))), (Some((6, none)), None));
    // Each is told when its own time is over, whatever the others wait for.
    let why = "core 0 has not done what it was told in time".to_owned();
    assert_eq!(plane.owed_at(at(99)), None);
    let capture = std::iter::from_fn(|| Some(plane.owed_at(at(100)))).find_map(|owed| owed);
    assert_eq!(capture, Some((1, Reply::Error(why.clone()))), "once its file has ended");
    assert_eq!(plane.owed_at(at(109)), None);
    let told: Vec<_> = std::iter::from_fn(|| plane.owed_at(at(110))).collect();
    let stays = "maxbytes stays as it is: core 0 has not done what it was told in time";
    assert_eq!(told, [(2, Reply::Error(stays.to_owned()))]);
    // Of the other core's connections more may be known.
    let unknown = Reply::Connections { connections: Vec::new(), next: Some((1, 0)), unknown: Some(why) };
    assert_eq!((plane.owed_at(at(119)), plane.owed_at(at(120))), (None, Some((3, unknown))));
    assert!(!plane.owes());
}

#[test]
fn what_was_not_begun_when_its_time_was_over_is_not_begun_later() {
    let (mut plane, _, _) = plane();
    let begin = Instant::now();
    assert_eq!(plane.ask_at(1, Request::Drain { seconds: None }, None, begin), None);
    assert_eq!(plane.owed_at(begin), None);
    let later = begin + LIMIT / 2;
    assert_eq!(plane.ask_at(2, Request::Drain { seconds: Some(1) }, None, later), None);
    assert_eq!(plane.ask_at(3, Request::Capture { on: false, limit: 0 }, None, later), None);
    let told: Vec<_> = std::iter::from_fn(|| plane.owed_at(later + LIMIT)).collect();
    let numbers: Vec<_> = told.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    for (number, reply) in &told[1..] {
        let Reply::Error(why) = reply else { panic!("{number}: {reply:?}") };
        assert!(why.starts_with("it was not begun: "), "{why}");
    }
    assert_eq!(plane.cores.orders.waiting(0), 1, "the first one's order");
}

#[test]
fn of_a_core_that_takes_no_more_orders_it_is_said_at_once_and_no_other_is_told_anything() {
    let (mut plane, shared, told) = plane_of(2);
    let (begin, full) = (Instant::now(), "core 1 has not done what it was told before, and takes no more");
    let list = || Request::Connections { core: 1, from: 0 };
    let refused = (1..100).find_map(|number| plane.ask_at(number, list(), None, begin));
    let unknown = Reply::Connections { connections: Vec::new(), next: None, unknown: Some(full.to_owned()) };
    assert_eq!(refused, Some(unknown));
    assert_eq!(std::iter::from_fn(|| plane.owed_at(begin + LIMIT)).count(), 8);
    // Lists leave room for changes, until they have had theirs.
    let set = |name: &str, value: &str| Request::Set { name: name.to_owned(), value: value.to_owned() };
    let (before, mut changes) = (shared.control.limit_bytes(), 0);
    let why = loop {
        match answer_after(LIMIT, &mut plane, set("maxbytes", "67108864"), None) {
            Reply::Error(why) if why.contains("in time") => changes += 1,
            Reply::Error(why) => break why,
            reply => panic!("{reply:?}"),
        }
    };
    assert!(why == full && changes > 2, "{why} after {changes}");
    // Each was taken back, and room is never less than for that.
    assert_eq!(plane.cores.orders.waiting(0), 2 * changes);
    for request in [Request::Drain { seconds: None }, Request::Capture { on: true, limit: 1 << 20 }] {
        let descriptor = matches!(request, Request::Capture { .. }).then(file).flatten();
        assert_eq!(answer(&mut plane, request, descriptor), Reply::Error(full.to_owned()));
    }
    while plane.cores.orders.crowded(1).is_none() {
        assert!(plane.cores.orders.give(1, Order::CloseIdle(None)));
    }
    let Reply::Error(why) = answer(&mut plane, set("idle_timeout", "5"), None) else { panic!("it is full") };
    assert_eq!(why, format!("idle_timeout stays as it is: {full}"));
    assert_eq!(plane.cores.orders.waiting(0), 2 * changes, "told of nothing more");
    assert_eq!((shared.control.limit_bytes(), told.lock().expect("nobody panics").len()), (before, 0));
}

#[test]
fn a_core_that_is_not_there_has_no_connections_that_could_be_told_of() {
    let (mut plane, _, _) = plane();
    let reply = answer(&mut plane, Request::Connections { core: 1, from: 0 }, None);
    assert_eq!(reply, Reply::Error("there are 1 cores, the first of them 0".to_owned()));
}
