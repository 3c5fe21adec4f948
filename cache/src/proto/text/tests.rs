use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

use super::*;

const NOW: Now = Now { secs: 100, unix_epoch: 1_700_000_000 };

fn parse_line(line: &[u8]) -> Command<'_> {
    super::parse_line(line, NOW)
}

/// A storage command of key `k` with flags 1, an exptime of -1 and a value of 3 bytes.
fn store(mode: StoreMode, noreply: bool) -> Command<'static> {
    Command::Other { asked: Asked::Store(storing_of(mode, b"k", 1, -1, 3, NOW)), noreply }
}

fn ordered(order: Order<'_>, noreply: bool) -> Command<'_> {
    Command::Other { asked: Asked::Order(order), noreply }
}

fn fails(line: &str) -> (Line, bool) {
    match parse_line(line.as_bytes()) {
        Command::Other { asked: Asked::Line(line), noreply } => (line, noreply),
        other => panic!("{line:?} is {other:?}"),
    }
}

#[test]
fn a_storage_command_is_read_with_its_numbers() {
    assert_eq!(parse_line(b"set k 1 -1 3"), store(StoreMode::Set, false));
    assert_eq!(parse_line(b"set  k 1 -1  3 "), store(StoreMode::Set, false));
    assert_eq!(parse_line(b"set k 1 -1 3 noreply"), store(StoreMode::Set, true));
    assert_eq!(parse_line(b"set k 1 -1 3 anything"), store(StoreMode::Set, false));
    assert_eq!(parse_line(b"set k 1 -1 3 anything and noreply"), store(StoreMode::Set, true));
    assert_eq!(parse_line(b"cas k 1 -1 3 9"), store(StoreMode::Cas(9), false));
}

#[test]
fn too_few_words_are_a_bad_format_and_noreply_does_not_hide_it() {
    for line in ["get", "get  ", "gat", "gat 0", "set a 0 0", "set a 0 noreply", "touch a", "delete", "incr a"] {
        assert_eq!(fails(line), (Line::BadFormat, false), "{line:?}");
    }
}

#[test]
fn an_unknown_line_is_an_error_that_noreply_hides() {
    for line in ["    ", "mx a", "unknown", "getx a", "bget a", " get a", " set a 0 0 1", "cache_memlimit"] {
        assert_eq!(fails(line), (Line::Error, false), "{line:?}");
    }
    for line in ["noreply", "unknown noreply", " get noreply", "cache_memlimit noreply"] {
        assert_eq!(fails(line), (Line::Error, true), "{line:?}");
    }
    assert_eq!(parse_line(b"  lru mode flat"), ordered(Order::Lru(b" mode flat"), false));
}

#[test]
fn wrong_numbers_get_their_own_lines_and_noreply_hides_them() {
    for (line, expected) in [
        ("set a 0 0 noreply", (Line::BadFormat, false)),
        ("set a 0 0 -1", (Line::BadFormat, false)),
        ("set a 0 0 4294967296", (Line::BadFormat, false)),
        ("incr a x", (Line::BadDelta, false)),
        ("incr a -1", (Line::BadDelta, false)),
        ("decr a noreply", (Line::BadDelta, true)),
        ("touch a x", (Line::BadExptime, false)),
        ("gat a b", (Line::BadExptime, false)),
        ("verbosity", (Line::BadFormat, false)),
        ("verbosity x", (Line::BadFormat, false)),
        ("verbosity noreply", (Line::BadFormat, true)),
        ("cache_memlimit 7", (Line::MemlimitTooSmall, false)),
        ("cache_memlimit 2000000000", (Line::MemlimitNotBytes, false)),
        ("cache_memlimit x", (Line::Error, false)),
    ] {
        assert_eq!(fails(line), expected, "{line:?}");
    }
}

#[test]
fn the_value_of_a_storage_command_that_is_refused_is_passed_over() {
    let refused = |noreply| Command::Other { asked: Asked::PassOver { bytes: 3, line: Line::BadFormat }, noreply };
    for line in ["set a b 0 1", "set a 0 b 1", "cas a 0 0 1", "cas a 0 0 1 -9", "cas a 0 0 1 x y z"] {
        assert_eq!(parse_line(line.as_bytes()), refused(false), "{line:?}");
    }
    for line in ["set a 0 b 1 noreply", "cas a 0 0 1 noreply"] {
        assert_eq!(parse_line(line.as_bytes()), refused(true), "{line:?}");
    }
}

#[test]
fn what_follows_the_words_of_a_command_is_ignored() {
    let deleted = |key, noreply| {
        let asked = Asked::Operation { key, operation: Operation::DELETE };
        Command::Other { asked, noreply }
    };
    for (line, noreply) in [("delete a 10", false), ("delete a 10 noreply", true)] {
        assert_eq!(parse_line(line.as_bytes()), deleted(b"a", noreply), "{line:?}");
    }
    assert_eq!(parse_line(b"delete noreply"), deleted(b"noreply", true));
    assert_eq!(parse_line(b"verbosity 1 2 3"), ordered(Order::Verbosity { level: 1 }, false));
}

#[test]
fn keys_end_at_250_bytes() {
    let (key, overlong) = ("k".repeat(250), "k".repeat(251));
    assert!(matches!(parse_line(format!("get {key}").as_bytes()), Command::Fetch { .. }));
    let stored = format!("set {key} 0 0 1");
    assert!(matches!(parse_line(stored.as_bytes()), Command::Other { asked: Asked::Store(_), .. }));
    for line in ["get a {}", "gat 0 {}", "delete {}", "incr {} 1", "touch {} 1"] {
        assert_eq!(fails(&line.replace("{}", &overlong)), (Line::BadFormat, false), "{line}");
    }
    let refused = Command::heard(Asked::PassOver { bytes: 3, line: Line::BadFormat });
    assert_eq!(parse_line(format!("set {overlong} 0 0 1").as_bytes()), refused);
}

#[test]
fn fetches_keep_their_keys_for_one_by_one_reading() {
    let Command::Fetch { cas: true, expiry: None, keys } = parse_line(b"gets a  bb ") else { panic!() };
    let (first, rest) = next_word(keys).unwrap();
    let (second, rest) = next_word(rest).unwrap();
    assert_eq!((first, second, next_word(rest)), (&b"a"[..], &b"bb"[..], None));
}

#[test]
fn flush_all_takes_a_delay_a_noreply_or_both() {
    assert_eq!(parse_line(b"flush_all"), ordered(Order::Flush(Ok(0)), false));
    assert_eq!(parse_line(b"flush_all noreply"), ordered(Order::Flush(Ok(0)), true));
    assert_eq!(parse_line(b"flush_all 5 noreply"), ordered(Order::Flush(Ok(5)), true));
    assert_eq!(parse_line(b"flush_all -1"), ordered(Order::Flush(Ok(-1)), false));
    assert_eq!(parse_line(b"flush_all x"), ordered(Order::Flush(Err(Line::BadExptime)), false));
    assert_eq!(parse_line(b"flush_all 1 2"), ordered(Order::Flush(Ok(1)), false));
}

#[test]
fn an_http_request_closes_unless_its_method_is_one_of_ours() {
    assert_eq!(parse_line(b"POST / HTTP/1.1"), Command::Http);
    assert_eq!(parse_line(b"delegate / HTTP/1.1"), Command::Http);
    assert_eq!(fails("HTTP/1.1"), (Line::Error, false));
    assert_eq!(fails("POST /"), (Line::Error, false));
    assert!(matches!(parse_line(b"get / HTTP/1.1"), Command::Fetch { .. }));
}

#[test]
fn only_fetches_may_be_long() {
    assert_eq!(begin_long_fetch(b"get a b", NOW), LongFetch::Begun { consumed: 3, cas: false, expiry: None });
    assert_eq!(begin_long_fetch(b" get a b", NOW), LongFetch::Refused(Line::Error));
    assert_eq!(
        begin_long_fetch(b"gats 5 a b", NOW),
        LongFetch::Begun { consumed: 6, cas: true, expiry: Some(expiry_of(5, NOW)) }
    );
    assert_eq!(begin_long_fetch(b"gat x a", NOW), LongFetch::Refused(Line::BadExptime));
    assert_eq!(begin_long_fetch(b"set a b", NOW), LongFetch::No);
    assert_eq!(begin_long_fetch(b"getaaaaaa", NOW), LongFetch::No);
    assert_eq!(begin_long_fetch(&[b' '; 200], NOW), LongFetch::No);
    let mut spaced = vec![b' '; 101];
    spaced.extend_from_slice(b"get a");
    assert_eq!(begin_long_fetch(&spaced, NOW), LongFetch::No);
}

#[test]
fn a_plain_get_is_what_the_general_way_reads() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
    let mut plain = 0;
    for _ in 0..200_000 {
        let mut line = b"get ".to_vec();
        let len = [3, 12, 40, 252][rng.next_u32() as usize % 4];
        for _ in 0..rng.next_u32() % len {
            let odd = rng.next_u32() % 64 == 0;
            line.push(if odd {
                b" \t\r\n\0\x7f\x80\xff"[rng.next_u32() as usize % 8]
            } else {
                b'!' + (rng.next_u32() % 94) as u8
            });
        }
        line.extend_from_slice([&b"\r\n"[..], b"\n", b" \r\n", b"", b"\r"][rng.next_u32() as usize % 5]);
        line.extend_from_slice(b"get next\r\n");
        let cut = if rng.next_u32() % 4 == 0 { rng.next_u32() as usize % (line.len() + 1) } else { line.len() };
        let Some((key, len)) = plain_get(&line[..cut]) else { continue };
        plain += 1;
        let text = line[..len].strip_suffix(b"\n").expect("a whole line");
        assert!(!text.contains(&b'\n') && !text.contains(&0), "{:?}", line.escape_ascii().to_string());
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        match parse_line(text) {
            Command::Fetch { cas: false, expiry: None, keys } => assert_eq!(next_word(keys), Some((key, &b""[..]))),
            other => panic!("{:?}: {other:?}", line.escape_ascii().to_string()),
        }
    }
    assert!(plain > 10_000, "{plain}");
}

