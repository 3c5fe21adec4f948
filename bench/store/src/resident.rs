//! How much memory a process has resident, as the kernel counts it.

/// Why resident memory is not known.
#[derive(Debug, thiserror::Error)]
#[error("cannot read resident memory from {path}; is /proc mounted, and does the process run?")]
pub struct ResidentError {
    path: String,
}

/// Resident bytes (`VmRSS`) of process `id`, of this one without.
///
/// # Errors
/// [`ResidentError`] when the kernel does not say.
pub fn resident_bytes(id: Option<u32>) -> Result<u64, ResidentError> {
    let path = id.map_or_else(|| "/proc/self/status".to_owned(), |id| format!("/proc/{id}/status"));
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or(ResidentError { path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_resident_once_it_is_touched() {
        let before = resident_bytes(None).unwrap();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = resident_bytes(Some(std::process::id())).unwrap();
        assert!(after >= before + (60 << 20), "{before} then {after}");
        drop(block);
        assert!(resident_bytes(Some(u32::MAX)).unwrap_err().to_string().contains("/proc/4294967295/status"));
    }
}
