//! `-u`: who the data plane becomes once everything is open.
//!
//! What needs root's rights is done by then: the AF_XDP sockets, the maps and the program's link are descriptors, which
//! stay usable, and closing the link detaches the program whoever closes it. The supervisor stays root's, and reads files
//! that were named by whoever started it with no more rights than that user has.

use std::io;
use std::thread;

use nix::unistd::{Uid, User};
use rustix::process::{Gid as ThreadGid, Uid as ThreadUid};

use crate::options::OptionError;

/// The user of this name, if this process is root and can become it, or is it already.
///
/// # Errors
/// There is no such user, or this process is not root.
pub fn user_named(name: &str) -> Result<User, OptionError> {
    let wrong = |why| OptionError::User { value: name.to_owned(), why };
    let user = match User::from_name(name) {
        Ok(Some(user)) => user,
        Ok(None) => return Err(wrong("there is no such user; name one of the password database")),
        Err(_) => return Err(wrong("the password database cannot be read")),
    };
    if user.uid != Uid::effective() && !Uid::effective().is_root() {
        return Err(wrong("only root can become another user; start as root, or leave -u out"));
    }
    Ok(user)
}

/// Does something, on a thread of its own, with no more rights than `user` has.
///
/// # Errors
/// The kernel refused, or what `act` says.
pub fn as_user<T: Send>(user: &User, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let (uid, gid) = (ThreadUid::from_raw(user.uid.as_raw()), ThreadGid::from_raw(user.gid.as_raw()));
    let body = || {
        rustix::thread::set_thread_groups(&[gid])?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        act()
    };
    thread::scope(|scope| scope.spawn(body).join()).unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))
}

/// The user that the server is to go on as, if it is another than this process's.
pub fn other(name: &str) -> Option<User> {
    User::from_name(name).ok().flatten().filter(|user| user.uid != Uid::effective())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_that_is_not_there_is_refused_and_ones_own_name_changes_nothing() {
        let error = user_named("no-such-user-of-sidestep").expect_err("there is none").to_string();
        assert!(error.starts_with("-u no-such-user-of-sidestep: there is no such user"), "{error}");
        let own = User::from_uid(Uid::effective()).ok().flatten().expect("this process has a user");
        assert_eq!(user_named(&own.name).expect("it is there").uid, own.uid);
        assert!(other(&own.name).is_none() && other("no-such-user-of-sidestep").is_none());
    }

    #[test]
    fn what_is_done_as_another_user_has_that_users_rights_and_leaves_ones_own() {
        let Some(nobody) = other("nobody").filter(|_| Uid::effective().is_root()) else { return };
        let uid = as_user(&nobody, || Ok(rustix::process::geteuid().as_raw())).expect("root may");
        assert_eq!((uid, Uid::effective().as_raw()), (nobody.uid.as_raw(), 0));
    }
}
