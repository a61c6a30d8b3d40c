import json
import os
import pathlib
import subprocess
import sys

import pytest

from tracecore.confinement import doctor, trials
from tracecore.confinement.layers import LAYERS, SWITCHED_OFF
from tracecore.confinement.readable import Reach
from tracecore.errors import OptionError
from tracecore.perf.prepare import plan_slice
from tracecore.perf.slice.options import RunOptions
from tracecore.records import Limits

SECURITY_PAGE = pathlib.Path(__file__).parent.parent.parent / "docs" / "security.md"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's")


@pytest.mark.parametrize("layer", sorted(trials.TRIALS))
def test_a_trial_fails_where_its_layer_is_off(layer: str) -> None:
    everything_off = Limits(layers_off=",".join(LAYERS))
    reach = Reach(os.path.dirname(os.__file__), (), (), (), ())
    if layer == "capabilities" and os.geteuid() != 0:
        pytest.skip("who is not root has none to give up")
    if layer == "mount_namespace" and not os.access("/", os.W_OK):
        pytest.skip("the root folder cannot be written anyway")
    status = trials.run_trial(trials.TRIALS[layer], everything_off, reach)
    assert not trials.was_stopped(status)


def test_every_layer_has_its_state_and_one_that_is_off_is_given_as_off() -> None:
    found = doctor.probe(Limits(layers_off="seccomp"))
    assert list(found) == list(LAYERS)
    assert found["audit_hook"] is found["own_session"] is found["resource_limits"] is True
    assert found["seccomp"] == SWITCHED_OFF
    assert set(doctor.probe(Limits(confinement="off")).values()) == {SWITCHED_OFF}


def test_the_documentation_has_the_same_layers_in_the_same_order() -> None:
    rows = [
        line.split("`")[1]
        for line in SECURITY_PAGE.read_text().splitlines()
        if line.startswith("| `")
    ]
    assert rows == list(LAYERS)


def test_without_the_kernel_it_is_called_a_guard_rail() -> None:
    text = doctor.as_text(
        {**dict.fromkeys(LAYERS, True), "landlock": "not available (Function not implemented)"}
    )
    assert "guard rail and no wall" in text
    assert "not available (Function not implemented)" in text
    assert "This is a wall" not in text


def test_the_command_gives_text_or_json() -> None:
    command = [sys.executable, "-m", "tracecore", "doctor"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    document = json.loads(
        subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout
    )
    assert list(document["layers"]) == list(LAYERS)
    assert all(layer in text for layer in LAYERS)


def test_a_slice_that_requires_confinement_does_not_run_without_a_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = {**dict.fromkeys(LAYERS, True), "seccomp": "not available (Invalid argument)"}
    monkeypatch.setattr(doctor, "probe", lambda *_args, **_named: state)
    with pytest.raises(OptionError, match=r"--confinement: .*seccomp: not available"):
        plan_slice(RunOptions(confinement="require"), check_here=True)
