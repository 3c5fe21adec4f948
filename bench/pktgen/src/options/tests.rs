use super::*;

fn parse(line: &str) -> Result<Plan, clap::Error> {
    Plan::try_parse_from(format!("sidestep-pktgen {line}").split_whitespace())
}

fn plan(line: &str) -> Result<Plan, PlanError> {
    parse(line).unwrap().checked()
}

fn refusal(line: &str) -> String {
    plan(line).unwrap_err().to_string()
}

#[test]
fn a_plain_pong_and_a_plain_ping_are_understood() {
    let pong = plan("-f pong -i xsk:eth0@2 -s 10.0.0.2").unwrap();
    assert_eq!(pong.port, PortName::Xsk("xsk:eth0@2".parse().unwrap()));
    assert_eq!((pong.source().ports, pong.time, pong.count), (None, Duration::from_secs(10), None));
    let ping = plan("-f ping -i xsk:eth0 -s 10.0.0.1 -d 10.0.0.2:7-9 -p 2 -l 1514 -T 0.5").unwrap();
    assert_eq!((ping.source().ports, ping.destination().ports), (Some((7000, 7128)), Some((7, 9))));
    assert_eq!((ping.frame_bytes(), ping.window(), ping.time), (1514, 64, Duration::from_millis(500)));
    let other = plan("-f ping --device xdp:eth0 -s 10.0.0.1 -d 10.0.0.2:7-9").unwrap();
    assert_eq!(other.port, ping.port);
    let tap = plan("-f pong --device tap:t0 -s 10.0.0.2 -p 2").unwrap();
    assert_eq!((tap.port.to_string(), tap.threads), ("tap:t0".to_owned(), 2));
    assert_eq!(plan("-f ping -i wire: -R 1000").unwrap().window(), 4096);
}

#[test]
fn what_is_wrong_is_named_with_its_limits() {
    let wrong = |line: &str, what: &str| {
        let error = parse(line).unwrap_err().to_string();
        assert!(error.contains(what), "{line}: {error}");
    };
    wrong("-f fwd -i wire:", "possible values: pong, ping, rx, tx");
    for port in ["eth0", "xsk:", "xsk:eth0@x", "xdp:", "tap:", "wire:0"] {
        wrong(&format!("-f rx -i {port}"), "it must be xdp:INTERFACE, xdp:INTERFACE@QUEUE, tap:INTERFACE or wire:");
    }
    wrong("-f rx -i pcap:x", "`sidestep replay FILE` plays a capture");
    wrong("-f rx -i wire: -b 65", "65 is not in 1..=64");
    wrong("-f rx -i wire: -T 0", "0.01 to 86400");
    wrong("-f rx -i wire: -T NaN", "0.01 to 86400");
    wrong("-f tx -i wire: -l 59", "59 is not in 60..=9014");
    wrong("-f rx -i wire: -n 0", "0 is not in 1..=281474976710656");
    wrong("-f rx -i xsk:a -s 10.0.0.1 --mode zc", "auto, native or generic");
    wrong("-f rx -i xsk:a -s 10.0.0.1 -S ff:ff:ff:ff:ff:ff", "one station");
    assert!(refusal("-f rx -i xsk:a").contains("needs -s"));
    assert!(refusal("-f tx -i xsk:a -s 10.0.0.1").contains("needs -d"));
    assert!(refusal("-f tx -i wire: -s 10.0.0.1:1-60000 -d 10.0.0.2:1-2").starts_with("120000 flows"));
}

#[test]
fn an_option_without_a_meaning_is_refused_and_not_ignored() {
    let pong = "-f pong -i xsk:a -s 10.0.0.1";
    for option in ["-d 10.0.0.2", "-D 02:00:00:00:00:01", "-l 60", "-R 5", "--window 3", "--timeout 3"] {
        assert!(refusal(&format!("{pong} {option}")).ends_with("has no meaning with -f pong; leave it out"));
    }
    assert!(refusal("-f tx -i xsk:a -s 10.0.0.1 -d 10.0.0.2 --poll 1").starts_with("--poll has no meaning"));
    assert!(refusal("-f ping -i xsk:a -s 10.0.0.1 -d 10.0.0.2 --poll 1 -R 5").starts_with("--poll has no meaning"));
    assert!(refusal("-f rx -i tap:a -s 10.0.0.1 --mode native").ends_with("which has no XDP program; leave it out"));
    assert!(refusal("-f ping -i wire: -a 1").ends_with("over wire:; leave it out"));
}

#[test]
fn both_addresses_are_of_one_family_and_a_frame_has_room_for_its_headers() {
    let ping = plan("-f ping -i tap:t0 -s [fd77::4]:7000-7063 -d fd77::2").unwrap();
    assert_eq!((ping.source().ports, ping.frame_bytes()), (Some((7000, 7063)), 80));
    assert_eq!(ping.destination(), "[fd77::2]:7".parse().unwrap());
    // The end of a wire that is not named is of the same family.
    assert!(plan("-f ping -i wire: -d fd77::2").unwrap().source().address.is_ipv6());
    assert!(plan("-f pong -i wire: -s fd77::2").unwrap().destination().address.is_ipv6());
    assert!(
        refusal("-f ping -i tap:t0 -s fd77::4 -d 10.0.0.2").starts_with("-s is fd77::4 and -d is 10.0.0.2; give two")
    );
    assert!(refusal("-f tx -i wire: -s fd77::4 -l 79").starts_with("-l is 79; over IPv6 a frame has at least 80"));
    assert_eq!(plan("-f tx -i wire: -s 10.0.0.1 -l 60").unwrap().frame_bytes(), 60);
}
