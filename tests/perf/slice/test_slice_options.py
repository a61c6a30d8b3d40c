import pytest

from tracecore.command_line.options import fill, options_of, words_of
from tracecore.command_line.parser import Parser
from tracecore.errors import OptionError
from tracecore.perf.prepare import check_together
from tracecore.perf.slice.options import (
    ClusterOptions,
    JudgeOptions,
    OutputOptions,
    RunOptions,
    SliceOptions,
)

PARTS = (RunOptions, JudgeOptions, OutputOptions, ClusterOptions)
OTHER_VALUES = {
    "episodes": 3,
    "workers": 2,
    "seed": -3,
    "model_calls": "replay",
    "model_delay": "none",
    "timeout_s": 0.5,
    "memory_limit_bytes": 1 << 29,
    "message_limit_bytes": 1 << 16,
    "verify_determinism": 0,
    "sample_interval_s": 0.0,
    "start_method": "spawn",
    "confinement": "off",
    "keep_runs": "failed",
    "fsync": "batch",
    "gate_on": ("wall", "cpu"),
    "emit": ("bmf", "github-benchmark"),
    "address": "local:2",
    "artifacts": "node",
}


def another_value(name, one):
    if name in OTHER_VALUES:
        return OTHER_VALUES[name]
    if one.default is False:
        return True
    return ("one", "two") if one.default == () else "another"


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_what_a_printed_command_holds_is_read_as_it_was(part, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    parser = Parser("perf_harness.py", "")
    parser.set_defaults(do=None)
    parser.add_options(options_of(part))
    table = {name: one for name, one in options_of(part).items() if one.is_repeated}
    options = part(**{name: another_value(name, one) for name, one in table.items()})
    assert fill(part, parser.parse(words_of(options))) == options
    assert fill(part, parser.parse([])) == part()
    assert words_of(part()) == []


def test_no_two_options_share_a_flag_or_an_attribute_of_the_command_line():
    tables = [options_of(part) for part in PARTS]
    flags = [one.flag for table in tables for one in table.values()]
    names = [name for table in tables for name in table]
    assert len(flags) == len(set(flags))
    assert len(names) == len(set(names))


def test_a_dozen_options_are_for_every_day():
    everyday = [one.flag for part in PARTS for one in options_of(part).values() if one.is_everyday]
    assert 10 <= len(everyday) <= 16


def test_an_answer_is_required_of_a_comparison_alone():
    options = SliceOptions(judge=JudgeOptions(require_conclusive=True))
    with pytest.raises(OptionError, match="--require-conclusive: found 'no --baseline'"):
        check_together(options)
    check_together(SliceOptions())
