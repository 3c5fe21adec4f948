//! `Setting`: what can be set on a NIC, each with a value that is text; read, set and said in the same words.
//!
//! Control side only, in the network namespace of the calling thread. Read first: `ethtool(8)`.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use crate::family::IpFamily;
use crate::hash_fields;
use crate::link::Link;
use crate::napi;
use crate::sys::ethtool::FlowKind;
use crate::sys::netdev::NetDevice;

/// Ports that the kernel gives to no connection of its own.
mod reserved_ports;

/// Something that can be set. Its text, by which files name it, is in the table.
///
/// | text | value |
/// |---|---|
/// | `mtu` | bytes: `1500` |
/// | `channels` | `rx 0 tx 0 combined 2` |
/// | `rss-table` | the queue of each entry: `0 1 0 1` |
/// | `rss-key` | bytes: `6d:5a:56` |
/// | `rx-flow-hash udp4`, `rx-flow-hash udp6` | ethtool's letters: `sdfn` |
/// | `feature NAME` (a name of `ethtool -k`, in its kernel's spelling) | `on`, `off` |
/// | `reserved-port NUMBER` (kept from the kernel's own connections by `ip_local_reserved_ports`) | `on`, `off` |
/// | `napi QUEUE` (when the interrupts of that queue come) | `defer-hard-irqs 2 gro-flush-timeout 200000 irq-suspend-timeout 0`, times in ns |
/// | `file PATH` (an interrupt's `smp_affinity_list`, of /proc/sys/net, or when an interface's interrupts come) | what it says |
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// The longest packet.
    Mtu,
    /// How many queues there are.
    Channels,
    /// The indirection table.
    RssTable,
    /// The hash key.
    RssKey,
    /// By what UDP of that family is hashed.
    UdpHash(IpFamily),
    /// An offload.
    Feature(String),
    /// Whether the kernel gives a port to no connection of its own. The machine's, or the network namespace's; each port is a
    /// setting, so that each is given back whatever else of the list has been changed meanwhile.
    ReservedPort(u16),
    /// When the interrupts of a receive queue come.
    Napi(u16),
    /// A file of the kernel's, such as the affinity of an interrupt.
    File(PathBuf),
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mtu => f.write_str("mtu"),
            Self::Channels => f.write_str("channels"),
            Self::RssTable => f.write_str("rss-table"),
            Self::RssKey => f.write_str("rss-key"),
            Self::UdpHash(family) => write!(f, "rx-flow-hash {}", udp_of(*family)),
            Self::Feature(name) => write!(f, "feature {name}"),
            Self::ReservedPort(port) => write!(f, "reserved-port {port}"),
            Self::Napi(queue) => write!(f, "napi {queue}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

/// ethtool's word for UDP of that family.
fn udp_of(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "udp4",
        IpFamily::V6 => "udp6",
    }
}

/// The same as the kernel numbers it.
pub(crate) fn udp_kind(family: IpFamily) -> FlowKind {
    match family {
        IpFamily::V4 => FlowKind::Udp4,
        IpFamily::V6 => FlowKind::Udp6,
    }
}

/// A text that names no setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no setting that is known here")]
pub struct UnknownSetting(String);

impl FromStr for Setting {
    type Err = UnknownSetting;

    fn from_str(text: &str) -> Result<Self, UnknownSetting> {
        Ok(match text.split_once(' ') {
            None if text == "mtu" => Self::Mtu,
            None if text == "channels" => Self::Channels,
            None if text == "rss-table" => Self::RssTable,
            None if text == "rss-key" => Self::RssKey,
            Some(("rx-flow-hash", "udp4")) => Self::UdpHash(IpFamily::V4),
            Some(("rx-flow-hash", "udp6")) => Self::UdpHash(IpFamily::V6),
            Some(("feature", name)) => Self::Feature(name.to_owned()),
            Some(("reserved-port", port)) => {
                Self::ReservedPort(port.parse().map_err(|_| UnknownSetting(text.to_owned()))?)
            }
            Some(("napi", queue)) => Self::Napi(queue.parse().map_err(|_| UnknownSetting(text.to_owned()))?),
            // Only what is set here: whoever wrote the text shall have no other file written.
            Some(("file", path)) if is_settable(path) => Self::File(path.into()),
            _ => return Err(UnknownSetting(text.to_owned())),
        })
    }
}

