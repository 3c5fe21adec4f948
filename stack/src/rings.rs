//! `Rings`: how many bytes a flow can hold in each direction.

/// Sizes of a flow's rings, in bytes. Between 512 and 65,535, so that the window scale is always 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rings {
    /// Receive ring: the largest window that is offered.
    pub rx: usize,
    /// Transmit ring: the most that is unacknowledged at a time.
    pub tx: usize,
}

impl Rings {
    /// 4 KiB and 8 KiB.
    pub const DEFAULT: Self = Self { rx: 4_096, tx: 8_192 };

    /// The sizes that blocks are built for.
    pub const CHOICES: [Self; 8] = [
        Self { rx: 512, tx: 512 },
        Self { rx: 2_048, tx: 2_048 },
        Self { rx: 2_048, tx: 4_096 },
        Self::DEFAULT,
        Self { rx: 8_192, tx: 16_384 },
        Self { rx: 16_384, tx: 32_768 },
        Self { rx: 32_768, tx: 65_535 },
        Self { rx: 65_535, tx: 65_535 },
    ];

    /// Bytes of a flow's block with these rings: 792 for everything else, a whole number of cache lines.
    pub const fn flow_bytes(self) -> usize {
        (792 + self.rx + self.tx).next_multiple_of(64)
    }
}
