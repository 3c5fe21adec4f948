//! From a path to the file that defines what it names, through `use` and `pub use`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::modules::{Crate, Import, ModuleId};

/// Re-exports that are followed for one name; more than any crate has in a row.
const MOST_STEPS: u32 = 32;

/// Which names a file imports, by the two files.
pub type Imports = BTreeMap<(PathBuf, PathBuf), BTreeSet<String>>;

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named<'a> {
    /// A module.
    Module(ModuleId),
    /// An item that the module `of` defines, or something inside of that item.
    Item { of: ModuleId, name: &'a str },
}

/// The imports among the files of a crate.
pub fn imports(krate: &Crate) -> Imports {
    let mut imports = Imports::new();
    for (id, module) in krate.modules.iter().enumerate() {
        let mut add = |named| {
            let Some(Named::Item { of, name }) = named else { return };
            let other = &krate.modules[of].file;
            if *other != module.file {
                imports.entry((module.file.clone(), other.clone())).or_default().insert(name.to_owned());
            }
        };
        for path in &module.paths {
            add(krate.resolve(id, path, MOST_STEPS));
        }
        for import in module.uses.iter().filter(|import| !import.reexported) {
            add(match krate.resolve(id, &import.path, MOST_STEPS) {
                // What is used of a module is said by the paths that begin with its name; what came by `*` has no name.
                Some(Named::Module(of)) if import.name.is_none() => Some(Named::Item { of, name: "*" }),
                named => named,
            });
        }
    }
    imports
}

impl Crate {
    /// What `path` names inside of `module`; `None` when it is of another crate, or a local name.
    fn resolve(&self, module: ModuleId, path: &[String], steps: u32) -> Option<Named<'_>> {
        let (first, rest) = path.split_first()?;
        let found = match first.as_str() {
            "crate" => Some(Named::Module(0)),
            "self" => Some(Named::Module(module)),
            "super" => self.modules[module].parent.map(Named::Module),
            name => self.look_up(module, name, steps),
        };
        rest.iter().try_fold(found?, |found, name| match found {
            Named::Module(of) if name == "super" => self.modules[of].parent.map(Named::Module),
            Named::Module(of) => self.look_up(of, name, steps),
            // A variant, an associated function.
            item => Some(item),
        })
    }

    /// What `name` is inside of `module`.
    fn look_up(&self, module: ModuleId, name: &str, steps: u32) -> Option<Named<'_>> {
        let here = &self.modules[module];
        if let Some(child) = here.children.get(name) {
            return Some(Named::Module(*child));
        }
        if let Some(name) = here.items.get(name) {
            return Some(Named::Item { of: module, name });
        }
        let steps = steps.checked_sub(1)?;
        // `use name;` brings in a crate of that name, not itself.
        let resolve = |import: &Import| match import.path.first() {
            Some(first) if first == name && import.path.len() == 1 => None,
            _ => self.resolve(module, &import.path, steps),
        };
        let named = here.uses.iter().filter(|import| import.name.as_deref() == Some(name)).find_map(resolve);
        let mut globs = here.uses.iter().filter(|import| import.name.is_none());
        named.or_else(|| {
            globs.find_map(|import| match resolve(import)? {
                Named::Module(of) if of != module => self.look_up(of, name, steps),
                _ => None,
            })
        })
    }
}

/// All files that import or are imported.
pub fn files(imports: &Imports) -> BTreeSet<&Path> {
    imports.keys().flat_map(|(from, to)| [from.as_path(), to.as_path()]).collect()
}