/// Whether a path is the affinity of an interrupt, a setting of the network, or when an interface's interrupts come: none
/// has links to elsewhere below it but that of the interface's name.
fn is_settable(path: &str) -> bool {
    let interrupt = path.strip_prefix("/proc/irq/").and_then(|rest| rest.strip_suffix("/smp_affinity_list"));
    let interrupt = interrupt.is_some_and(|number| number.bytes().all(|digit| digit.is_ascii_digit()));
    let deferral = path.strip_prefix("/sys/class/net/").and_then(|rest| rest.split_once('/'));
    let deferral = deferral.is_some_and(|(_, file)| ["napi_defer_hard_irqs", "gro_flush_timeout"].contains(&file));
    (interrupt || deferral || path.starts_with("/proc/sys/net/")) && !path.split('/').any(|part| part == "..")
}

impl Setting {
    /// Settings that a driver may set anew by itself when this one is changed.
    pub fn disturbs(&self) -> &'static [Setting] {
        match self {
            Self::Channels => &[Self::RssTable],
            _ => &[],
        }
    }

    /// Whether it is still there once the interface is gone.
    pub fn outlives_the_link(&self) -> bool {
        matches!(self, Self::ReservedPort(_))
    }

    /// The command by which an operator would give it that value; `None` where there is none.
    pub fn command(&self, link: &str, value: &str) -> Option<String> {
        Some(match self {
            Self::Mtu => format!("ip link set {link} mtu {value}"),
            Self::Channels => format!("ethtool -L {link} {value}"),
            Self::RssTable | Self::Napi(_) => return None,
            Self::RssKey => format!("ethtool -X {link} hkey {value}"),
            Self::UdpHash(family) => format!("ethtool -N {link} rx-flow-hash {} {value}", udp_of(*family)),
            Self::Feature(name) => format!("ethtool -K {link} {name} {value}"),
            // A list with more in it than this port.
            Self::ReservedPort(_) => return None,
            Self::File(path) => format!("echo {value} >{}", path.display()),
        })
    }
}

/// What settings are read from and written to.
pub trait Knobs {
    /// What a setting is now.
    ///
    /// # Errors
    /// There is no such setting here (`EOPNOTSUPP` or `ENOENT`), or the kernel refused.
    fn read(&self, setting: &Setting) -> io::Result<String>;

    /// Gives a setting another value.
    ///
    /// # Errors
    /// The value is none that it can have (`EINVAL`), or the kernel refused.
    fn write(&mut self, setting: &Setting, value: &str) -> io::Result<()>;
}

/// The settings of one interface, and of the machine; without an interface of the machine alone.
pub struct NicKnobs(Option<NetDevice>);

impl fmt::Debug for NicKnobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NicKnobs").finish_non_exhaustive()
    }
}

impl NicKnobs {
    /// Of a link.
    ///
    /// # Errors
    /// No socket to ask the kernel by.
    pub fn of(link: &Link) -> io::Result<Self> {
        NetDevice::new(&link.name).map(Some).map(Self)
    }

    /// Of no link: what is an interface's fails with `ENODEV`.
    pub fn of_the_machine() -> Self {
        Self(None)
    }

    fn device(&self) -> io::Result<&NetDevice> {
        self.0.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// Names of the features that are on and can be set, in the kernel's order.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn features_on(&self) -> io::Result<Vec<String>> {
        let features = self.device()?.features()?.into_iter();
        Ok(features.filter(|feature| feature.active && feature.settable).map(|feature| feature.name).collect())
    }
}

impl Knobs for NicKnobs {
    fn read(&self, setting: &Setting) -> io::Result<String> {
        Ok(match setting {
            Setting::Mtu => self.device()?.mtu()?.to_string(),
            Setting::Channels => {
                let channels = self.device()?.channels()?;
                format!("rx {} tx {} combined {}", channels.rx, channels.tx, channels.combined)
            }
            Setting::RssTable => {
                let table: Vec<String> = self.device()?.rss()?.table.iter().map(u32::to_string).collect();
                if table.is_empty() {
                    return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
                }
                table.join(" ")
            }
            Setting::RssKey => {
                let key: Vec<String> = self.device()?.rss()?.key.iter().map(|byte| format!("{byte:02x}")).collect();
                key.join(":")
            }
            Setting::UdpHash(family) => hash_fields::letters(self.device()?.hash_fields(udp_kind(*family))?),
            Setting::Feature(name) => {
                let features = self.device()?.features()?;
                let feature = features.iter().find(|feature| feature.name == *name);
                let feature = feature.ok_or_else(|| io::Error::from_raw_os_error(libc::EOPNOTSUPP))?;
                on_or_off(feature.active).to_owned()
            }
            Setting::ReservedPort(port) => on_or_off(reserved_ports::is_listed(*port)?).to_owned(),
            Setting::Napi(queue) => napi::read(self.device()?.index()?, *queue)?.to_string(),
            Setting::File(path) => std::fs::read_to_string(path)?.trim().to_owned(),
        })
    }

