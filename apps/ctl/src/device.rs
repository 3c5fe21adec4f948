//! What the tools take of `--device xdp:NAME|tap:NAME|wire:|pcap:FILE`, and what to do instead of the rest. The name of an
//! interface alone, which has no colon, says the same as `xdp:NAME`.

use std::path::PathBuf;

use nic::DeviceName;
use nic::xdp::XskName;

/// The interface of a NIC.
pub(crate) fn nic(text: &str) -> Result<String, &'static str> {
    match named(text)? {
        DeviceName::Xdp(name) => whole(name),
        DeviceName::Tap(_) => Err("a TAP has no settings of a NIC: the server makes and sets it itself"),
        DeviceName::Wire | DeviceName::Pcap(_) => Err("there is no NIC behind it; give xdp:NAME"),
    }
}

/// The interface of a server.
pub(crate) fn server(text: &str) -> Result<String, &'static str> {
    match named(text)? {
        DeviceName::Xdp(name) => whole(name),
        DeviceName::Tap(name) => Ok(name),
        DeviceName::Wire | DeviceName::Pcap(_) => Err("no server runs on it; give xdp:NAME or tap:NAME"),
    }
}

/// The file of a capture.
pub(crate) fn capture(text: &str) -> Result<PathBuf, &'static str> {
    match named(text)? {
        DeviceName::Pcap(file) => Ok(file),
        DeviceName::Xdp(_) | DeviceName::Tap(_) => Err(
            "what is replayed has been recorded: `sidestep-cached --capture DIR` or tcpdump records an interface; give pcap:FILE",
        ),
        DeviceName::Wire => Err("nothing is recorded on a wire; give pcap:FILE"),
    }
}

fn named(text: &str) -> Result<DeviceName, &'static str> {
    let form = "it must be the name of an interface, xdp:NAME, tap:NAME or pcap:FILE";
    if !text.is_empty() && !text.contains(':') {
        return Ok(DeviceName::Xdp(XskName { link: text.to_owned(), first_queue: 0 }));
    }
    text.parse().map_err(|_| form)
}

fn whole(name: XskName) -> Result<String, &'static str> {
    match name.first_queue {
        0 => Ok(name.link),
        _ => Err("the whole interface is meant; leave the queue out"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_takes_what_it_can_and_says_what_to_give_instead_of_the_rest() {
        for read in [nic, server] {
            assert_eq!(read("eth1"), Ok("eth1".to_owned()));
            assert_eq!(read("xdp:eth1"), Ok("eth1".to_owned()));
            for (wrong, said) in
                [("wire:", "give xdp:NAME"), ("pcap:x", "give xdp:NAME"), ("xdp:eth1@2", "leave the queue out")]
            {
                assert!(read(wrong).expect_err(wrong).contains(said), "{wrong}");
            }
            assert!(read("").is_err() && read("dpdk:0").is_err());
        }
        assert_eq!(server("tap:t0"), Ok("t0".to_owned()));
        assert!(nic("tap:t0").is_err_and(|why| why.contains("sets it itself")));
        assert_eq!(capture("pcap:some/file:1"), Ok("some/file:1".into()));
        assert!(capture("xdp:eth1").is_err_and(|why| why.contains("--capture DIR")));
        assert!(capture("eth1").is_err_and(|why| why.contains("--capture DIR")));
    }
}
