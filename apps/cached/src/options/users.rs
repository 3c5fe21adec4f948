//! The file of `-Y`: who may speak, a `name:password` a line.
//!
//! Read first: memcached's `authfile.c`, whose limits these are.

use std::io;
use std::path::Path;

use cache::User;

use super::error::OptionError;

/// Lines that memcached reads (`MAX_ENTRIES`).
const USERS_MAX: usize = 8;

/// Bytes of a line (`MAX_ENTRY_LEN`).
const LINE_MAX_BYTES: usize = 256;

/// Reads the file.
///
/// # Errors
/// It cannot be read, holds no user or too many, or a line is none.
pub fn read_users(path: &Path) -> Result<Vec<User>, OptionError> {
    users_in(path, std::fs::read(path))
}

/// The users in what was read of `path`.
///
/// # Errors
/// As for [`read_users`].
pub fn users_in(path: &Path, text: io::Result<Vec<u8>>) -> Result<Vec<User>, OptionError> {
    let wrong = |why: String| OptionError::File { option: "-Y", path: path.display().to_string(), why };
    let text = text.map_err(|error| wrong(format!("{error}; name a file of lines name:password")))?;
    users_of(&text).map_err(wrong)
}

fn users_of(text: &[u8]) -> Result<Vec<User>, String> {
    let mut users = Vec::new();
    let lines = text.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    for (number, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
        let place = number + 1;
        if line.len() > LINE_MAX_BYTES {
            return Err(format!(
                "line {place} has {} bytes, at most {LINE_MAX_BYTES} are read; shorten it",
                line.len()
            ));
        }
        let colon = line.iter().position(|&byte| byte == b':');
        let Some((name, rest)) = colon.map(|at| line.split_at(at)) else {
            return Err(format!("line {place} has no colon; write it as name:password"));
        };
        let password = &rest[1..];
        if name.contains(&b' ') || password.contains(&b' ') || name.is_empty() || password.is_empty() {
            return Err(format!(
                "line {place}: name and password must be there and hold no blank, or nobody could say them"
            ));
        }
        users.push(User { name: name.into(), password: password.into() });
    }
    match users.len() {
        0 => Err("it names nobody; write a line name:password for each user".to_owned()),
        1..=USERS_MAX => Ok(users),
        more => Err(format!("it names {more} users, at most {USERS_MAX} are taken")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_line_by_line() {
        let users = users_of(b"foo:bar\r\nbaaaz:qu:ux\n").expect("two users");
        assert_eq!((&*users[0].name, &*users[0].password), (&b"foo"[..], &b"bar"[..]));
        assert_eq!((&*users[1].name, &*users[1].password), (&b"baaaz"[..], &b"qu:ux"[..]));
    }

    #[test]
    fn a_file_that_lets_nobody_in_is_refused() {
        for wrong in [&b""[..], b"\n\n", b"foo\n", b":x\n", b"a b:c\n", b"foo:\n"] {
            assert!(users_of(wrong).is_err(), "{wrong:?}");
        }
        assert!(users_of(&b"a:b\n".repeat(9)).is_err());
        assert!(users_of(&[b'a'; 300]).is_err());
    }
}
