//! `WaitMode`: how a core that has nothing to do waits for frames, and what a NIC is told so that it fits.
//!
//! | mode | the core | the NIC's interrupts |
//! |---|---|---|
//! | `auto` | looks for a while (`--spin`), then sleeps | as they are |
//! | `spin` | never sleeps; asks the driver for frames itself (`SO_PREFER_BUSY_POLL`) | deferred: a watchdog of 200 us stands in |
//! | `irq` | sleeps at once, in an `epoll_pwait2` that polls the driver before it sleeps | suspended while frames keep coming, where the kernel can (Linux 6.13) |
//!
//! A veth and a TAP have no interrupts and no driver to ask: there a mode only says when the core sleeps, and `auto` is what
//! it always was. What a device refuses is said, and the core waits all the same. What is set is set on the queues of the
//! server alone where the kernel has settings for each (netdev genetlink, `napi-set`), else on the whole interface (sysfs),
//! and given back by the [`Guard`](crate::guard::Guard). Control side, but for the values. Read first: kernel `networking/napi.rst`, "IRQ
//! mitigation" and "IRQ suspension"; `af_xdp.rst` for the socket options.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::guard::{Guard, GuardError};
use crate::link::Link;
use crate::queue::QueueId;
use crate::settings::Setting;

/// How a core that has nothing to do waits for frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitMode {
    /// Looks for a while, then sleeps. The default.
    #[default]
    Auto,
    /// Looks for ever.
    Spin,
    /// Sleeps at once.
    Irq,
}

impl fmt::Display for WaitMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Spin => "spin",
            Self::Irq => "irq",
        })
    }
}

/// A word that is no [`WaitMode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no way to wait; it must be spin, irq or auto")]
pub struct WaitModeError(pub String);

impl FromStr for WaitMode {
    type Err = WaitModeError;

    fn from_str(text: &str) -> Result<Self, WaitModeError> {
        match text {
            "auto" => Ok(Self::Auto),
            "spin" => Ok(Self::Spin),
            "irq" => Ok(Self::Irq),
            other => Err(WaitModeError(other.to_owned())),
        }
    }
}

/// When the interrupts of a queue come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Deferral {
    /// Polls without a frame before interrupts are on again (`napi_defer_hard_irqs`).
    hard_irqs: u32,
    /// Nanoseconds until the kernel looks by itself (`gro_flush_timeout`).
    watchdog_ns: u64,
    /// Nanoseconds that interrupts stay off at most while frames keep coming; 0: not at all (`irq-suspend-timeout`).
    suspend_ns: u64,
}

impl Deferral {
    /// As [`Setting::Napi`] has it.
    fn value(self) -> String {
        let Self { hard_irqs, watchdog_ns, suspend_ns } = self;
        format!("defer-hard-irqs {hard_irqs} gro-flush-timeout {watchdog_ns} irq-suspend-timeout {suspend_ns}")
    }
}

/// Who polls the driver need not be woken: interrupts come back when it has not polled for 200 us, as in `af_xdp.rst`.
const POLLED: Deferral = Deferral { hard_irqs: 2, watchdog_ns: 200_000, suspend_ns: 0 };

/// Interrupts stay off for 20 ms at most while frames keep coming, and 20 us after the last, as in `napi.rst`.
const SUSPENDED: Deferral = Deferral { hard_irqs: 100, watchdog_ns: 20_000, suspend_ns: 20_000_000 };

/// How a core waits on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// Looks for as long as it is told, then sleeps until it is woken.
    LooksThenSleeps,
    /// Never sleeps. `polls`: asks the driver for frames whenever it finds none.
    Looks {
        /// Whether there is a driver to ask.
        polls: bool,
    },
    /// Sleeps as soon as it has nothing to do. `polls`: the kernel polls the driver before it lets the core sleep.
    Sleeps {
        /// Whether there is a driver to poll.
        polls: bool,
    },
}

impl WaitMode {
    /// What that is on a link of this driver.
    pub fn on(self, driver: &str) -> Waiting {
        let polls = has_interrupts(driver);
        match self {
            Self::Auto => Waiting::LooksThenSleeps,
            Self::Spin => Waiting::Looks { polls },
            Self::Irq => Waiting::Sleeps { polls },
        }
    }
}

/// Whether frames come by interrupts of a device, which may be deferred, and a driver can be asked for them. The kernel
/// accepts the socket options on a veth and a TAP too, and does nothing.
fn has_interrupts(driver: &str) -> bool {
    !matches!(driver, "veth" | "tun")
}

