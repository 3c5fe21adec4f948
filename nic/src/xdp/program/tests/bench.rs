//! `Bench`: the program on which a test tries frames, run by the kernel (`BPF_PROG_TEST_RUN`) or without it.

use std::os::fd::{AsRawFd, OwnedFd};

use aya::programs::{TestRun, TestRunOptions};
use rustix::net::{AddressFamily, SocketType};

use super::super::*;
use super::interpreter::Interpreter;

/// `AF_XDP` (`linux/socket.h`).
const AF_XDP: u16 = 44;

/// The program, and who runs it.
#[derive(Debug)]
pub(super) enum Bench {
    /// The kernel, with a socket that is bound to nothing.
    Kernel { steering: Box<SteeringProgram>, _socket: OwnedFd },
    /// This process.
    Interpreter(Box<Interpreter>),
}

/// Both benches, with a socket for queue 0 if `with_socket`; without root, which is said on stderr, only the second. The
/// program is that which is given merged frames, if `merged`.
pub(super) fn benches(with_socket: bool, merged: bool) -> Vec<Bench> {
    let mut interpreter = Interpreter::load(OBJECT, if merged { "steer_frags" } else { "steer_whole" });
    if with_socket {
        interpreter.set_socket(0);
    }
    let mut benches = vec![Bench::Interpreter(Box::new(interpreter))];
    if !rustix::process::geteuid().is_root() {
        eprintln!("without the kernel: needs root");
        return benches;
    }
    let socket = rustix::net::socket(AddressFamily::from_raw(AF_XDP), SocketType::RAW, None).unwrap();
    let mut steering = SteeringProgram::load(1, merged).unwrap();
    if with_socket {
        steering.set_socket(0, socket.as_raw_fd()).unwrap();
    }
    benches.push(Bench::Kernel { steering: Box::new(steering), _socket: socket });
    benches
}

impl Bench {
    pub(super) fn set_address(&mut self, address: impl Into<IpAddr>, mode: AddressMode) {
        let address = address.into();
        match self {
            Self::Kernel { steering, .. } => steering.set_address(address, mode).unwrap(),
            Self::Interpreter(run) => run.set("addresses", &bytes_of(address), mode.value().into()),
        }
    }

    /// Returns whether the address was there.
    pub(super) fn remove_address(&mut self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        match self {
            Self::Kernel { steering, .. } => steering.remove_address(address).is_ok(),
            Self::Interpreter(run) => run.remove("addresses", &bytes_of(address)),
        }
    }

    pub(super) fn open_port(&mut self, transport: Transport, port: u16) {
        match self {
            Self::Kernel { steering, .. } => steering.open_port(transport, port).unwrap(),
            Self::Interpreter(run) => run.set("ports", &port_key(transport, port), 1),
        }
    }

    pub(super) fn close_port(&mut self, transport: Transport, port: u16) {
        match self {
            Self::Kernel { steering, .. } => steering.close_port(transport, port).unwrap(),
            Self::Interpreter(run) => assert!(run.remove("ports", &port_key(transport, port))),
        }
    }

    pub(super) fn allow(&mut self, networks: &[(IpAddr, u8)]) {
        let run = match self {
            Self::Kernel { steering, .. } => return steering.allow(networks).unwrap(),
            Self::Interpreter(run) => run,
        };
        for &(address, prefix_len) in networks {
            let bits = prefix_bits(address, prefix_len);
            run.set("allowed", &[&bits.to_ne_bytes()[..], &bytes_of(address)].concat(), 1);
        }
        self.set(ALLOW_LISTED, !networks.is_empty());
    }

    pub(super) fn set_dedicated(&mut self, dedicated: bool) {
        match self {
            Self::Kernel { steering, .. } => steering.set_dedicated(dedicated).unwrap(),
            Self::Interpreter(_) => self.set(DEDICATED, dedicated),
        }
    }

    pub(super) fn set_vlan(&mut self, vlan: u16) {
        match self {
            Self::Kernel { steering, .. } => steering.set_vlan(Some(vlan)).unwrap(),
            Self::Interpreter(_) => self.set(u32::from(vlan) << VLAN_SHIFT, true),
        }
    }

    fn set(&mut self, setting: u32, on: bool) {
        let Self::Interpreter(run) = self else { return };
        let before = run.get("settings", &0u32.to_ne_bytes()).unwrap() as u32;
        run.set("settings", &0u32.to_ne_bytes(), u64::from(if on { before | setting } else { before & !setting }));
    }

    pub(super) fn set_nobody(&mut self, nobody: bool) {
        match self {
            Self::Kernel { steering, .. } => steering.set(NOBODY, nobody).unwrap(),
            Self::Interpreter(_) => self.set(NOBODY, nobody),
        }
    }

    pub(super) fn set_answer_by_redirect(&mut self) {
        match self {
            Self::Kernel { steering, .. } => steering.set_answer_by_redirect(true).unwrap(),
            Self::Interpreter(_) => self.set(ANSWER_BY_REDIRECT, true),
        }
    }

    pub(super) fn set_station(&mut self, mac: Mac) {
        match self {
            Self::Kernel { steering, .. } => steering.set_station(mac).unwrap(),
            Self::Interpreter(run) => {
                run.set("station", &0u32.to_ne_bytes(), u64::from_ne_bytes(station_of(mac)));
            }
        }
    }

    /// What the program says of a frame.
    pub(super) fn verdict(&mut self, frame: &[u8]) -> u32 {
        self.answer(frame).0
    }

    /// What the program says of a frame, and makes of it.
    pub(super) fn answer(&mut self, frame: &[u8]) -> (u32, Vec<u8>) {
        match self {
            Self::Kernel { steering, .. } => {
                let program = steer(&mut steering.program, steering.name).unwrap();
                let mut made = vec![0; frame.len()];
                let mut options = TestRunOptions::new();
                options.data_in = Some(frame);
                options.data_out = Some(&mut made);
                let result = program.test_run(options).unwrap();
                made.truncate(result.data_size_out as usize);
                (result.return_value, made)
            }
            Self::Interpreter(run) => run.run(frame),
        }
    }

    pub(super) fn counters(&self) -> SteerCounters {
        let run = match self {
            Self::Kernel { steering, .. } => return steering.counters().unwrap(),
            Self::Interpreter(run) => run,
        };
        let of = |index: u32| run.get("counters", &index.to_ne_bytes()).unwrap();
        SteerCounters::of(std::array::from_fn(|index| of(index as u32)))
    }
}
