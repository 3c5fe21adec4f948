//! Files that say what the server is: its number (`-P`), and its ports (`MEMCACHED_PORT_FILENAME`).
//!
//! Both are whole when they appear: they are written under another name and moved. Whoever owns the folder may have put a
//! link under either name, so that no name is written to that was there before ([`new_file`]).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// The variable that names the file of ports, as memcached's `server_sockets` has it.
const PORT_FILE: &str = "MEMCACHED_PORT_FILENAME";

/// More than a number and a line end.
const LINE_MAX_BYTES: u64 = 32;

/// A file with a server's number. Removed when dropped, if it still says that number.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    server: u32,
}

impl PidFile {
    /// Writes the file, with this process's number.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(path: &Path) -> io::Result<PidFile> {
        // A daemon leaves its working directory.
        let file = PidFile::of(std::path::absolute(path)?, std::process::id());
        write_whole(&file.path, &format!("{}\n", file.server))?;
        Ok(file)
    }

    /// The file at the absolute `path` that `server` has written.
    pub fn of(path: PathBuf, server: u32) -> PidFile {
        PidFile { path, server }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it. For a process that ends without dropping what it holds.
    pub fn remove(&self) {
        // The next server may have written its own by now.
        if self.says().is_ok_and(|text| text == format!("{}\n", self.server)) {
            // With -u it may be in a folder of root's; its keeper removes it then.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// What it says, if it is a file: a pipe in its place would make whoever opens it wait.
    fn says(&self) -> io::Result<String> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::options().read(true).custom_flags(flags.bits() as i32).open(&self.path)?;
        let mut text = String::new();
        file.take(LINE_MAX_BYTES).read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Writes the ports where the environment asks for it, if it does.
///
/// # Errors
/// The file cannot be written.
pub fn write_ports(tcp: Option<u16>, udp: Option<u16>) -> io::Result<()> {
    let Some(path) = std::env::var_os(PORT_FILE) else { return Ok(()) };
    let line = |name, port: Option<u16>| port.map_or(String::new(), |port| format!("{name} INET: {port}\n"));
    let text = line("TCP", tcp) + &line("UDP", udp);
    write_whole(Path::new(&path), &text)
}

fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    new_file(Path::new(&unfinished), 0o666)?.write_all(text.as_bytes())?;
    fs::rename(&unfinished, path)
}

/// A new file at `path` with this mode, in place of what was there: a link there is removed, not followed.
///
/// # Errors
/// It cannot be made, or somebody puts something there at the same moment.
pub(crate) fn new_file(path: &Path, mode: u32) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // O_EXCL: what has appeared since, a link too, is an error (`open(2)`).
    File::options().write(true).create_new(true).mode(mode).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_there_while_the_server_is() {
        let path = std::env::temp_dir().join(format!("sidestep-pid-{}", std::process::id()));
        let file = PidFile::write(&path).expect("the folder can be written");
        let text = fs::read_to_string(&path).expect("it is there");
        assert_eq!(text.trim().parse(), Ok(std::process::id()));
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn the_file_of_another_server_stays() {
        let path = std::env::temp_dir().join(format!("sidestep-other-pid-{}", std::process::id()));
        let file = PidFile::write(&path).expect("the folder can be written");
        fs::write(&path, "1\n").expect("the folder can be written");
        drop(file);
        assert!(path.exists());
        fs::remove_file(path).expect("it is ours");
    }

    #[test]
    fn a_link_beside_the_file_is_not_written_through() {
        let folder = std::env::temp_dir().join(format!("sidestep-link-{}", std::process::id()));
        fs::create_dir(&folder).expect("the folder can be written");
        let (precious, path) = (folder.join("precious"), folder.join("pid"));
        fs::write(&precious, "as it was").expect("the folder can be written");
        for link in ["pid.new", "pid"] {
            std::os::unix::fs::symlink(&precious, folder.join(link)).expect("the folder can be written");
        }
        let file = PidFile::write(&path).expect("the links are no obstacle");
        assert_eq!(fs::read_to_string(&precious).expect("it is there"), "as it was");
        assert!(fs::symlink_metadata(&path).expect("it is there").is_file());
        drop(file);
        assert!(!path.exists() && precious.exists());
        fs::remove_dir_all(folder).expect("it is ours");
    }
}