/// Tells the NIC of `link`, for these queues, what goes with `mode`, and says what came of it, in a line for the operator;
/// nothing for `auto`. `guard` saves what was and gives it back. Nothing that the device refuses keeps a server from serving.
pub fn tell_nic(mode: WaitMode, link: &Link, queues: &[QueueId], guard: &mut Guard) -> Option<String> {
    let (asleep, deferral) = match mode {
        WaitMode::Auto => return None,
        WaitMode::Spin => ("cores without work never sleep", POLLED),
        WaitMode::Irq => ("cores without work sleep at once", SUSPENDED),
    };
    let interrupts = match has_interrupts(&link.driver) {
        false => {
            let kind = if link.driver == "tun" { "TAP" } else { &link.driver };
            format!("a {kind} has no interrupts that could be deferred")
        }
        true => match tell_queues(deferral, queues, guard) {
            (set, None) => format!("interrupts of {set} queues of {}: {}", link.name, deferral.value()),
            (0, Some(error)) if mode == WaitMode::Spin => tell_interface(link, guard, &error),
            (set, Some(error)) => {
                format!(
                    "interrupts of {} of {} queues of {} are as they were: {error}",
                    queues.len() - set,
                    queues.len(),
                    link.name
                )
            }
        },
    };
    Some(format!("{asleep}; {interrupts}"))
}

/// Of how many queues it is so now, and why not of the others.
fn tell_queues(deferral: Deferral, queues: &[QueueId], guard: &mut Guard) -> (usize, Option<GuardError>) {
    let (mut set, mut refused) = (0, None);
    for queue in queues {
        match guard.change(&Setting::Napi(queue.0), &deferral.value()) {
            Ok(_) => set += 1,
            Err(error) => refused = Some(error),
        }
    }
    (set, refused)
}

/// The whole interface's, for a kernel that has no settings for each queue.
fn tell_interface(link: &Link, guard: &mut Guard, refused: &GuardError) -> String {
    let name = &link.name;
    let folder = PathBuf::from("/sys/class/net").join(name);
    if !is_of(link, &folder) {
        return format!("interrupts of {name} are as they were: {refused}, and /sys is not of its network namespace");
    }
    let files =
        [("napi_defer_hard_irqs", POLLED.hard_irqs.to_string()), ("gro_flush_timeout", POLLED.watchdog_ns.to_string())];
    for (file, value) in &files {
        if let Err(error) = guard.change(&Setting::File(folder.join(file)), value) {
            return format!("interrupts of {name} are as they were: {error}");
        }
    }
    let [(_, irqs), (_, timeout)] = files;
    format!("interrupts of {name}: napi_defer_hard_irqs {irqs}, gro_flush_timeout {timeout}")
}

/// Whether a folder of /sys tells of this link: it shows the namespace of whoever mounted it.
fn is_of(link: &Link, folder: &std::path::Path) -> bool {
    let read = |file| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    read("ifindex").trim() == link.index.to_string() && read("address").trim() == link.mac.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_one_of_three_words() {
        for mode in [WaitMode::Auto, WaitMode::Spin, WaitMode::Irq] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("sleep".parse::<WaitMode>().is_err());
    }

    #[test]
    fn on_a_veth_a_mode_only_says_when_a_core_sleeps_and_auto_changes_nothing_anywhere() {
        for driver in ["veth", "tun"] {
            let of = [WaitMode::Auto, WaitMode::Spin, WaitMode::Irq].map(|mode| mode.on(driver));
            let none = (Waiting::Looks { polls: false }, Waiting::Sleeps { polls: false });
            assert_eq!(of, [Waiting::LooksThenSleeps, none.0, none.1]);
        }
        assert_eq!(WaitMode::Auto.on("igb"), Waiting::LooksThenSleeps);
        assert_eq!(WaitMode::Spin.on("igb"), Waiting::Looks { polls: true });
        assert_eq!(WaitMode::Irq.on("virtio_net"), Waiting::Sleeps { polls: true });
    }

    #[test]
    fn what_a_queue_is_told_is_as_the_setting_has_it() {
        assert_eq!(SUSPENDED.value().parse(), Ok(crate::napi::NapiValues::new(100, 20_000, Some(20_000_000))));
        assert_eq!(POLLED.value().parse(), Ok(crate::napi::NapiValues::new(2, 200_000, Some(0))));
    }

    #[test]
    fn a_folder_of_another_namespaces_sys_is_not_taken_for_the_links() {
        let lo = Link::by_name("lo");
        // The loopback interface is no Ethernet, and so no link here.
        assert!(lo.is_err() || !is_of(&lo.expect("asked"), std::path::Path::new("/sys/class/net/none")));
    }
}