#[test]
fn a_plain_get_has_a_key_of_one_to_250_bytes() {
    for (len, plain) in
        [(0, false), (1, true), (7, true), (8, true), (249, true), (250, true), (251, false), (600, false)]
    {
        for end in ["\r\n", "\n"] {
            let line = format!("get {}{end}", "k".repeat(len));
            assert_eq!(
                plain_get(line.as_bytes()).map(|(key, bytes)| (key.len(), bytes)),
                plain.then_some((len, line.len()))
            );
            assert_eq!(plain_get(&line.as_bytes()[..line.len() - 1]), None);
        }
    }
}

/// Whatever follows the key: what is taken as a plain set means the same when it is read word by word.
#[test]
fn a_plain_set_is_read_as_its_words_are() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(78);
    let mut plain = 0;
    for _ in 0..200_000 {
        // Mostly what clients write, so that one thing is wrong at a time.
        let mut odd = |few: u32| rng.next_u32() % few == 0;
        let mut line = b"set ".to_vec();
        for word in 0..if odd(8) { 6 } else { 4 } {
            let words = [&b"k"[..], b"0", b"123456789", b"1234567890", b"-1", b"+1", b"1x", b"", b"noreply", b"\t"];
            let any = words.into_iter().find(|_| odd(6)).unwrap_or(b"7");
            line.extend_from_slice(if odd(4) { any } else { b"12" });
            line.extend_from_slice(if odd(16) {
                b"  "
            } else if word == 3 && !odd(8) {
                b""
            } else {
                b" "
            });
        }
        line.extend_from_slice(if odd(4) { b" noreply" } else { b"" });
        line.extend_from_slice(if odd(16) {
            b"\r"
        } else if odd(4) {
            b"\n"
        } else {
            b"\r\n"
        });
        line.extend_from_slice(b"value\r\n");
        let Some((storing, noreply, len)) = plain_set(&line, NOW) else { continue };
        plain += 1;
        let text = line[..len].strip_suffix(b"\n").expect("a whole line");
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let stored = Command::Other { asked: Asked::Store(storing), noreply };
        assert_eq!(parse_line(text), stored, "{:?}", line.escape_ascii().to_string());
    }
    assert!(plain > 1_000, "{plain}");
    let plain = plain_set(b"set key 7 60 5 noreply\r\n", NOW);
    assert_eq!(plain, Some((storing_of(StoreMode::Set, b"key", 7, 60, 5, NOW), true, 24)));
    for other in ["set k 0 0 5 \r\n", "set k 0 0 1234567890\r\n", "set k 0 0\r\n", "set  k 0 0 5\r\n", "set k 0 0 5"] {
        assert_eq!(plain_set(other.as_bytes(), NOW), None, "{other:?}");
    }
}
