//! The options of our own stack over AF_XDP, as typed, and how they become an [`XskPlan`].

use std::net::Ipv4Addr;

use nic::xdp::{AttachMode, AttachModeError, XskName, XskNameError};

/// Most addresses of one run: what the XDP program has room for.
pub const MAX_ADDRESSES: u32 = 64;

/// `--interface` and what goes with it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct XskArgs {
    /// Our own stack over AF_XDP instead of kernel sockets: xsk:LINK, or xsk:LINK@QUEUE for the first worker's queue
    #[arg(short = 'i', long, value_name = "PORT", requires = "address", help_heading = "Own stack")]
    pub interface: Option<String>,
    /// Our addresses, which the kernel must not have: `FIRST[-LAST][/PREFIX]`, the prefix being 24 unless given
    #[arg(long, value_name = "RANGE", requires = "interface", help_heading = "Own stack")]
    pub address: Option<String>,
    /// The router, for a server beyond the subnet
    #[arg(long, value_name = "ADDR", requires = "interface", help_heading = "Own stack")]
    pub gateway: Option<Ipv4Addr>,
    /// Where the XDP program runs: auto, native or generic
    #[arg(long, value_name = "ATTACH", default_value = "auto", help_heading = "Own stack")]
    pub mode: String,
    /// The CPU of each worker, separated by commas; a worker beyond them is not pinned
    #[arg(long, value_name = "CPUS", value_delimiter = ',', requires = "interface", help_heading = "Own stack")]
    pub cpu: Vec<usize>,
}

/// What to open, every value checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XskPlan {
    /// The interface and the first worker's queue.
    pub name: XskName,
    /// Our first address.
    pub address: Ipv4Addr,
    /// How many there are from it on.
    pub addresses: u32,
    /// Leading one bits of the subnet mask.
    pub prefix: u8,
    /// The router.
    pub gateway: Option<Ipv4Addr>,
    /// Where the XDP program runs.
    pub attach: AttachMode,
    /// The CPU of each worker.
    pub cpus: Vec<usize>,
}

/// What is wrong with these options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XskArgsError {
    /// The interface cannot be read.
    #[error("--interface: {0}")]
    Name(#[from] XskNameError),
    /// The mode cannot be read.
    #[error("--mode: {0}")]
    Mode(#[from] AttachModeError),
    /// The addresses cannot be read.
    #[error(
        "--address is '{0}'; it must be FIRST, FIRST-LAST, or either with /PREFIX, such as 10.77.0.16-10.77.0.19/24, \
         and at most 64 addresses"
    )]
    Address(String),
}

impl XskArgs {
    /// Checks every value; `None` when kernel sockets are wanted.
    ///
    /// # Errors
    /// [`XskArgsError`], naming the option and its value.
    pub fn plan(&self) -> Result<Option<XskPlan>, XskArgsError> {
        let (Some(interface), Some(range)) = (&self.interface, &self.address) else { return Ok(None) };
        let wrong = || XskArgsError::Address(range.clone());
        let (ends, prefix) = range.split_once('/').unwrap_or((range, "24"));
        let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32).ok_or_else(wrong)?;
        let (first, last) = ends.split_once('-').unwrap_or((ends, ends));
        let address: Ipv4Addr = first.parse().map_err(|_| wrong())?;
        let last: Ipv4Addr = last.parse().map_err(|_| wrong())?;
        let more = last.to_bits().checked_sub(address.to_bits()).filter(|more| *more < MAX_ADDRESSES);
        let addresses = more.ok_or_else(wrong)? + 1;
        Ok(Some(XskPlan {
            name: interface.parse()?,
            address,
            addresses,
            prefix,
            gateway: self.gateway,
            attach: self.mode.parse()?,
            cpus: self.cpu.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(range: &str) -> Result<Option<XskPlan>, XskArgsError> {
        let (interface, address) = (Some("xsk:sc0".to_owned()), Some(range.to_owned()));
        XskArgs { interface, address, mode: "auto".to_owned(), ..XskArgs::default() }.plan()
    }

    #[test]
    fn addresses_are_one_or_a_range_with_a_prefix_or_without() {
        let read = |range| plan(range).map(|plan| plan.map(|plan| (plan.address, plan.addresses, plan.prefix)));
        let first = Ipv4Addr::new(10, 77, 0, 16);
        assert_eq!(read("10.77.0.16"), Ok(Some((first, 1, 24))));
        assert_eq!(read("10.77.0.16-10.77.0.19"), Ok(Some((first, 4, 24))));
        assert_eq!(read("10.77.0.16-10.77.0.79/16"), Ok(Some((first, 64, 16))));
        for wrong in ["", "10.77.0", "10.77.0.16-", "10.77.0.16-10.77.0.15", "10.77.0.16-10.77.0.80", "10.77.0.1/33"] {
            assert_eq!(read(wrong), Err(XskArgsError::Address(wrong.to_owned())));
        }
    }

    #[test]
    fn without_an_interface_there_is_nothing_to_open() {
        assert_eq!(XskArgs::default().plan(), Ok(None));
    }
}
