//! Compiles the XDP program with clang into `$OUT_DIR/steer.bpf.o`, which `src/xdp/program.rs` embeds.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const SOURCE: &str = "bpf/steer.bpf.c";
/// What is part of it.
const FOLDER: &str = "bpf";
const PACKAGES: &str = "apt-get install clang libbpf-dev linux-libc-dev";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed={FOLDER}");
    println!("cargo::rerun-if-env-changed=CLANG");
    let Some(out_dir) = env::var_os("OUT_DIR") else {
        println!("cargo::error=OUT_DIR is not set; build with cargo");
        return ExitCode::FAILURE;
    };
    let object = PathBuf::from(out_dir).join("steer.bpf.o");
    match compile(&object) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            for line in reason.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Runs clang. `-g` is needed: the maps are described by BTF, which clang writes with the debug information.
fn compile(object: &std::path::Path) -> Result<(), String> {
    let clang = env::var_os("CLANG").unwrap_or_else(|| "clang".into());
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let output = Command::new(&clang)
        // Headers are read and written as words too.
        .args(["-target", "bpf", "-O2", "-g", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror"])
        // Debian keeps <asm/types.h> in the directory of the machine, which clang does not search for `-target bpf`.
        .arg(format!("-I/usr/include/{arch}-linux-gnu"))
        .args(["-c", SOURCE, "-o"])
        .arg(object)
        .output()
        .map_err(|error| {
            format!("cannot run {} to compile nic/{SOURCE}: {error}; install it: {PACKAGES}", clang.display())
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let hint = if said.contains("file not found") {
        format!("a header of the system is missing; install it: {PACKAGES}")
    } else {
        "the XDP program does not compile".to_owned()
    };
    Err(format!("{} failed on nic/{SOURCE}: {hint}\n{said}", clang.display()))
}
