//! `-u`: root's rights given up once everything is open.
//!
//! What needs them is done by then: the AF_XDP sockets, the maps and the program's link are descriptors, which stay
//! usable, and closing the link detaches the program whoever closes it. The server can no longer start itself again as
//! root, nor read and write files that only root may; the keeper (`keeper.rs`) does so for it.

use nix::unistd::{Uid, User, setgid, setgroups, setuid};

use crate::options::OptionError;

/// Whether [`become_user`] will change anything.
pub fn is_other(name: &str) -> bool {
    matches!(User::from_name(name), Ok(Some(user)) if user.uid != Uid::effective())
}

/// Goes on as `name`, if this process is root and `name` is not.
///
/// # Errors
/// There is no such user, this process is not root, or the kernel refused.
pub fn become_user(name: &str) -> Result<(), OptionError> {
    let wrong = |why| OptionError::User { value: name.to_owned(), why };
    let user = match User::from_name(name) {
        Ok(Some(user)) => user,
        Ok(None) => return Err(wrong("there is no such user; name one of the password database")),
        Err(_) => return Err(wrong("the password database cannot be read")),
    };
    if user.uid == Uid::effective() {
        return Ok(());
    }
    if !Uid::effective().is_root() {
        return Err(wrong("only root can become another user; start as root, or leave -u out"));
    }
    let became = setgroups(&[user.gid]).and_then(|()| setgid(user.gid)).and_then(|()| setuid(user.uid));
    became.map_err(|_| wrong("the kernel refused to change to this user"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_that_is_not_there_is_refused_and_ones_own_name_changes_nothing() {
        let error = become_user("no-such-user-of-sidestep").expect_err("there is none").to_string();
        assert!(error.starts_with("-u no-such-user-of-sidestep: there is no such user"), "{error}");
        let own = User::from_uid(Uid::effective()).ok().flatten().expect("this process has a user");
        assert_eq!(become_user(&own.name), Ok(()));
        assert!(!is_other(&own.name) && !is_other("no-such-user-of-sidestep"));
    }
}
