//! `Crate`: the modules of a crate, with the names that each defines, imports and uses.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Item, ItemMod, ItemUse, Lit, Macro, Meta, UseTree, Visibility};

/// A module's place in [`Crate::modules`].
pub type ModuleId = usize;

/// The modules of one crate; the first is its root.
#[derive(Debug, Default)]
pub struct Crate {
    /// All of them, but those that only tests have.
    pub modules: Vec<Module>,
}

/// One module, in a file of its own or inline.
#[derive(Debug, Default)]
pub struct Module {
    /// The file that it is in.
    pub file: PathBuf,
    /// The module that declares it; `None` for the root.
    pub parent: Option<ModuleId>,
    /// The modules that it declares, by name.
    pub children: HashMap<String, ModuleId>,
    /// The names of the items that it defines.
    pub items: HashSet<String>,
    /// What its `use` declarations bring in.
    pub uses: Vec<Import>,
    /// All other paths of its code, as written.
    pub paths: HashSet<Vec<String>>,
}

/// A name that a `use` declaration brings in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Under which name; `None` for `*`.
    pub name: Option<String>,
    /// What, as written.
    pub path: Vec<String>,
    /// Whether others see it too (`pub use`): then it is no import by itself.
    pub reexported: bool,
}

/// A file that cannot be read, or is no Rust.
#[derive(Debug)]
pub struct ReadError {
    file: PathBuf,
    why: String,
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.why)
    }
}

/// Gives the text of a file.
pub type ReadFile<'a> = &'a mut dyn FnMut(&Path) -> io::Result<String>;

impl Crate {
    /// Reads the crate whose root is the file `root`.
    ///
    /// # Errors
    /// A file of it cannot be read, or is no Rust.
    pub fn read(root: &Path, read: ReadFile<'_>) -> Result<Crate, ReadError> {
        let mut krate = Crate::default();
        let folder = root.parent().unwrap_or(Path::new("")).to_owned();
        krate.read_file(None, root.to_owned(), folder, read)?;
        Ok(krate)
    }

    /// Reads the module in `file`, whose own modules lie in `folder`.
    fn read_file(
        &mut self,
        parent: Option<ModuleId>,
        file: PathBuf,
        folder: PathBuf,
        read: ReadFile<'_>,
    ) -> Result<ModuleId, ReadError> {
        let wrong = |why: String| ReadError { file: file.clone(), why };
        let text = read(&file).map_err(|error| wrong(error.to_string()))?;
        let syntax = syn::parse_file(&text).map_err(|error| wrong(error.to_string()))?;
        self.read_items(parent, file, folder, &syntax.items, read)
    }

    fn read_items(
        &mut self,
        parent: Option<ModuleId>,
        file: PathBuf,
        folder: PathBuf,
        items: &[Item],
        read: ReadFile<'_>,
    ) -> Result<ModuleId, ReadError> {
        let id = self.modules.len();
        let mut names = Names { module: Module { file: file.clone(), parent, ..Module::default() } };
        names.module.items.extend(items.iter().filter_map(name_of));
        for item in items {
            names.visit_item(item);
        }
        self.modules.push(names.module);
        for item in items {
            if let Item::Mod(child) = item
                && !is_of_tests(&child.attrs)
            {
                let child_id = self.read_child(id, &file, &folder, child, read)?;
                self.modules[id].children.insert(child.ident.to_string(), child_id);
            }
        }
        Ok(id)
    }

    fn read_child(
        &mut self,
        parent: ModuleId,
        file: &Path,
        folder: &Path,
        child: &ItemMod,
        read: ReadFile<'_>,
    ) -> Result<ModuleId, ReadError> {
        let name = child.ident.to_string();
        if let Some((_, items)) = &child.content {
            return self.read_items(Some(parent), file.to_owned(), folder.join(name), items, read);
        }
        if let Some(path) = path_attribute(&child.attrs) {
            let file = file.parent().unwrap_or(Path::new("")).join(path);
            let folder = file.parent().unwrap_or(Path::new("")).to_owned();
            return self.read_file(Some(parent), file, folder, read);
        }
        let own = folder.join(&name);
        let file = [folder.join(format!("{name}.rs")), own.join("mod.rs")];
        let file = file.into_iter().find(|file| read(file).is_ok());
        self.read_file(Some(parent), file.unwrap_or(folder.join(format!("{name}.rs"))), own, read)
    }
}

/// Collects the names of one module, without those of its modules and its tests.
struct Names {
    module: Module,
}

impl Names {
    fn use_tree(&mut self, tree: &UseTree, before: &mut Vec<String>, reexported: bool) {
        let (name, more) = match tree {
            UseTree::Path(part) => {
                before.push(part.ident.to_string());
                self.use_tree(&part.tree, before, reexported);
                before.pop();
                return;
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(tree, before, reexported);
                }
                return;
            }
            UseTree::Glob(_) => (None, None),
            UseTree::Name(name) if name.ident == "self" => (before.last().cloned(), None),
            UseTree::Name(name) => (Some(name.ident.to_string()), Some(name.ident.to_string())),
            UseTree::Rename(rename) if rename.ident == "self" => (Some(rename.rename.to_string()), None),
            UseTree::Rename(rename) => (Some(rename.rename.to_string()), Some(rename.ident.to_string())),
        };
        let path = before.iter().cloned().chain(more).collect();
        self.module.uses.push(Import { name, path, reexported });
    }

    /// Paths in the arguments of a macro, which are no syntax before it is expanded.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end(&mut path);
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.end(&mut path);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.end(&mut path);
    }

    fn end(&mut self, path: &mut Vec<String>) {
        if !path.is_empty() {
            self.module.paths.insert(std::mem::take(path));
        }
    }
}

impl<'a> Visit<'a> for Names {
    fn visit_item(&mut self, item: &'a Item) {
        if !attributes(item).is_some_and(is_of_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, _: &'a ItemMod) {}

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        if item.leading_colon.is_none() {
            self.use_tree(&item.tree, &mut Vec::new(), !matches!(item.vis, Visibility::Inherited));
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        if path.leading_colon.is_none() {
            self.module.paths.insert(path.segments.iter().map(|part| part.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, _: &'a Attribute) {}

    fn visit_visibility(&mut self, _: &'a Visibility) {}

    fn visit_macro(&mut self, mac: &'a Macro) {
        self.visit_path(&mac.path);
        self.tokens(mac.tokens.clone());
    }
}

/// The name of an item that a path can name.
fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    attributes(item).is_none_or(|attributes| !is_of_tests(attributes)).then(|| ident.to_string())
}

fn attributes(item: &Item) -> Option<&[Attribute]> {
    Some(match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return None,
    })
}

/// Whether `#[cfg(test)]`, or `all` of test and more, stands before an item.
fn is_of_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let mut words = list.tokens.to_string();
            words.retain(|letter| !letter.is_whitespace());
            words == "test" || words.starts_with("all(test,")
        }
        _ => false,
    })
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            Expr::Lit(value) => match &value.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    })
}
