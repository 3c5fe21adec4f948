//! `{name}` in a word of a command becomes a value; `{{` and `}}` become braces.

/// Fills the placeholders of `word`.
///
/// # Errors
/// A name that `lookup` does not know, or a brace without its partner.
pub(super) fn substitute(word: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let (brace, after) = rest[at..].split_at(1);
        if let Some(doubled) = after.strip_prefix(brace) {
            out.push_str(brace);
            rest = doubled;
            continue;
        }
        let named = after.split_once('}').filter(|_| brace == "{");
        let Some((name, behind)) = named else {
            return Err(format!("'{word}' has a lone '{brace}'; write '{brace}{brace}' for the brace"));
        };
        match lookup(name) {
            Some(value) => out.push_str(&value),
            None => {
                return Err(format!(
                    "'{word}' names '{{{name}}}', which is not set here; add it to [set], pass --set {name}=..., or \
                     write '{{{{' for a brace"
                ));
            }
        }
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}
