//! `LinkWatch`: what has become of the interface since it was opened, for the operator.
//!
//! Queues, addresses and lengths are learnt once, at the start; an AF_XDP socket says nothing when they change, not
//! even when its interface goes. So the main thread asks once a second, and says what changed, what that loses and
//! which command mends it: one line a change, and one when it is again as it was. The interface is known by its index:
//! another name is no other interface.

use std::fmt;

use nic::Mac;
use nic::link::{Link, LinkError};

/// The interface is not there any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkGone {
    /// The name it had last.
    pub name: String,
}

/// Looks at one interface. The main thread's.
#[derive(Debug)]
pub struct LinkWatch {
    /// What the queues, the stack and the program were made for.
    opened: Link,
    /// Receive queues that have a socket: the first so many, and as many transmit queues.
    bound: u16,
    last: Link,
}

/// Something that is not as it was when looked at last.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Name { before: String, now: String },
    MoreQueues { link: String, queues: u16, bound: u16, command: String },
    FewerQueues { link: String, rx: u16, tx: u16, bound: u16, command: String },
    QueuesBack { link: String, queues: u16, bound: u16 },
    Mtu { link: String, now: u32, opened: u32 },
    MtuBack { link: String, now: u32 },
    Mac { link: String, now: Mac, opened: Mac },
    MacBack { link: String, now: Mac },
    Down { link: String },
    Up { link: String },
}

impl Change {
    /// Whether something is lost by it.
    fn hurts(&self) -> bool {
        match self {
            Self::MoreQueues { .. } | Self::FewerQueues { .. } => true,
            Self::Mtu { .. } | Self::Mac { .. } | Self::Down { .. } => true,
            Self::Name { .. } | Self::QueuesBack { .. } => false,
            Self::MtuBack { .. } | Self::MacBack { .. } | Self::Up { .. } => false,
        }
    }
}

impl fmt::Display for Change {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { before, now } => write!(f, "interface {before} is called {now} now; nothing else changes"),
            Self::MoreQueues { link, queues, bound, command } => write!(
                f,
                "interface {link} has {queues} receive queues now, and the server has sockets on the first {bound}: clients whose frames come by the others get no answer; mend it with `{command}`, or start the server again to use all queues"
            ),
            Self::FewerQueues { link, rx, tx, bound, command } => write!(
                f,
                "interface {link} has {rx} receive and {tx} transmit queues now, and the server has sockets on {bound}: connections of the queues that went get no answer; mend it with `{command}`, or start the server again"
            ),
            Self::QueuesBack { link, queues, bound } if queues > bound => {
                write!(
                    f,
                    "interface {link} has {queues} receive queues now, and the server has sockets on the first {bound}"
                )
            }
            Self::QueuesBack { link, queues, .. } => {
                write!(f, "interface {link} has {queues} receive queues again, each with a socket")
            }
            Self::Mtu { link, now, opened } => write!(
                f,
                "interface {link} has an MTU of {now} bytes now, and the server sends and takes frames for {opened}: longer ones are lost; mend it with `ip link set {link} mtu {opened}`, or start the server again"
            ),
            Self::MtuBack { link, now } => write!(f, "interface {link} has an MTU of {now} bytes again"),
            Self::Mac { link, now, opened } => write!(
                f,
                "interface {link} has the address {now} now, and the server answers to {opened}: frames to the new one are dropped; mend it with `ip link set {link} address {opened}`, or start the server again"
            ),
            Self::MacBack { link, now } => write!(f, "interface {link} has the address {now} again"),
            Self::Down { link } => {
                write!(
                    f,
                    "interface {link} is down: nothing comes and nothing goes; mend it with `ip link set {link} up`"
                )
            }
            Self::Up { link } => write!(f, "interface {link} is up again"),
        }
    }
}

impl LinkWatch {
    /// A watch over a link that was opened as `opened`, with sockets on its first `bound` queues.
    pub fn new(opened: Link, bound: usize) -> Self {
        // A link has at most 65,535 queues.
        let bound = u16::try_from(bound).unwrap_or(u16::MAX);
        Self { last: opened.clone(), opened, bound }
    }

    /// Receive queues that have no socket just now. A veth does not even show their frames to the XDP program when they
    /// came after it (Linux 6.18), so that nothing else would count them.
    pub fn queues_without_socket(&self) -> u64 {
        u64::from(self.last.rx_queues.saturating_sub(self.bound))
    }

    /// Asks the kernel, and says in the log what has changed since it was last asked.
    ///
    /// # Errors
    /// [`LinkGone`]: it was removed, or moved to another network namespace.
    pub fn look(&mut self) -> Result<(), LinkGone> {
        match Link::by_index(self.opened.index) {
            Ok(now) => {
                self.say(now);
                Ok(())
            }
            Err(LinkError::Gone { .. }) => Err(LinkGone { name: self.last.name.clone() }),
            // The kernel did not say; it may the next time.
            Err(_) => Ok(()),
        }
    }

    fn say(&mut self, now: Link) {
        for change in self.changes(&now) {
            if change.hurts() {
                tracing::warn!("{change}");
            } else {
                tracing::info!("{change}");
            }
        }
        self.last = now;
    }

