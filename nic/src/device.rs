//! `DeviceName`: how a command line names what frames come from and go to.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::xdp::XskName;

/// What frames come from and go to, as every program of the workspace reads it: `xdp:INTERFACE`, `xdp:INTERFACE@QUEUE`
/// (the first queue meant), `tap:INTERFACE`, `wire:` or `pcap:FILE`. Which of them a program takes is its own to say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DeviceName {
    /// Queues of an interface, over AF_XDP. `xsk:` says the same.
    Xdp(XskName),
    /// A TAP interface.
    Tap(String),
    /// The wire in memory.
    Wire,
    /// A capture.
    Pcap(PathBuf),
}

/// A text that names no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no device; write xdp:INTERFACE, tap:INTERFACE, wire: or pcap:FILE, such as xdp:eth0")]
pub struct DeviceNameError(pub String);

impl FromStr for DeviceName {
    type Err = DeviceNameError;

    fn from_str(text: &str) -> Result<Self, DeviceNameError> {
        let wrong = || DeviceNameError(text.to_owned());
        let (kind, name) = text.split_once(':').ok_or_else(wrong)?;
        match (kind, name) {
            ("wire", "") => Ok(Self::Wire),
            ("xdp" | "xsk", _) => format!("xsk:{name}").parse().map(Self::Xdp).map_err(|_| wrong()),
            ("tap", name) if !name.is_empty() => Ok(Self::Tap(name.to_owned())),
            ("pcap", file) if !file.is_empty() => Ok(Self::Pcap(file.into())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for DeviceName {
    /// As it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xdp(XskName { link, first_queue: 0 }) => write!(f, "xdp:{link}"),
            Self::Xdp(XskName { link, first_queue }) => write!(f, "xdp:{link}@{first_queue}"),
            Self::Tap(name) => write!(f, "tap:{name}"),
            Self::Wire => f.write_str("wire:"),
            Self::Pcap(file) => write!(f, "pcap:{}", file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_as_it_is_written() {
        for text in ["xdp:eth0", "xdp:eth0@2", "tap:tap0", "wire:", "pcap:some/file:1.pcap"] {
            assert_eq!(text.parse::<DeviceName>().map(|device| device.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("xsk:eth0@2".parse::<DeviceName>(), "xdp:eth0@2".parse());
        for wrong in ["", "eth0", "xdp:", "xdp:eth0@x", "tap:", "pcap:", "wire:x", "xdp", "Wire:", "dpdk:0"] {
            assert_eq!(wrong.parse::<DeviceName>(), Err(DeviceNameError(wrong.to_owned())), "{wrong}");
        }
    }
}
