//! Giving back what was left behind, by files written here: of an interface that is gone, by processes that have ended.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};

use super::*;

/// A folder with a file for each of these processes; removed when dropped.
struct Left(PathBuf);

impl Left {
    fn by(name: &str, pids: &[u32]) -> Self {
        let left = Self(std::env::temp_dir().join(format!("sidestep-left-{name}-{}", std::process::id())));
        std::fs::DirBuilder::new().mode(0o700).create(&left.0).expect("it can be made");
        let namespace = std::fs::metadata("/proc/thread-self/ns/net").expect("/proc is there").ino();
        for pid in pids {
            // No process has been started at tick 1 but the kernel's own.
            let text = format!(
                "interface = \"eth7\"\nindex = 2147483632\nsince = {pid}\n[owner]\npid = {pid}\nstarted = 1\n\
                 [[settings]]\nsetting = \"mtu\"\nbefore = \"1500\"\nset = \"1400\"\n"
            );
            let path = left.0.join(format!("eth7.{namespace}.{pid}.toml"));
            let mut file =
                std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).expect("new");
            file.write_all(text.as_bytes()).expect("it can be written");
        }
        left
    }

    fn files(&self) -> usize {
        std::fs::read_dir(&self.0).expect("it is there").count()
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An output whose reader has gone.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::BrokenPipe))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn all_of_it_is_given_back_though_nobody_reads_what_is_said() {
    let left = Left::by("gone", &[4_000_001, 4_000_002]);
    let error = restore("eth7", None, &left.0, &mut Gone).expect_err("nobody reads").to_string();
    assert!(error.starts_with("cannot say what is done"), "{error}");
    assert_eq!(left.files(), 0);
    let mut said = Vec::new();
    restore("eth7", None, &left.0, &mut said).expect("nothing is left");
    assert_eq!(said, b"eth7: nothing was changed, or all of it is as it was\n");
}

#[test]
fn the_interface_of_another_name_is_left_alone() {
    let left = Left::by("name", &[4_000_001]);
    restore("eth", None, &left.0, &mut Vec::new()).expect("nothing of that name");
    assert_eq!(left.files(), 1);
    let mut said = Vec::new();
    restore("eth7", None, &left.0, &mut said).expect("it is given back");
    assert_eq!(String::from_utf8_lossy(&said), "eth7: interface eth7 is gone, and its settings with it\n");
}
