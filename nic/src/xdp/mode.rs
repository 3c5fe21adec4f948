//! Which mode to try, in which order, and what was obtained: a pure function and its values.
//!
//! Native mode runs the program in the driver, generic mode in the kernel's common receive path; zero copy lets the
//! NIC write into the UMEM itself. Read first: kernel `af_xdp.rst`, "XDP_COPY and XDP_ZEROCOPY bind flags".

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where the XDP program may be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AttachMode {
    /// Native, then generic; generic first where it is known to be faster. The default.
    #[default]
    Auto,
    /// Native or not at all.
    Native,
    /// Generic or not at all.
    Generic,
}

/// Whether zero copy is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CopyMode {
    /// Zero copy where the driver grants it, else copy. The default.
    #[default]
    Auto,
    /// Copy, without trying.
    Copy,
    /// Zero copy or not at all.
    ZeroCopy,
}

/// Where the XDP program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attach {
    /// In the driver.
    Native,
    /// In the kernel's common receive path (also called SKB mode).
    Generic,
}

impl fmt::Display for Attach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// How frames get from the driver into the UMEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// The NIC writes them there.
    ZeroCopy,
    /// The kernel copies them there.
    Copy,
}

impl fmt::Display for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroCopy => "zero copy",
            Self::Copy => "copy",
        })
    }
}

/// The mode that a device runs in, and why it is no better one. For the operator: print it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obtained {
    /// Where the program is attached.
    pub attach: Attach,
    /// How frames get into the UMEM.
    pub copy: Copy,
    /// Why, in a clause or two.
    pub why: String,
}

impl fmt::Display for Obtained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mode, {} ({})", self.attach, self.copy, self.why)
    }
}

/// One combination to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) attach: Attach,
    pub(super) copy: Copy,
}

impl Attempt {
    /// Whether frames longer than a chunk are to be asked for. In zero copy the NIC writes one frame a chunk; in copy
    /// mode the kernel may hand over what it has merged, or not cut.
    pub(super) fn may_be_merged(self) -> bool {
        self.copy == Copy::Copy
    }
}

/// What can be tried on a link, best first, and the reasons for the order when it is not the usual one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempts {
    pub(super) order: Vec<Attempt>,
    pub(super) why: Vec<&'static str>,
}

impl Attempts {
    /// Takes zero copy out; says whether it was among them.
    pub(super) fn without_zero_copy(&mut self) -> bool {
        let before = self.order.len();
        self.order = copying(&self.order);
        self.order.len() < before
    }
}

/// Why no combination can be tried at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GenericShiftsQueues;

/// Puts the combinations in order.
///
/// veth in generic mode delivers frames to a queue one lower than in native mode (measured on Linux 6.18: 0 and 1 to 0,
/// 2 to 1), so with more than one queue it is never used there; with one queue it is the faster of the two. Zero copy,
/// which it has not, is not even tried there: each attempt makes the memory of a queue and throws it away.
pub(super) fn attempts(
    attach: AttachMode,
    copy: CopyMode,
    driver: &str,
    rx_queues: u16,
) -> Result<Attempts, GenericShiftsQueues> {
    const ZERO_COPY: Attempt = Attempt { attach: Attach::Native, copy: Copy::ZeroCopy };
    const NATIVE: Attempt = Attempt { attach: Attach::Native, copy: Copy::Copy };
    const GENERIC: Attempt = Attempt { attach: Attach::Generic, copy: Copy::Copy };

    let veth = driver == "veth";
    let shifts = veth && rx_queues > 1;
    let (order, why) = match attach {
        AttachMode::Generic if shifts => return Err(GenericShiftsQueues),
        AttachMode::Generic => (&[GENERIC][..], "generic mode was asked for"),
        AttachMode::Native => (&[ZERO_COPY, NATIVE][..], "native mode was asked for"),
        AttachMode::Auto if veth && !shifts => {
            (&[GENERIC, NATIVE][..], "one queue, where generic mode is the faster on veth")
        }
        AttachMode::Auto if shifts => (&[ZERO_COPY, NATIVE][..], "generic mode would shift the queues of a veth"),
        AttachMode::Auto => (&[ZERO_COPY, NATIVE, GENERIC][..], ""),
    };
    let (order, copy_why) = match copy {
        CopyMode::ZeroCopy => (vec![ZERO_COPY], "zero copy was asked for"),
        CopyMode::Copy => (copying(order), "copy was asked for"),
        CopyMode::Auto if veth && order.contains(&ZERO_COPY) => (copying(order), "a veth has no zero copy"),
        CopyMode::Auto => (order.to_vec(), ""),
    };
    let why = [why, copy_why].into_iter().filter(|why| !why.is_empty()).collect();
    Ok(Attempts { order, why })
}

fn copying(order: &[Attempt]) -> Vec<Attempt> {
    order.iter().copied().filter(|attempt| attempt.copy == Copy::Copy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(attach: AttachMode, copy: CopyMode, driver: &str, queues: u16) -> Vec<(Attach, Copy)> {
        let attempts = attempts(attach, copy, driver, queues).unwrap();
        attempts.order.iter().map(|attempt| (attempt.attach, attempt.copy)).collect()
    }

    #[test]
    fn a_nic_is_tried_from_zero_copy_down_to_generic() {
        let all = [(Attach::Native, Copy::ZeroCopy), (Attach::Native, Copy::Copy), (Attach::Generic, Copy::Copy)];
        assert_eq!(order(AttachMode::Auto, CopyMode::Auto, "igb", 4), all);
        assert_eq!(order(AttachMode::Auto, CopyMode::Copy, "igb", 4), all[1..]);
        assert_eq!(order(AttachMode::Native, CopyMode::Auto, "igb", 1), all[..2]);
        assert_eq!(order(AttachMode::Native, CopyMode::ZeroCopy, "igb", 1), all[..1]);
    }

    #[test]
    fn what_is_left_without_zero_copy_keeps_its_order() {
        let mut all = attempts(AttachMode::Auto, CopyMode::Auto, "igb", 4).unwrap();
        assert!(all.without_zero_copy() && !all.without_zero_copy());
        assert_eq!(all.order, attempts(AttachMode::Auto, CopyMode::Copy, "igb", 4).unwrap().order);
    }

    #[test]
    fn a_veth_with_more_than_one_queue_is_never_generic() {
        assert!(order(AttachMode::Auto, CopyMode::Auto, "veth", 2).iter().all(|(attach, _)| *attach == Attach::Native));
        assert_eq!(attempts(AttachMode::Generic, CopyMode::Auto, "veth", 2), Err(GenericShiftsQueues));
    }

    #[test]
    fn zero_copy_is_tried_on_a_veth_only_where_it_was_asked_for() {
        let tried = attempts(AttachMode::Auto, CopyMode::Auto, "veth", 2).unwrap();
        assert_eq!(tried.order, [Attempt { attach: Attach::Native, copy: Copy::Copy }]);
        assert_eq!(tried.why, ["generic mode would shift the queues of a veth", "a veth has no zero copy"]);
        let asked = order(AttachMode::Native, CopyMode::ZeroCopy, "veth", 2);
        assert_eq!(asked, [(Attach::Native, Copy::ZeroCopy)]);
    }

    #[test]
    fn a_veth_with_one_queue_is_generic_unless_told_otherwise() {
        assert_eq!(order(AttachMode::Auto, CopyMode::Auto, "veth", 1)[0], (Attach::Generic, Copy::Copy));
        assert!(!order(AttachMode::Native, CopyMode::Auto, "veth", 1).contains(&(Attach::Generic, Copy::Copy)));
    }
}
