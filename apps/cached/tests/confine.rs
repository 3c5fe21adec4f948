//! What a thread of the data plane may still ask of the kernel, by the very function that confines it. A program of its own, so
//! that no other test ever runs under its filters.

use std::fs::File;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::Command;

use sidestep_cached::confine::{Role, restrict};

/// On a thread of its own, which is confined and ends.
fn confined<T: Send>(role: Role, act: impl FnOnce() -> T + Send) -> T {
    let body = || {
        rustix::thread::set_no_new_privs(true).expect("it is always allowed");
        restrict(role).expect("this kernel has seccomp filters");
        act()
    };
    std::thread::scope(|scope| scope.spawn(body).join()).expect("it does not panic")
}

#[test]
fn no_thread_opens_a_file_or_a_socket_or_starts_a_program() {
    for role in [Role::Core, Role::PollingCore, Role::Main, Role::Ear, Role::Memory, Role::Control, Role::Capture] {
        let errors = confined(role, || {
            [
                File::open("/proc/self/stat").map(drop),
                File::create("/tmp/sidestep-confined").map(drop),
                std::fs::read_dir("/").map(drop),
                std::fs::remove_file("/tmp/sidestep-confined"),
                TcpListener::bind("127.0.0.1:0").map(drop),
                UdpSocket::bind("127.0.0.1:0").map(drop),
                UnixStream::connect("/run/nobody").map(drop),
                UnixStream::pair().map(drop),
                Command::new("/bin/true").spawn().map(drop),
                std::thread::Builder::new().spawn(|| ()).map(drop),
            ]
            .map(|outcome| outcome.map_err(|error| error.kind()))
        });
        for (number, outcome) in errors.into_iter().enumerate() {
            assert_eq!(outcome, Err(io::ErrorKind::PermissionDenied), "{role:?}, attempt {number}");
        }
    }
}

#[test]
fn a_confined_core_has_memory_locks_and_a_panic_that_is_said() {
    let (allocated, caught) = confined(Role::Core, || {
        let pages: Vec<u8> = vec![1; 64 << 20];
        let lock = std::sync::Mutex::new(pages.len());
        let caught = std::panic::catch_unwind(|| panic!("as a core may"));
        (*lock.lock().expect("nobody has it"), caught.is_err())
    });
    assert_eq!((allocated, caught), (64 << 20, true));
}
