"""A virtual machine whose console is a pipe: commands go in, what they say and how they ended comes out."""

import os
import re
import select
import subprocess
import time

from trial import TrialError

READY = b"SIDESTEP-VM-READY"


class VmError(TrialError):
    """The machine did not do what it was asked to."""


class Vm:
    """QEMU with the devices given, running until closed. A host as trial.py has them."""

    launcher, folder = "run-on-nic", "/tmp"

    def __init__(self, folder, devices):
        unpacked = f"{folder}/qemu"
        libraries = ":".join(f"{unpacked}/{place}/x86_64-linux-gnu" for place in ("usr/lib", "lib"))
        firmware = [f"{unpacked}/usr/share/{name}" for name in ("qemu", "seabios")]
        command = [f"{unpacked}/usr/bin/qemu-system-x86_64", *(word for path in firmware for word in ("-L", path))]
        # Software emulation: what is tried is the drivers, not how fast they are.
        command += ["-M", "q35", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", "1024"]
        command += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"]
        command += ["-kernel", f"{folder}/vmlinuz", "-initrd", f"{folder}/initramfs.gz"]
        # The kernel looks for a broken timer in a moment in which, on a busy machine, this process does not run at all.
        command += ["-append", "console=ttyS0 quiet rdinit=/init panic=-1 no_timer_check"]
        self.process = subprocess.Popen(
            [*command, *devices],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LD_LIBRARY_PATH": libraries},
        )
        self.said = b""
        self.number = 0

    def until(self, pattern, limit):
        """What is said from here on, up to what this pattern finds; that as well."""
        deadline, text = time.monotonic() + limit, b""
        # All that was said, since a read may end anywhere.
        while not (found := re.search(pattern, text)):
            if time.monotonic() > deadline:
                raise VmError(f"waited {limit} s for {pattern}: {text[-4000:].decode(errors='replace')}")
            if select.select([self.process.stdout], [], [], 1)[0]:
                part = os.read(self.process.stdout.fileno(), 65536)
                if not part:
                    raise VmError(f"the machine has ended: {(self.said + text)[-4000:].decode(errors='replace')}")
                text += part
        self.said += text
        return text.decode(errors="replace").replace("\r", ""), found

    def boot(self, limit=400):
        """Returns once it takes commands."""
        self.until(READY, limit)
        self.run("PS1=; PS2=")

    def run(self, command, limit=300, check=True):
        """What a command says; an error when it fails, unless that is fine."""
        self.number += 1
        # The words that end it are not in the command, whose echo would end it at once.
        self.process.stdin.write(f"{command}\necho END-''{self.number}-$?-END\n".encode())
        self.process.stdin.flush()
        text, end = self.until(rf"END-{self.number}-(\d+)-END".encode(), limit)
        said = text[: text.rindex(f"END-{self.number}-")].strip()
        if check and end[1] != b"0":
            raise VmError(f"{command}: exit code {int(end[1])}: {said}")
        return said

    def server_pids(self):
        """Of supervisor and data plane."""
        return self.run("pidof sidestep-cached", check=False).split()

    def close(self):
        """Ends it at once."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
