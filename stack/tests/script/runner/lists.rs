//! Lists of scripts with a reason each: `wanted.txt`, what is not built yet, and `linux.txt`, what Linux does otherwise.

use std::collections::BTreeMap;

use super::root;

/// Reasons by the script's path.
pub type List = BTreeMap<String, String>;

/// Reads a list.
pub fn read(name: &str) -> List {
    let text = std::fs::read_to_string(root().join(name)).expect("the list is there");
    parse(name, &text).unwrap_or_else(|error| panic!("{error}"))
}

/// Reads lines of `folder/script.pkt : reason`; `#` begins a comment.
///
/// # Errors
/// A line that is none, or a script that is listed twice.
pub fn parse(name: &str, text: &str) -> Result<List, String> {
    let mut list = List::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let wrong = |what: &str| format!("{name}:{}: `{line}`: {what}", number + 1);
        let (path, reason) = line.split_once(" : ").ok_or_else(|| wrong("a line is a script, a colon, a reason"))?;
        if reason.len() < 15 {
            return Err(wrong("a reason is more than a word"));
        }
        if list.insert(path.trim().to_owned(), reason.to_owned()).is_some() {
            return Err(wrong("the script is listed already"));
        }
    }
    Ok(list)
}
