//! `Name`: the meta commands.

/// Which meta command: the second letter of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// mg: get, touch, or create.
    Get,
    /// ms: store.
    Set,
    /// md: delete, or mark as stale.
    Delete,
    /// ma: count.
    Arith,
    /// mn: answer MN.
    Noop,
    /// me: what is known of an item.
    Debug,
}

impl Name {
    /// The command of that name.
    pub fn of(name: &[u8]) -> Option<Name> {
        match name {
            b"mg" => Some(Name::Get),
            b"ms" => Some(Name::Set),
            b"md" => Some(Name::Delete),
            b"ma" => Some(Name::Arith),
            b"mn" => Some(Name::Noop),
            b"me" => Some(Name::Debug),
            _ => None,
        }
    }
}
