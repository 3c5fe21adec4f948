//! `XskName`: how a command line names the queues of an interface, and `AttachMode` as a word.

use std::fmt;
use std::str::FromStr;

use super::mode::AttachMode;

/// `xdp:LINK` or `xdp:LINK@QUEUE` (or `xsk:` in place of `xdp:`): an interface, and the first of the queues meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct XskName {
    /// The interface.
    pub link: String,
    /// The first queue; 0 unless given.
    pub first_queue: u16,
}

/// A text that names no queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no port; write xsk:INTERFACE or xsk:INTERFACE@QUEUE, such as xsk:eth0@2")]
pub struct XskNameError(pub String);

impl FromStr for XskName {
    type Err = XskNameError;

    fn from_str(text: &str) -> Result<Self, XskNameError> {
        let wrong = || XskNameError(text.to_owned());
        let name = text.strip_prefix("xdp:").or_else(|| text.strip_prefix("xsk:")).ok_or_else(wrong)?;
        let (link, queue) = name.split_once('@').unwrap_or((name, "0"));
        if link.is_empty() {
            return Err(wrong());
        }
        Ok(Self { link: link.to_owned(), first_queue: queue.parse().map_err(|_| wrong())? })
    }
}

impl fmt::Display for XskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "xsk:{}@{}", self.link, self.first_queue)
    }
}

/// A word that is no [`AttachMode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no mode; it must be auto, native or generic")]
pub struct AttachModeError(pub String);

impl FromStr for AttachMode {
    type Err = AttachModeError;

    fn from_str(text: &str) -> Result<Self, AttachModeError> {
        match text {
            "auto" => Ok(Self::Auto),
            "native" => Ok(Self::Native),
            "generic" => Ok(Self::Generic),
            other => Err(AttachModeError(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let name: XskName = "xsk:eth0@2".parse().expect("a name");
        assert_eq!((name.link.as_str(), name.first_queue, name.to_string()), ("eth0", 2, "xsk:eth0@2".to_owned()));
        assert_eq!("xdp:eth0@2".parse(), Ok(name));
        assert_eq!("xsk:eth0".parse().map(|name: XskName| name.first_queue), Ok(0));
        for wrong in ["eth0", "xsk:", "xsk:@1", "xsk:eth0@", "xsk:eth0@x", "xsk:eth0@65536"] {
            assert_eq!(wrong.parse::<XskName>(), Err(XskNameError(wrong.to_owned())));
        }
    }

    #[test]
    fn a_mode_is_one_of_three_words() {
        assert_eq!("native".parse(), Ok(AttachMode::Native));
        assert!("Native".parse::<AttachMode>().is_err());
    }
}
