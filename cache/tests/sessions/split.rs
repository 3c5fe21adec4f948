//! Any split of the input and of the output gives the same bytes.

use differential::packet::{self, Packet};
use sidestep_cache::CacheConfig;

use crate::loopback::{Loopback, Pace};

/// A conversation with every command, good and bad, values of every size, and long lines.
fn conversation() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut say = |line: &str| bytes.extend_from_slice(line.as_bytes());
    for n in 0..12 {
        say(&format!("set key{n} {n} 0 {}\r\n{}\r\n", n * 17, "v".repeat(n * 17)));
    }
    let keys: String = (0..20).map(|n| format!(" key{n}")).collect();
    say(&format!("get{keys}\r\ngets{keys}  \r\n gat 0 {keys}\r\ngats 5{keys}\n"));
    say(&format!("set big 7 0 9000\r\n{}\r\nget big key1 big\r\n", "0123456789".repeat(900)));
    say(&format!("set mid 7 0 3000\r\n{}\r\nget mid\r\n", "abc".repeat(1000)));
    say(&format!("set mid 7 0 3000\r\n{}xx\r\nget mid\r\n", "abd".repeat(1000)));
    say(&format!("append mid 0 0 3000\r\n{}\r\nget mid\r\n", "def".repeat(1000)));
    say("add key1 0 0 1\r\nx\r\nadd new 0 0 1\r\nx\r\nreplace new 0 0 2\r\nxy\r\nreplace none 0 0 1\r\nx\r\n");
    say("append new 0 0 1\r\nz\r\nprepend new 0 0 1\r\na\r\nget new\r\nappend none 0 0 1\r\nx\r\n");
    say("set n 0 0 2\r\n10\r\nincr n 5\r\ndecr n 6\r\nget n\r\nincr key1 1\r\nincr none 1\r\ndecr n x\r\n");
    say("incr n 1 noreply\r\ndecr n 1 noreply\r\nset q 0 0 1 noreply\r\nq\r\nget q n\r\ndelete q noreply\r\nget q\r\n");
    say("cas key2 0 0 1 999999\r\nx\r\ncas none 0 0 1 1\r\nx\r\ntouch key3 0\r\ntouch none 0\r\ntouch key3 x\r\n");
    say("delete key4\r\ndelete key4\r\ndelete key5 0\r\ndelete key5 7\r\n");
    say(
        "set a 0 0 3\r\nabcd\r\nset a 0 0 -1\r\nset a 0 0\r\nset a 0 0 4294967296\r\nfoo\r\n\r\n\nget\r\nx\r\nmg a\r\n",
    );
    say(&format!("get {}\r\nget a {} b\r\n", "k".repeat(251), "k".repeat(300)));
    say(&format!("set {} 0 0 1\r\nx\r\n", "k".repeat(251)));
    say(&format!("set large 0 0 20000\r\n{}\r\nget large\r\n", "z".repeat(20_000)));
    let many: String = (0..700).map(|n| format!(" key{}", n % 14)).collect();
    say(&format!("get{many}\r\ngats 0{many}\r\nget{many} {} key1\r\n", "k".repeat(260)));
    say("mg key1 v f s t k O12 c h l\r\nmg none k Oabc\r\nmg none q v\r\nmg key2 T100 t v\r\nmg key2 t u h\r\nmn\r\n");
    say("mg viv N30 v t s c W\r\nmg viv N30 v t s c\r\nmg viv N30 v t s\r\nmg viv R60\r\nmg key3 T20 R60 t\r\n");
    say("ms m 5 c k O1 F7 T90\r\nhello\r\nms m 1 q\r\nx\r\nms m 1 ME k\r\ny\r\nms m 2 MA\r\nzz\r\nmg m v s\r\n");
    say("ms bTIuIQ== 3 b k\r\nabc\r\nmg bTIuIQ== b v k\r\nmg m2.! v k\r\nme bTIuIQ== b\r\nme key1\r\nme none\r\n");
    say(&format!(
        "ms m3 3000 k c\r\n{}\r\nmg m3 v k c\r\nms m3 3000 q\r\n{}\r\n",
        "ghi".repeat(1000),
        "jkl".repeat(1000)
    ));
    say(&format!("ms m3 20000 k O7\r\n{}\r\nmg m3 v\r\nms m3 3 k k\r\nabc\r\nms m3 3\r\nabcd\r\n", "m".repeat(20_000)));
    say(&format!(
        "ms m4 9000 I MR\r\n{0}\r\nms m4 9000\r\n{0}\r\nmg m4 v s f t O9 k\r\nmg m4 v q\r\n",
        "n".repeat(9000)
    ));
    say(
        "md m4 I T50 k\r\nmg m4 s t\r\nmg m4 s t\r\nmd m4 q\r\nmd m4 q k\r\nma c1 N0 J5 v t c k O2\r\nma c1 v D7 T9 t\r\n",
    );
    say("ma c1 MD D100 q\r\nma c1 v\r\nma none q k\r\nma m2.! v\r\nmd\r\nmg\r\nma c1 Mx\r\nmg a !\r\n");
    say("version\r\nverbosity 1\r\nverbosity\r\nshutdown\r\nstats detail\r\nstats nonsense\r\n");
    say("flush_all 0\r\nget key1 key2\r\nset after 0 0 1\r\na\r\nflush_all noreply\r\nget after\r\nflush_all x\r\n");
    bytes.extend_from_slice(b"get a\0b\r\nset a\0b 0 0 1\r\n");
    bytes.extend_from_slice(b"set last 0 0 4\r\nl\0st\r\nget last\r\nquit\r\nget last\r\n");
    bytes
}

