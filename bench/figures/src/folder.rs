//! The run folder: where the results of a run are kept, never over those of an earlier one.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Most folders of one name and day.
const MAX_FOLDERS: u32 = 100;

/// Why results could not be stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// A file or folder cannot be written.
    #[error("cannot write {path}: {source}; check the place and its permissions")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Too many folders of one day.
    #[error("{0} and its successors up to -{MAX_FOLDERS} exist; remove some or choose another --name")]
    Full(PathBuf),
}

/// A run folder being filled.
#[derive(Debug)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// Makes `<under>/<date>-<name>`, or the first free of `-2`, `-3`, ...
    ///
    /// # Errors
    /// When it cannot be made, or all of them exist.
    pub fn create(under: &Path, date: &str, name: &str) -> Result<RunFolder, FolderError> {
        fs::create_dir_all(under).map_err(|source| FolderError::Write { path: under.into(), source })?;
        let base = under.join(format!("{date}-{name}"));
        for number in 1..=MAX_FOLDERS {
            let path = if number == 1 { base.clone() } else { under.join(format!("{date}-{name}-{number}")) };
            match fs::create_dir(&path) {
                Ok(()) => return Ok(RunFolder(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(FolderError::Write { path, source }),
            }
        }
        Err(FolderError::Full(base))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, over the one that was there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<(), FolderError> {
        let path = self.0.join(name);
        fs::write(&path, text).map_err(|source| FolderError::Write { path, source })
    }

    /// Writes a value as JSON for people: indented, with a line break at the end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), FolderError> {
        let text = serde_json::to_string_pretty(value).map_err(|error| self.broken(name, error.into()))?;
        self.write(name, &(text + "\n"))
    }

    /// Adds a value to a file of them, one a line, so that a run that is interrupted keeps what it has measured.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append_json(&self, name: &str, value: &impl Serialize) -> Result<(), FolderError> {
        let mut line = serde_json::to_vec(value).map_err(|error| self.broken(name, error.into()))?;
        line.push(b'\n');
        let file = fs::OpenOptions::new().create(true).append(true).open(self.0.join(name));
        file.and_then(|mut file| file.write_all(&line)).map_err(|error| self.broken(name, error))
    }

    fn broken(&self, name: &str, source: io::Error) -> FolderError {
        FolderError::Write { path: self.0.join(name), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_folder_is_never_overwritten() {
        let under = std::env::temp_dir().join(format!("sidestep-figures-{}", std::process::id()));
        let [first, second] = [(); 2].map(|()| RunFolder::create(&under, "2026-11-22", "t").unwrap());
        first.append_json("raw.jsonl", &1).unwrap();
        first.append_json("raw.jsonl", &[2]).unwrap();
        let text = fs::read_to_string(first.path().join("raw.jsonl")).unwrap();
        fs::remove_dir_all(&under).unwrap();
        assert!(first.path().ends_with("2026-11-22-t") && second.path().ends_with("2026-11-22-t-2"));
        assert_eq!(text, "1\n[2]\n");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let error = RunFolder::create(Path::new("/proc/none"), "2026-11-22", "t").unwrap_err().to_string();
        assert!(error.contains("/proc/none"), "{error}");
    }
}
