//! How many prefixes are told apart, what happens beyond, and what a dump tells meanwhile.

use std::collections::BTreeMap;

use super::*;

fn prefixes(cores: usize) -> Prefixes {
    Prefixes::new(cores, b':', true, KeyHasher::new([7; 16]))
}

/// What a dump in steps of 16 KiB tells, by name.
fn told(prefixes: &Prefixes) -> BTreeMap<String, String> {
    let (mut text, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        let before = text.len();
        from = prefixes.tell(at, 16 << 10, &mut text);
        assert!(text.len() - before <= 16 << 10 && from != Some(at));
    }
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<&str> = text.lines().map(|line| line.strip_prefix("PREFIX ").expect("a prefix")).collect();
    let told: BTreeMap<_, _> = lines
        .iter()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, counts)| (name.into(), counts.into()))
        .collect();
    assert_eq!(told.len(), lines.len(), "a prefix is told twice");
    told
}

#[test]
fn thousands_of_prefixes_are_counted_and_what_finds_no_room_is_said() {
    println!("{TABLE_BYTES} bytes a core");
    let prefixes = prefixes(1);
    for n in 0..PREFIXES_MAX {
        assert!(prefixes.count(0, format!("user{n}:x").as_bytes(), Counted::Set), "prefix {n}");
    }
    for n in 0..100 {
        assert!(!prefixes.count(0, format!("more{n}:x").as_bytes(), Counted::Set));
        assert!(prefixes.count(0, format!("user{n}:y").as_bytes(), Counted::Get { hit: n % 2 == 0 }));
    }
    let all = told(&prefixes);
    assert_eq!((all.len(), prefixes.most()), (PREFIXES_MAX as usize, PREFIXES_MAX.into()));
    assert_eq!(all["user1"], "get 1 hit 0 set 1 del 0");
    assert_eq!(all["user12000"], "get 0 hit 0 set 1 del 0");
}

#[test]
fn a_reset_makes_room_for_other_prefixes() {
    let prefixes = prefixes(2);
    for round in 0..3 {
        for n in 0..PREFIXES_MAX {
            assert!(prefixes.count(0, format!("of{round}-{n}:").as_bytes(), Counted::Delete));
        }
        assert!(!prefixes.count(0, b"other:", Counted::Delete));
        assert!(prefixes.count(1, b"other:", Counted::Delete));
        assert_eq!(told(&prefixes).len(), PREFIXES_MAX as usize + 1);
        prefixes.reset();
        assert_eq!((told(&prefixes).len(), prefixes.most()), (0, 0), "round {round}");
    }
}

#[test]
fn long_names_fill_their_room_before_the_places() {
    let prefixes = prefixes(1);
    let name = |n: usize| format!("{n:0>245}:x");
    let counted =
        (0..PREFIXES_MAX as usize).take_while(|&n| prefixes.count(0, name(n).as_bytes(), Counted::Set)).count();
    assert_eq!(counted, NAME_WORDS / 245usize.div_ceil(8));
    assert!(prefixes.count(0, name(0).as_bytes(), Counted::Set), "those that are there go on being counted");
    assert_eq!(told(&prefixes).len(), counted);
}

#[test]
fn what_all_cores_count_is_told_once() {
    let prefixes = prefixes(3);
    for core in 0..3 {
        for n in core..core + 10 {
            prefixes.count(core, format!("p{n}:x").as_bytes(), Counted::Get { hit: true });
        }
        prefixes.count(core, b":none", Counted::Set);
        prefixes.count(core, b"no-prefix", Counted::Set);
    }
    let all = told(&prefixes);
    assert_eq!(all.len(), 13);
    let counts = |name: &str| all[name].as_str();
    assert_eq!((counts("p0"), counts("p5")), ("get 1 hit 1 set 0 del 0", "get 3 hit 3 set 0 del 0"));
    assert_eq!(counts(""), "get 0 hit 0 set 3 del 0");
    let whole = prefixes.dump(1 << 20);
    assert!(whole.ends_with(b"END\r\n") && whole.split(|&byte| byte == b'\n').count() == 13 + 2);
    let part = prefixes.dump(LINE_MAX_BYTES + 60);
    assert!(part.ends_with(b"del 0\r\n") && part.len() < LINE_MAX_BYTES + 60, "a part has no END");
}

#[test]
fn a_dump_beside_counting_and_resets_tells_only_names_that_were_counted() {
    let prefixes = prefixes(2);
    std::thread::scope(|scope| {
        let counting: Vec<_> = (0..2usize)
            .map(|core| {
                let prefixes = &prefixes;
                scope.spawn(move || {
                    for n in 0..400_000usize {
                        // Another name in another length each time, so that words of one would show in another.
                        let digit = char::from(b'a' + (n % 26) as u8);
                        let name: String = std::iter::repeat_n(digit, 1 + n % 60).collect();
                        prefixes.count(core, format!("{name}{n}:x").as_bytes(), Counted::Set);
                        if n % 5_000 == 0 && core == 0 {
                            prefixes.reset();
                        }
                    }
                })
            })
            .collect();
        while counting.iter().any(|thread| !thread.is_finished()) {
            let mut text = Vec::new();
            let mut from = Some(0);
            while let Some(at) = from {
                from = prefixes.tell(at, 16 << 10, &mut text);
            }
            for line in String::from_utf8(text).unwrap().lines() {
                let name = line.strip_prefix("PREFIX ").unwrap().split(' ').next().unwrap();
                let letters = name.trim_end_matches(|c: char| c.is_ascii_digit());
                let n: usize = name[letters.len()..].parse().unwrap_or_else(|_| panic!("{line}"));
                let digit = char::from(b'a' + (n % 26) as u8);
                assert!(letters.len() == 1 + n % 60 && letters.chars().all(|c| c == digit), "{line}");
            }
        }
    });
}
