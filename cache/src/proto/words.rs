//! The words of a command line: parted by single or many spaces and nothing else, as in memcached.

use arrayvec::ArrayVec;

/// Words of a line that are looked at (`MAX_TOKENS` less its terminator).
pub(crate) const WORDS_MAX: usize = 23;

/// The first words of a line.
pub(crate) type Words<'a> = ArrayVec<&'a [u8], WORDS_MAX>;

/// What follows the spaces at the start.
pub(crate) fn after_spaces(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&byte| byte != b' ').unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

/// The next word and what follows it; `None` when only spaces are left.
pub(crate) fn next_word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = after_spaces(text);
    let end = text.iter().position(|&byte| byte == b' ').unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// All words, one by one.
pub(crate) fn all(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(next_word(text), |(_, rest)| next_word(rest)).map(|(word, _)| word)
}

/// The first `most` words, of which there may be up to [`WORDS_MAX`].
pub(crate) fn first(text: &[u8], most: usize) -> Words<'_> {
    all(text).take(most.min(WORDS_MAX)).collect()
}
