"""The unit for systemd, read by systemd itself, which need not run for that."""

import pathlib
import subprocess

from conftest import HANG_SECONDS, only_sidestep

INSTALLED = "/usr/local/lib/sidestep/"


@only_sidestep
def test_the_unit_is_understood_by_systemd_without_a_word(tmp_path):
    unit = pathlib.Path("scripts/systemd/sidestep-cached@.service").read_text(encoding="utf-8")
    assert unit.count(INSTALLED + "run-on-nic") == 2
    # Nothing is installed here; systemd looks whether what it starts is there.
    here = str(pathlib.Path("scripts").resolve()) + "/"
    (tmp_path / "sidestep-cached@.service").write_text(unit.replace(INSTALLED + "run-on-nic", here + "run-on-nic"), encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "sidestep-cached@eth1.service")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS)
    # Of other units of this machine it may have something to say.
    assert "sidestep" not in said.stdout + said.stderr, said


@only_sidestep
def test_a_mistake_in_the_unit_is_found(tmp_path):
    unit = pathlib.Path("scripts/systemd/sidestep-cached@.service").read_text(encoding="utf-8")
    (tmp_path / "sidestep-cached@.service").write_text(unit.replace("KillMode=mixed", "KillMode=most"), encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "sidestep-cached@eth1.service")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert "most" in said.stderr, said