/// The same of packets: every opcode, values of every size, and what is refused.
fn packets() -> Vec<u8> {
    let mut lines = String::new();
    for n in 0..12 {
        lines += &format!("01 key=key{n} extras=0000000{n:x}00000064 value={} opaque={n:x}\n", "v".repeat(n * 17));
        lines += &format!("00 key=key{n}\n0c key=key{n}\n09 key=none{n}\n0d key=key{n} opaque=d\n0c key=none{n}\n");
    }
    lines += &format!("01 key=mid extras=0000000000000000 value={}\n00 key=mid\n", "abc".repeat(1000));
    lines += &format!("11 key=big extras=0000000700000000 value={}\n0c key=big\n", "0123456789".repeat(900));
    lines += &format!("0e key=big value={}\n19 key=mid value={}\n00 key=mid\n", "z".repeat(3000), "y".repeat(9000));
    lines += &format!("01 key=large extras=0000000000000000 value={}\n00 key=large\n", "x".repeat(20_000));
    lines += &format!("0f key=key1 value={}\n12 key=key1 extras=0000000000000000 value=x\n", "w".repeat(20_000));
    lines += "02 key=new extras=0000000000000000 value=1\n03 key=new extras=0000000000000000 value=2 cas=9999\n";
    lines += "13 key=none extras=0000000000000000 value=x\n0e key=none value=x\n1a key=new value=-\n00 key=new\n";
    lines += "05 key=n extras=0000000000000001000000000000000500000000\n15 key=n extras=000000000000000700000000000000050000ffff\n";
    lines += "06 key=n extras=000000000000000200000000000000050000ffff\n16 key=none extras=0000000000000002000000000000000fffffffff\n";
    lines += "05 key=key5 extras=0000000000000001000000000000000000000000\n1c key=key2 extras=00000000\n1d key=key3 extras=00000020\n";
    lines += "1e key=none extras=00000020\n23 key=key4 extras=00000020\n24 key=none extras=00000020\n23 key=none extras=00000020\n";
    lines += "04 key=key6\n14 key=key7\n04 key=key6\n14 key=key7 opaque=7\n04 key=key8 cas=99999\n0a opaque=a\n0b\n";
    lines += "1b extras=00000001\n20\n21 key=PLAIN value=%00u%00p\n55 key=k value=vv\n10 key=nothing\n10 key=detail%20off\n0a\n";
    lines += "08\n00 key=key1\n01 key=after extras=0000000000000000 value=a\n18 extras=00000000\n0c key=after\n";
    lines += "01 key=last extras=0000000000000000 value=l%00st\n0c key=last\n07 opaque=ff\n0a\n";
    lines.lines().flat_map(|line| Packet::read(line).expect("a packet").encode()).collect()
}

fn replies(cores: usize, pace: Pace, seed: u64) -> Vec<u8> {
    replies_to(&conversation(), cores, pace, seed)
}

