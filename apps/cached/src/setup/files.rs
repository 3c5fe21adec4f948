//! `Files`: what the server has outside of itself while it runs, the files of `-P`, `-Y` and `--cluster`, and
//! the keeper of what only root may reach.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::User;

use super::error::SetupError;
use crate::announce::PidFile;
use crate::keeper::{Keeper, Kept};
use crate::options::{Options, cluster_text};
use crate::supervisor::channel::FileText;
use crate::user::{as_user, other};

/// The files that the server has. The PID file is removed when this is dropped.
pub(crate) struct Files {
    pid_file: Option<Arc<PidFile>>,
    /// The file of `-Y`, by its absolute path.
    users_file: Option<PathBuf>,
    /// The file of `--cluster`, by its absolute path.
    cluster_file: Option<PathBuf>,
    /// Reads the file of `-Y` and removes the PID file where this process may not; gives settings back after this process was
    /// killed.
    keeper: Option<Keeper>,
    /// The user of `-u`, with whose rights files are read again.
    user: Option<User>,
}

impl Files {
    /// Writes the PID file, and starts a keeper if settings of the interface `guarded` have been changed or the server will go
    /// on as another user. To be called with root's rights.
    ///
    /// # Errors
    /// A file cannot be written or found, or the keeper cannot be started.
    pub(crate) fn open(options: &Options, guarded: Option<&str>) -> Result<Files, SetupError> {
        let pid_file = options.pid_file.as_deref().map(PidFile::write).transpose();
        let pid_file = pid_file.map_err(SetupError::system("write the file of -P"))?;
        // A daemon leaves its working directory.
        let users_file = options.auth.as_ref().map(|(path, _)| std::path::absolute(path)).transpose();
        let users_file = users_file.map_err(SetupError::system("find the file of -Y"))?;
        let cluster_file = options.cluster.as_ref().map(|(path, _)| std::path::absolute(path)).transpose();
        let cluster_file = cluster_file.map_err(SetupError::system("find the file of --cluster"))?;
        let user = options.user.as_deref().and_then(other);
        let kept = |path: Option<&Path>| path.filter(|_| user.is_some()).map(Path::to_owned);
        let (pid, users) = (kept(pid_file.as_ref().map(PidFile::path)), kept(users_file.as_deref()));
        let kept = Kept { pid_file: pid, users, guarded: guarded.map(str::to_owned) };
        let keeper = (!kept.is_nothing()).then(|| Keeper::start(kept)).transpose();
        let keeper = keeper.map_err(SetupError::system("start the keeper of files and settings"))?;
        Ok(Files { pid_file: pid_file.map(Arc::new), users_file, cluster_file, keeper, user })
    }

    /// The PID file, for who ends the process without dropping what it holds.
    pub(crate) fn pid_file(&self) -> Option<Arc<PidFile>> {
        self.pid_file.clone()
    }

    /// Reads the file of `-Y` again; `None` without one.
    pub(crate) fn users(&mut self) -> Option<FileText<Vec<u8>>> {
        let path = self.users_file.clone()?;
        let text = match (self.read(|| std::fs::read(&path)), &mut self.keeper) {
            (Err(error), Some(keeper)) if error.kind() == io::ErrorKind::PermissionDenied => keeper.users(),
            (text, _) => text,
        };
        Some(text.map_err(|error| error.to_string()))
    }

    /// Reads the file of `--cluster` again, and when it was written; `None` without one.
    pub(crate) fn cluster(&self) -> Option<(u64, FileText<String>)> {
        let path = self.cluster_file.as_ref()?;
        Some(match self.read(|| cluster_text(path)) {
            Ok((text, written)) => (written, Ok(text)),
            Err(error) => (0, Err(error.to_string())),
        })
    }

    /// Reads with no more rights than the user of `-u` has, who may have put another file there.
    fn read<T: Send>(&self, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        match &self.user {
            Some(user) => as_user(user, act),
            None => act(),
        }
    }
}
