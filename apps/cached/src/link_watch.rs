//! `LinkWatch`: what has become of the interface since it was opened, for the operator.
//!
//! Queues, addresses and lengths are learnt once, at the start; an AF_XDP socket says nothing when they change, not
//! even when its interface or its program goes. So the supervisor asks, every 0.4 s and when the kernel tells of the interface, and
//! says what changed, what that loses and which command mends it: one line a change, and one when it is again as it was. The interface is known by its
//! index: another name is no other interface. docs/nic.md has the table of all of it.

use std::fmt;

use nic::Mac;
use nic::link::{Link, LinkError, LinkState};
use nic::settings::{Knobs, NicKnobs, Setting};

/// Looks in a row after which whatever has become of the interface has been said, and its state is known.
pub const LOOKS_MOST: u32 = 2;

/// There is nothing to serve on any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkGone {
    /// The interface.
    #[error("interface {name} was removed, or moved to another network namespace; start again once it is back")]
    Removed {
        /// The name it had last.
        name: String,
    },
    /// The XDP program was detached by somebody else: no frame comes any more, and clients would wait in vain.
    #[error(
        "the XDP program of this server was detached from interface {name}{}: no client reaches it any more, so it ends, and the kernel gets every frame; start it again once its place is free", instead(.others)
    )]
    ProgramDetached {
        /// The interface.
        name: String,
        /// The programs that are there now.
        others: Vec<u32>,
    },
}

fn instead(programs: &[u32]) -> String {
    let list = |id: &u32| format!(", where `bpftool prog show id {id}` shows another now");
    programs.iter().map(list).collect()
}

/// Looks at one interface. The main thread's.
#[derive(Debug)]
pub struct LinkWatch {
    /// What the queues, the stack and the program were made for.
    opened: Seen,
    /// Receive queues that have a socket: the first so many, and as many transmit queues.
    bound: u16,
    /// The kernel's number of the server's program; `None` where there is none, as on a TAP, or it is not known.
    program: Option<u32>,
    last: Seen,
    /// Whether its program was missing when looked at last. The death of the data plane takes the program along, and is told
    /// otherwise; so one look is not believed.
    program_missed: bool,
    /// Lines said.
    said: u64,
}

/// What is seen of the interface in one look.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    link: Link,
    state: LinkState,
    /// Key and indirection table, as text; `None` where the driver does not tell just now.
    hash: Option<String>,
}

impl Seen {
    fn of(link: Link, state: LinkState) -> Self {
        Self { hash: hash(&link), link, state }
    }

    /// Whether frames can come and go.
    fn carries(&self) -> bool {
        self.link.up && self.state.carrier
    }
}

fn hash(link: &Link) -> Option<String> {
    // Asked of one queue, the answer would change nothing.
    let knobs = (link.rx_queues > 1).then(|| NicKnobs::of(link).ok()).flatten()?;
    let [table, key] = [Setting::RssTable, Setting::RssKey].map(|setting| knobs.read(&setting).ok());
    Some(table? + " " + &key?)
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
    Hash { link: String },
    HashBack { link: String },
    Down { link: String },
    NoCarrier { link: String },
    Up { link: String },
}

impl Change {
    /// Whether something is lost by it.
    fn hurts(&self) -> bool {
        match self {
            Self::MoreQueues { .. } | Self::FewerQueues { .. } => true,
            Self::Mtu { .. } | Self::Mac { .. } | Self::Hash { .. } => true,
            Self::Down { .. } | Self::NoCarrier { .. } => true,
            Self::Name { .. } | Self::QueuesBack { .. } | Self::HashBack { .. } => false,
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
            Self::NoCarrier { link } => {
                write!(
                    f,
                    "interface {link} has no carrier: nobody is at its other end, nothing comes and nothing goes; plug the cable in, or bring the other end up"
                )
            }
            Self::Up { link } => write!(f, "interface {link} is up again"),
            Self::Hash { link } => write!(
                f,
                "interface {link} spreads frames by another key or indirection table than at the start: connections go on, those that come by another queue now over one core more; start the server again to have what arrives compared with the new ones (ethtool -x {link})"
            ),
            Self::HashBack { link } => write!(f, "interface {link} spreads frames as at the start again"),
        }
    }
}

