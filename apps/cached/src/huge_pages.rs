//! Whether the store may lie on huge pages that the machine keeps aside (`vm.nr_hugepages`).
//!
//! It takes all that it needs or none, and none that the frames of the queues could have had: those the NIC reads and
//! writes. Read first: kernel `admin-guide/mm/hugetlbpage.rst`, `cgroup-v2.rst` ("HugeTLB").

use std::path::{Path, PathBuf};

use cpu::HUGE_PAGE_BYTES;

use crate::budget::Budget;

/// What the kernel tells of huge pages of [`HUGE_PAGE_BYTES`].
const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

/// The control groups, of version 2.
const GROUPS: &str = "/sys/fs/cgroup";

/// The most bytes of such pages that a control group and those below it may have, and how many they have, in each of them.
const GROUP_LIMITS: [(&str, &str); 2] =
    [("hugetlb.2MB.max", "hugetlb.2MB.current"), ("hugetlb.2MB.rsvd.max", "hugetlb.2MB.rsvd.current")];

/// Whether as many are free as the items of so many shards need, and the frames beside them.
pub(crate) fn for_items(budget: &Budget, shards: usize) -> bool {
    let page = HUGE_PAGE_BYTES as u64;
    let wanted = items_bytes(budget.items, shards).saturating_add(budget.frames.next_multiple_of(page));
    // Each queue has whole pages too; of the machine's there may be one too few, of a group's not.
    let rounded = page.saturating_mul(shards as u64);
    free_bytes(Path::new(POOL)) >= wanted
        && group_left(&own_group(), Path::new(GROUPS)) >= wanted.saturating_add(rounded)
}

/// Each shard has whole pages.
fn items_bytes(items: u64, shards: usize) -> u64 {
    let shards = shards.max(1) as u64;
    items.div_ceil(shards).next_multiple_of(HUGE_PAGE_BYTES as u64).saturating_mul(shards)
}

/// Bytes on pages that are free and nobody's; 0 where the kernel does not tell.
fn free_bytes(pool: &Path) -> u64 {
    let read = |file| number(&pool.join(file));
    let free = read("free_hugepages").unwrap_or(0);
    free.saturating_sub(read("resv_hugepages").unwrap_or(0)).saturating_mul(HUGE_PAGE_BYTES as u64)
}

/// The control group of this process, below [`GROUPS`].
fn own_group() -> PathBuf {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    PathBuf::from(own)
}

/// What a control group and those above it allow beyond what they have: who uses more is killed by the kernel.
fn group_left(own: &Path, groups: &Path) -> u64 {
    let folders = own.ancestors().map(|group| groups.join(group));
    let left = |folder: &Path, (most, current): (&str, &str)| {
        // No file, or `max`: no limit.
        number(&folder.join(most)).map(|most| most.saturating_sub(number(&folder.join(current)).unwrap_or(0)))
    };
    let all = folders.flat_map(|folder| GROUP_LIMITS.map(|files| left(&folder, files)));
    all.flatten().min().unwrap_or(u64::MAX)
}

fn number(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = HUGE_PAGE_BYTES as u64;

    /// A folder that goes with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("sidestep-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }

        fn write(&self, file: &str, text: &str) {
            std::fs::write(self.0.join(file), text).expect("written");
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn each_shard_has_whole_pages() {
        assert_eq!(items_bytes(64 << 20, 2), 64 << 20);
        assert_eq!(items_bytes(64 << 20, 3), 3 * 11 * PAGE);
        assert_eq!(items_bytes(1, 4), 4 * PAGE);
    }

    #[test]
    fn pages_that_are_reserved_are_somebodys_and_a_kernel_without_any_has_none() {
        let pool = Folder::new("huge-pages");
        assert_eq!(free_bytes(&pool.0), 0);
        pool.write("free_hugepages", "9\n");
        assert_eq!(free_bytes(&pool.0), 9 * PAGE);
        pool.write("resv_hugepages", "4\n");
        assert_eq!(free_bytes(&pool.0), 5 * PAGE);
    }

    #[test]
    fn the_lowest_limit_of_a_control_group_and_those_above_it_holds() {
        let root = Folder::new("groups");
        let own = Path::new("system.slice/sidestep.service");
        std::fs::create_dir_all(root.0.join(own)).expect("a folder");
        assert_eq!(group_left(own, &root.0), u64::MAX);
        root.write("system.slice/sidestep.service/hugetlb.2MB.max", "max\n");
        assert_eq!(group_left(own, &root.0), u64::MAX);
        root.write("system.slice/hugetlb.2MB.rsvd.max", "4194304\n");
        assert_eq!(group_left(own, &root.0), 4 << 20);
        root.write("system.slice/hugetlb.2MB.rsvd.current", "2097152\n");
        assert_eq!(group_left(own, &root.0), 2 << 20);
        root.write("system.slice/sidestep.service/hugetlb.2MB.max", "0\n");
        assert_eq!(group_left(own, &root.0), 0);
        assert_eq!(group_left(Path::new(""), &root.0), u64::MAX);
    }
}
