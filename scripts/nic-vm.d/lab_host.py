"""A host as trial.py has them: the server's namespace of a lab. Asked from the client's namespace, where Python runs."""

import pathlib
import subprocess

from trial import HANG_SECONDS, TrialError


class LabHost:
    """Commands run in `namespace`, or, if there is none, in the one of this process."""

    def __init__(self, namespace, tools, folder):
        self.namespace, self.tools, self.folder = namespace, tools, str(folder)
        self.launcher = f"SIDESTEP_BIN={tools} SIDESTEP_STATE={folder}/state {pathlib.Path(__file__).parents[1]}/run-on-nic"
        self.prefix = ["ip", "netns", "exec", namespace] if namespace else []

    def run(self, command, check=True):
        """What a command says."""
        words = [*self.prefix, "bash", "-c", command]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=2 * HANG_SECONDS)
        if check and done.returncode != 0:
            raise TrialError(f"{command}: exit code {done.returncode}: {done.stdout}")
        return done.stdout.strip()

    def server_pids(self):
        """Of supervisor and data plane: what runs of our own program in the namespace that is the host's."""
        own = pathlib.Path("/proc/self/ns/net") if not self.namespace else pathlib.Path("/run/netns", self.namespace)
        program = pathlib.Path(self.tools, "sidestep-cached").resolve()
        pids = []
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if (process / "exe").resolve() == program and (process / "ns/net").samefile(own):
                    pids.append(int(process.name))
            except OSError:
                continue
        return pids
