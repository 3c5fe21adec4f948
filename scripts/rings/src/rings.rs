//! `Ring`: files that import each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::resolve::{Imports, files};

/// Files of which each reaches all others by its imports and theirs.
#[derive(Debug, PartialEq, Eq)]
pub struct Ring {
    /// The files.
    pub files: BTreeSet<PathBuf>,
    /// The imports among them.
    pub imports: Vec<RingImport>,
}

/// One import inside of a ring.
#[derive(Debug, PartialEq, Eq)]
pub struct RingImport {
    /// Who imports.
    pub from: PathBuf,
    /// From where.
    pub to: PathBuf,
    /// What, by the names that it is defined under.
    pub names: BTreeSet<String>,
}

/// The rings among imports; no file is in two.
pub fn rings(imports: &Imports) -> Vec<Ring> {
    let reached: BTreeMap<&Path, BTreeSet<&Path>> =
        files(imports).into_iter().map(|file| (file, reached_from(file, imports))).collect();
    let mut rings = Vec::new();
    let mut seen = BTreeSet::new();
    for (file, others) in &reached {
        if !others.contains(file) || seen.contains(file) {
            continue;
        }
        let members: BTreeSet<&Path> = others.iter().copied().filter(|other| reached[other].contains(file)).collect();
        seen.extend(members.iter().copied());
        let inside = imports.iter().filter(|((from, to), _)| members.contains(&**from) && members.contains(&**to));
        let imports =
            inside.map(|((from, to), names)| RingImport { from: from.clone(), to: to.clone(), names: names.clone() });
        rings.push(Ring { imports: imports.collect(), files: members.into_iter().map(Path::to_owned).collect() });
    }
    rings
}

/// The files that `file` imports, those that they import, and so on.
fn reached_from<'a>(file: &Path, imports: &'a Imports) -> BTreeSet<&'a Path> {
    let mut reached = BTreeSet::new();
    let mut next = vec![file];
    while let Some(file) = next.pop() {
        for (_, to) in imports.keys().filter(|(from, _)| from == file) {
            if reached.insert(to.as_path()) {
                next.push(to);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests;