    fn changes(&self, now: &Link) -> Vec<Change> {
        let (last, opened, name) = (&self.last, &self.opened, || now.name.clone());
        let mut changes = Vec::new();
        if now.name != last.name {
            changes.push(Change::Name { before: last.name.clone(), now: name() });
        }
        if (now.rx_queues, now.tx_queues) != (last.rx_queues, last.tx_queues) {
            changes.push(self.queues_changed(now));
        }
        if now.mtu != last.mtu {
            changes.push(match now.mtu == opened.mtu {
                true => Change::MtuBack { link: name(), now: now.mtu },
                false => Change::Mtu { link: name(), now: now.mtu, opened: opened.mtu },
            });
        }
        if now.mac != last.mac {
            changes.push(match now.mac == opened.mac {
                true => Change::MacBack { link: name(), now: now.mac },
                false => Change::Mac { link: name(), now: now.mac, opened: opened.mac },
            });
        }
        if now.up != last.up {
            changes.push(if now.up { Change::Up { link: name() } } else { Change::Down { link: name() } });
        }
        changes
    }

    fn queues_changed(&self, now: &Link) -> Change {
        let (link, bound) = (now.name.clone(), self.bound);
        let command = now.command_for_queues(bound);
        if now.rx_queues < bound || now.tx_queues < bound {
            return Change::FewerQueues { link, rx: now.rx_queues, tx: now.tx_queues, bound, command };
        }
        // With --queues there may have been more queues than sockets from the start; the log has said so then.
        if now.rx_queues > self.opened.rx_queues.max(bound) {
            return Change::MoreQueues { link, queues: now.rx_queues, bound, command };
        }
        Change::QueuesBack { link, queues: now.rx_queues, bound }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link {
            name: "ss0".to_owned(),
            index: 7,
            mac: Mac([2, 0, 0, 0, 0, 7]),
            mtu: 1500,
            up: true,
            rx_queues: 2,
            tx_queues: 2,
            tx_queues_max: 8,
            combined: 0,
            rx_ring: None,
            driver: "veth".to_owned(),
        }
    }

    /// What is said, line by line, as the link becomes each of these, and whether it hurts.
    fn said(as_time_goes: impl IntoIterator<Item = Link>) -> Vec<(bool, String)> {
        let mut watch = LinkWatch::new(link(), 2);
        let mut lines = Vec::new();
        for now in as_time_goes {
            lines.extend(watch.changes(&now).into_iter().map(|change| (change.hurts(), change.to_string())));
            watch.say(now);
        }
        lines
    }

    #[test]
    fn what_stays_as_it_was_is_not_worth_a_line() {
        assert_eq!(said([link(), Link { tx_queues_max: 9, ..link() }, link()]), []);
    }

    #[test]
    fn queues_without_a_socket_are_said_once_with_the_command_that_mends_them() {
        let more = Link { rx_queues: 4, tx_queues: 4, ..link() };
        let lines = said([more.clone(), more, link()]);
        assert_eq!(lines.len(), 2, "{lines:?}");
        let (hurts, line) = &lines[0];
        assert!(hurts & line.contains("4 receive queues") & line.contains("`ethtool -L ss0 rx 2 tx 2`"), "{line}");
        assert_eq!(lines[1], (false, "interface ss0 has 2 receive queues again, each with a socket".to_owned()));
    }

    #[test]
    fn queues_without_a_socket_are_counted_while_there_are_any() {
        let mut watch = LinkWatch::new(link(), 2);
        let mut after = |rx_queues| {
            watch.say(Link { rx_queues, ..link() });
            watch.queues_without_socket()
        };
        assert_eq!((after(2), after(4), after(1), after(2)), (0, 2, 0, 0));
    }

    #[test]
    fn queues_that_were_left_without_a_socket_are_not_said_to_have_one() {
        let mut watch = LinkWatch::new(Link { rx_queues: 4, tx_queues: 4, ..link() }, 2);
        watch.say(Link { rx_queues: 2, ..link() });
        let changes = watch.changes(&Link { rx_queues: 3, tx_queues: 4, ..link() });
        let lines: Vec<_> = changes.iter().map(Change::to_string).collect();
        assert_eq!(lines, ["interface ss0 has 3 receive queues now, and the server has sockets on the first 2"]);
    }

    #[test]
    fn combined_channels_are_set_by_that_word() {
        let more = Link { rx_queues: 4, tx_queues: 4, combined: 4, ..link() };
        let lines = said([more]);
        assert!(lines[0].1.contains("`ethtool -L ss0 combined 2`"), "{lines:?}");
    }

    #[test]
    fn queues_that_went_are_said_whichever_their_kind() {
        for (rx_queues, tx_queues) in [(1, 2), (2, 1), (1, 1)] {
            let lines = said([Link { rx_queues, tx_queues, ..link() }]);
            let (hurts, line) = &lines[0];
            let numbers = format!("{rx_queues} receive and {tx_queues} transmit queues");
            assert!(hurts & line.contains(&numbers) & line.contains("`ethtool -L ss0 rx 2 tx 2`"), "{line}");
        }
    }

    #[test]
    fn another_name_is_the_same_interface_under_which_commands_are_given() {
        let renamed = Link { name: "lan0".to_owned(), ..link() };
        let lines = said([renamed.clone(), Link { up: false, ..renamed }]);
        assert_eq!(lines[0], (false, "interface ss0 is called lan0 now; nothing else changes".to_owned()));
        assert!(lines[1].0 && lines[1].1.contains("`ip link set lan0 up`"), "{lines:?}");
    }

    #[test]
    fn what_the_server_was_made_for_is_compared_with_what_is_there() {
        let moved = Link { mtu: 9000, mac: Mac([2; 6]), ..link() };
        let lines = said([moved, link()]);
        let hurts: Vec<_> = lines.iter().map(|(hurts, _)| *hurts).collect();
        assert_eq!(hurts, [true, true, false, false], "{lines:?}");
        assert!(lines[0].1.contains("`ip link set ss0 mtu 1500`"), "{lines:?}");
        assert!(lines[1].1.contains("`ip link set ss0 address 02:00:00:00:00:07`"), "{lines:?}");
    }
}