fn replies_to(bytes: &[u8], cores: usize, pace: Pace, seed: u64) -> Vec<u8> {
    let mut config = CacheConfig { cores, ..CacheConfig::default() };
    config.shard.item_size_max = 16_384;
    let mut loopback = Loopback::new(&config, pace, seed);
    let client = loopback.connect(0);
    loopback.send(client, bytes);
    loopback.run();
    assert!(loopback.is_closed(client), "quit was not reached: {} bytes unread", loopback.unread(client));
    let received = loopback.take_received(client);
    loopback.end();
    received
}

/// The same bytes, without cas uniques: they count per shard.
fn without_uniques(replies: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in replies.split_inclusive(|&byte| byte == b'\n') {
        let words: Vec<_> = line.split(|&byte| byte == b' ').collect();
        let kept = if words[0] == b"VALUE" { words.len().min(4) } else { words.len() };
        let is_unique = |word: &[u8]| matches!(word, [b'c', b'0'..=b'9', ..]) || word.starts_with(b"cas=");
        let meta = [&b"HD"[..], b"VA", b"ME"].contains(&words[0]);
        let words: Vec<_> = words[..kept].iter().copied().filter(|word| !(meta && is_unique(word))).collect();
        out.extend_from_slice(&words.join(&b' '));
    }
    String::from_utf8_lossy(&out).replace("\r\n", "\n").into_bytes()
}

/// The same packets, without cas uniques.
fn packets_without_uniques(replies: &[u8]) -> Vec<u8> {
    packet::lines(replies, |response| if response.cas == 0 { "0" } else { "#" }.to_owned())
}

#[track_caller]
fn assert_same(what: &str, found: &[u8], expected: &[u8]) {
    if found != expected {
        let at = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
        let near = |bytes: &[u8]| {
            String::from_utf8_lossy(&bytes[at.saturating_sub(200)..bytes.len().min(at + 100)]).into_owned()
        };
        panic!("{what}: differs at byte {at}\nfound:    {:?}\nexpected: {:?}", near(found), near(expected));
    }
}

#[test]
fn one_core_answers_the_same_whole_byte_by_byte_and_in_random_pieces() {
    let whole = replies(1, Pace::Even, 0);
    assert!(whole.windows(8).filter(|window| window == b"\r\nVALUE ").count() > 500);
    assert_same("byte by byte", &replies(1, Pace::ByteByByte, 0), &whole);
    for seed in 0..20 {
        assert_same(&format!("seed {seed}"), &replies(1, Pace::Seeded, seed), &whole);
    }
}

#[test]
fn several_cores_answer_as_one_does() {
    let one = without_uniques(&replies(1, Pace::Even, 0));
    for cores in [2, 3, 4] {
        let whole = replies(cores, Pace::Even, 0);
        assert_same(&format!("{cores} cores"), &without_uniques(&whole), &one);
        assert_same(&format!("{cores} cores byte by byte"), &replies(cores, Pace::ByteByByte, 0), &whole);
        for seed in 0..20 {
            let split = replies(cores, Pace::Seeded, seed);
            assert_same(&format!("{cores} cores, seed {seed}"), &split, &whole);
        }
    }
}

#[test]
fn packets_are_answered_the_same_on_any_number_of_cores_however_they_are_cut() {
    let conversation = packets();
    let one = replies_to(&conversation, 1, Pace::Even, 0);
    let lines = packets_without_uniques(&one);
    let quit = b"\r\n07 00 opaque=000000ff cas=0 extras= key= value=\r\n";
    assert!(lines.ends_with(quit) && lines.iter().filter(|&&byte| byte == b'\n').count() > 80);
    for cores in [1, 2, 3] {
        let whole = replies_to(&conversation, cores, Pace::Even, 0);
        assert_same(&format!("{cores} cores"), &packets_without_uniques(&whole), &lines);
        assert_same(
            &format!("{cores} cores byte by byte"),
            &replies_to(&conversation, cores, Pace::ByteByByte, 0),
            &whole,
        );
        for seed in 0..20 {
            let split = replies_to(&conversation, cores, Pace::Seeded, seed);
            assert_same(&format!("{cores} cores, seed {seed}"), &split, &whole);
        }
    }
}