impl LinkWatch {
    /// A watch over a link that was opened as `opened`, with sockets on its first `bound` queues. The program that is
    /// attached now is the server's: the kernel takes no second one.
    pub fn new(opened: Link, bound: usize) -> Self {
        let state = Link::state(opened.index).unwrap_or_default();
        let program = state.programs.first().copied();
        Self::over(Seen::of(opened, state), bound, program)
    }

    fn over(opened: Seen, bound: usize, program: Option<u32>) -> Self {
        // A link has at most 65,535 queues.
        let bound = u16::try_from(bound).unwrap_or(u16::MAX);
        // Frames could come and go when it was opened, or the first look says that they cannot.
        let last = Seen { state: LinkState::default(), ..opened.clone() };
        Self { last, opened, bound, program, program_missed: false, said: 0 }
    }

    /// Receive queues that have no socket just now. A veth does not even show their frames to the XDP program when they
    /// came after it (Linux 6.18), so that nothing else would count them.
    pub fn queues_without_socket(&self) -> u64 {
        u64::from(self.last.link.rx_queues.saturating_sub(self.bound))
    }

    /// Whether the interface was down, or had no carrier, when looked at last.
    pub fn is_down(&self) -> bool {
        !self.last.carries()
    }

    /// How many changes have been said.
    pub fn changes_said(&self) -> u64 {
        self.said
    }

    /// Asks the kernel, and says in the log what has changed since it was last asked.
    ///
    /// # Errors
    /// [`LinkGone`]: it was removed, or moved to another network namespace, or the program was detached.
    pub fn look(&mut self) -> Result<(), LinkGone> {
        let index = self.opened.link.index;
        self.take(Link::by_index(index).and_then(|link| Ok(Seen::of(link, Link::state(index)?))))
    }

    /// Takes what was seen in a look.
    fn take(&mut self, seen: Result<Seen, LinkError>) -> Result<(), LinkGone> {
        match seen {
            Ok(now) => {
                let checked = self.check_program(&now);
                if std::mem::replace(&mut self.program_missed, checked.is_err()) {
                    checked?;
                }
                self.say(now);
                Ok(())
            }
            Err(LinkError::Gone { .. }) => Err(LinkGone::Removed { name: self.last.link.name.clone() }),
            // The kernel did not say; it may the next time.
            Err(_) => Ok(()),
        }
    }

    fn check_program(&self, now: &Seen) -> Result<(), LinkGone> {
        let programs = &now.state.programs;
        match self.program {
            Some(ours) if !programs.contains(&ours) => {
                Err(LinkGone::ProgramDetached { name: now.link.name.clone(), others: programs.clone() })
            }
            _ => Ok(()),
        }
    }

    fn say(&mut self, now: Seen) {
        for change in self.changes(&now) {
            self.said += 1;
            if change.hurts() {
                tracing::warn!("{change}");
            } else {
                tracing::info!("{change}");
            }
        }
        // A driver that does not tell for a while, such as one that is down, has not forgotten.
        let hash = now.hash.clone().or_else(|| self.last.hash.take());
        self.last = Seen { hash, ..now };
    }