    fn write(&mut self, setting: &Setting, value: &str) -> io::Result<()> {
        let wrong = || io::Error::from_raw_os_error(libc::EINVAL);
        match setting {
            Setting::Mtu => self.device()?.set_mtu(value.parse().map_err(|_| wrong())?),
            Setting::Channels => {
                let [rx, tx, combined] = channels(value).ok_or_else(wrong)?;
                self.device()?.set_channels(rx, tx, combined)
            }
            Setting::RssTable => {
                let table: Result<Vec<u32>, _> = value.split_whitespace().map(str::parse).collect();
                self.device()?.set_rss(Some(&table.map_err(|_| wrong())?), None)
            }
            Setting::RssKey => {
                let key: Result<Vec<u8>, _> = value.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
                self.device()?.set_rss(None, Some(&key.map_err(|_| wrong())?))
            }
            Setting::UdpHash(family) => {
                self.device()?.set_hash_fields(udp_kind(*family), hash_fields::fields(value).ok_or_else(wrong)?)
            }
            Setting::Feature(name) => self.device()?.set_feature(name, is_on(value).ok_or_else(wrong)?),
            Setting::ReservedPort(port) => reserved_ports::list(*port, is_on(value).ok_or_else(wrong)?),
            Setting::Napi(queue) => napi::write(self.device()?.index()?, *queue, value.parse().map_err(|()| wrong())?),
            Setting::File(path) => std::fs::write(path, value),
        }
    }
}

fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn is_on(value: &str) -> Option<bool> {
    match value {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// The numbers of `rx N tx N combined N`; a kind that is left out is 0.
fn channels(value: &str) -> Option<[u32; 3]> {
    let mut counts = [0; 3];
    let mut words = value.split_whitespace();
    while let Some(kind) = words.next() {
        let place = ["rx", "tx", "combined"].iter().position(|known| *known == kind)?;
        counts[place] = words.next()?.parse().ok()?;
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_known_by_its_text() {
        let all = [
            Setting::Mtu,
            Setting::Channels,
            Setting::RssTable,
            Setting::RssKey,
            Setting::UdpHash(IpFamily::V4),
            Setting::UdpHash(IpFamily::V6),
            Setting::Feature("rx-gro".to_owned()),
            Setting::ReservedPort(11211),
            Setting::Napi(3),
            Setting::File("/proc/irq/33/smp_affinity_list".into()),
            Setting::File("/sys/class/net/eth1/gro_flush_timeout".into()),
        ];
        for setting in all {
            assert_eq!(setting.to_string().parse(), Ok(setting));
        }
        for text in [
            "",
            "mtu 1",
            "file /etc/passwd",
            "file /proc/sys/net/../../etc/passwd",
            "file /proc/1/cwd/etc/passwd",
            "file /proc/irq/self/smp_affinity_list",
            "rx-flow-hash tcp4",
            "napi",
            "napi all",
            "file /sys/class/net/../../etc/gro_flush_timeout",
            "file /sys/class/net/eth1/device/gro_flush_timeout",
            "file /sys/class/net/eth1/mtu",
            "feature",
            "reserved-port",
            "reserved-port 65536",
        ] {
            assert!(text.parse::<Setting>().is_err(), "{text}");
        }
    }

    #[test]
    fn counts_of_channels_are_read_back() {
        assert_eq!(channels("rx 1 tx 2 combined 3"), Some([1, 2, 3]));
        assert_eq!(channels("combined 3"), Some([0, 0, 3]));
        assert_eq!((channels("rx"), channels("queues 1"), channels("rx one")), (None, None, None));
    }
}
