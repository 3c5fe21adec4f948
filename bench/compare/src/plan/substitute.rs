//! `{name}` in a word of a command becomes a value, `{*name}` the words of a value; `{{` and `}}` become braces.

/// What `word` comes to: itself with its placeholders filled, or where it is `{*name}`, the words of the variable, each
/// with its placeholders filled.
///
/// # Errors
/// As [`substitute`].
pub(super) fn words(word: &str, lookup: impl Fn(&str) -> Option<String> + Copy) -> Result<Vec<String>, String> {
    let Some(name) = word.strip_prefix("{*").and_then(|name| name.strip_suffix('}')) else {
        return Ok(vec![substitute(word, lookup)?]);
    };
    let line = substitute(&format!("{{{name}}}"), lookup)?;
    line.split_whitespace().map(|word| substitute(word, lookup)).collect()
}

/// Fills the placeholders of `word`.
///
/// # Errors
/// A name that `lookup` does not know, or a brace without its partner.
fn substitute(word: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, String> {
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
