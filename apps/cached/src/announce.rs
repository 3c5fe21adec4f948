//! Files that say what the server is: its number (`-P`), and its ports (`MEMCACHED_PORT_FILENAME`).
//!
//! Both are whole when they appear: they are written under another name and moved.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The variable that names the file of ports, as memcached's `server_sockets` has it.
const PORT_FILE: &str = "MEMCACHED_PORT_FILENAME";

/// A file with this process's number. Removed when dropped.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(path: &Path) -> io::Result<PidFile> {
        // A daemon leaves its working directory.
        let path = std::path::absolute(path)?;
        write_whole(&path, &format!("{}\n", std::process::id()))?;
        Ok(PidFile(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // With -u it may be another's folder by now.
        let _ = fs::remove_file(&self.0);
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
    fs::write(&unfinished, text)?;
    fs::rename(&unfinished, path)
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
}