    fn changes(&self, seen: &Seen) -> Vec<Change> {
        let (now, last, opened) = (&seen.link, &self.last.link, &self.opened.link);
        let name = || now.name.clone();
        let mut changes = Vec::new();
        if now.name != last.name {
            changes.push(Change::Name { before: last.name.clone(), now: name() });
        }
        if (now.rx_queues, now.tx_queues) != (last.rx_queues, last.tx_queues) {
            changes.push(self.queues_changed(now));
        } else if let (Some(hash), Some(before)) = (&seen.hash, &self.last.hash)
            && hash != before
        {
            // A driver makes a new table for other queues, which has its line already.
            changes.push(match seen.hash == self.opened.hash {
                true => Change::HashBack { link: name() },
                false => Change::Hash { link: name() },
            });
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
        // What is down has no carrier either: one line.
        let states = [&self.last, seen].map(|seen| (seen.link.up, seen.carries()));
        if states[0] != states[1] {
            changes.push(match states[1] {
                (_, true) => Change::Up { link: name() },
                (true, false) => Change::NoCarrier { link: name() },
                (false, false) => Change::Down { link: name() },
            });
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
        if now.rx_queues > self.opened.link.rx_queues.max(bound) {
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

    /// The link as it is, with a carrier, the server's program 7, and a hash.
    fn seen(link: Link) -> Seen {
        let state = LinkState::default();
        Seen { link, state, hash: Some("0 1 0 1".to_owned()) }
    }

    /// What is said, line by line, as the link becomes each of these, and whether it hurts.
    fn said(as_time_goes: impl IntoIterator<Item = Link>) -> Vec<(bool, String)> {
        said_of(as_time_goes.into_iter().map(seen))
    }

    fn said_of(as_time_goes: impl IntoIterator<Item = Seen>) -> Vec<(bool, String)> {
        let mut watch = LinkWatch::over(seen(link()), 2, Some(7));
        let mut lines = Vec::new();
        for now in as_time_goes {
            lines.extend(watch.changes(&now).into_iter().map(|change| (change.hurts(), change.to_string())));
            watch.say(now);
        }
        assert_eq!(watch.changes_said(), lines.len() as u64);
        lines
    }

    #[test]
    fn another_hash_is_said_once_and_so_is_its_return_however_silent_the_driver_is_meanwhile() {
        let with = |hash: Option<&str>| Seen { hash: hash.map(str::to_owned), ..seen(link()) };
        let lines = said_of([with(Some("0 0 0 0")), with(None), with(Some("0 0 0 0")), with(Some("0 1 0 1"))]);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].0
                && lines[0].1.contains("another key or indirection table")
                && lines[0].1.contains("ethtool -x ss0")
        );
        assert_eq!(lines[1], (false, "interface ss0 spreads frames as at the start again".to_owned()));
    }

    #[test]
    fn the_table_that_a_driver_makes_for_other_queues_is_no_line_of_its_own() {
        let more = Link { rx_queues: 4, tx_queues: 4, ..link() };
        let lines = said_of([Seen { hash: Some("0 1 2 3".to_owned()), ..seen(more) }]);
        assert_eq!(lines.len(), 1, "{lines:?}");
    }

    #[test]
    fn a_peer_that_is_gone_is_no_interface_that_is_down_and_either_is_one_line() {
        let no_carrier = || {
            let mut seen = seen(link());
            seen.state.carrier = false;
            seen
        };
        let down = || Seen { link: Link { up: false, ..link() }, ..no_carrier() };
        let lines: Vec<_> = said_of([no_carrier(), seen(link()), down(), no_carrier(), seen(link())]);
        let words: Vec<_> = lines.iter().map(|(_, line)| line.split([':', ';']).next().unwrap_or_default()).collect();
        let (gone, up) = ("interface ss0 has no carrier", "interface ss0 is up again");
        assert_eq!(words, [gone, up, "interface ss0 is down", gone, up]);
        let mut watch = LinkWatch::over(seen(link()), 2, Some(7));
        watch.say(no_carrier());
        assert!(watch.is_down());
        watch.say(seen(link()));
        assert!(!watch.is_down());
    }

    #[test]
    fn a_program_that_is_gone_ends_the_watch_and_names_who_is_there_instead() {
        let watch = LinkWatch::over(seen(link()), 2, Some(7));
        let with = |programs: &[u32]| {
            let mut now = seen(link());
            now.state.programs = programs.to_vec();
            watch.check_program(&now).map_err(|gone| gone.to_string())
        };
        assert_eq!(with(&[7]), Ok(()));
        let none = with(&[]).unwrap_err();
        assert!(
            none.starts_with("the XDP program of this server was detached from interface ss0: no client"),
            "{none}"
        );
        assert!(with(&[9]).unwrap_err().contains("`bpftool prog show id 9` shows another"), "it is named");
        assert_eq!(
            LinkWatch::over(seen(link()), 2, None).check_program(&seen(link())),
            Ok(()),
            "unknown from the start"
        );
    }

    /// What becomes of a link.
    type Becomes = fn(&mut Seen);

    /// How many looks it takes until a link that stays so has its line and its state, or the server its end.
    fn looks(mut look: impl FnMut() -> Result<Seen, LinkError>) -> (u32, Result<LinkWatch, LinkGone>) {
        let mut watch = LinkWatch::over(seen(link()), 2, Some(7));
        for count in 1..=LOOKS_MOST {
            if let Err(gone) = watch.take(look()) {
                return (count, Err(gone));
            }
            if watch.changes_said() > 0 {
                return (count, Ok(watch));
            }
        }
        panic!("it is not told of in {LOOKS_MOST} looks")
    }

    #[test]
    fn each_state_is_told_of_once_in_its_first_look_and_each_end_in_the_second_at_the_latest() {
        let with = |change: Becomes| {
            let mut changed = seen(link());
            changed.state.programs = vec![7];
            change(&mut changed);
            changed
        };
        let states: [(&str, Becomes); 8] = [
            ("is down", |seen| seen.link.up = false),
            ("has no carrier", |seen| seen.state.carrier = false),
            ("has an MTU of 1400 bytes now", |seen| seen.link.mtu = 1400),
            ("has 4 receive queues now", |seen| seen.link.rx_queues = 4),
            ("has 1 receive and 2 transmit queues now", |seen| seen.link.rx_queues = 1),
            ("by another key or indirection table", |seen| seen.hash = Some("0 0 0 0".to_owned())),
            ("is called lan0 now", |seen| seen.link.name = "lan0".to_owned()),
            ("has the address 02:02:02:02:02:02 now", |seen| seen.link.mac = Mac([2; 6])),
        ];
        for (words, change) in states {
            let said = LinkWatch::over(seen(link()), 2, Some(7)).changes(&with(change));
            assert!(said.len() == 1 && said[0].to_string().contains(words), "{said:?}");
            let (count, watch) = looks(|| Ok(with(change)));
            let mut watch = watch.expect("it goes on");
            assert_eq!((count, watch.changes_said()), (1, 1), "{words}");
            // The counters that show it are as it is, and what stays so has no second line.
            assert_eq!(watch.is_down(), !with(change).carries(), "{words}");
            assert_eq!(watch.queues_without_socket(), u64::from(with(change).link.rx_queues.saturating_sub(2)));
            watch.take(Ok(with(change))).expect("it goes on");
            assert_eq!(watch.changes_said(), 1, "{words}");
        }
        let gone = || Err(LinkError::Gone { index: 7 });
        assert!(matches!(looks(gone), (1, Err(LinkGone::Removed { .. }))));
        let replaced = || Ok(with(|seen| seen.state.programs = vec![9]));
        assert!(matches!(looks(replaced), (2, Err(LinkGone::ProgramDetached { .. }))));
        let detached = || Ok(with(|seen| seen.state.programs.clear()));
        assert!(matches!(looks(detached), (2, Err(LinkGone::ProgramDetached { .. }))));
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
        let mut watch = LinkWatch::over(seen(link()), 2, Some(7));
        let mut after = |rx_queues| {
            watch.say(seen(Link { rx_queues, ..link() }));
            watch.queues_without_socket()
        };
        assert_eq!((after(2), after(4), after(1), after(2)), (0, 2, 0, 0));
    }

    #[test]
    fn queues_that_were_left_without_a_socket_are_not_said_to_have_one() {
        let mut watch = LinkWatch::over(seen(Link { rx_queues: 4, tx_queues: 4, ..link() }), 2, Some(7));
        watch.say(seen(Link { rx_queues: 2, ..link() }));
        let changes = watch.changes(&seen(Link { rx_queues: 3, tx_queues: 4, ..link() }));
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
