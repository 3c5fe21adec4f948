//! `Holder`: a test binary again, in another role, so that a process can be killed while it holds something.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::lab::Lab;

/// This test binary, run again for one test; killed when dropped.
pub struct Holder(pub Child);

impl Holder {
    /// Runs `test` in a process of its own, which finds the lab's name in the environment as `role`, and waits until that
    /// prints a line that begins with "holding".
    pub fn start(lab: &Lab, role: &str, test: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", test, "--nocapture"])
            .env(role, lab.name())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = child.stdout.take().expect("piped");
        let holder = Self(child);
        let said = BufReader::new(output).lines().map_while(Result::ok).any(|line| line.starts_with("holding"));
        assert!(said, "{test}: the other process ended before it held anything");
        holder
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Fails when it was killed before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
