//! How much memory a process has resident, as the kernel counts it.

use procfs::process::Process;
use procfs::{ProcError, ProcResult};

/// Resident bytes (`VmRSS`) of process `id`, of this one without.
///
/// # Errors
/// When the kernel does not say.
pub fn resident_bytes(id: Option<u32>) -> ProcResult<u64> {
    let process = id.map_or_else(Process::myself, |id| Process::new(id as i32))?;
    let kib = process.status()?.vmrss.ok_or_else(|| ProcError::Other("the kernel does not say VmRSS".into()))?;
    Ok(kib << 10)
}
