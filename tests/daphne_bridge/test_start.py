"""Tests of daphne_bridge.start: a command interrupted while it loads."""

import signal
import subprocess
import sys
from functools import partial

import pytest

from daphne_bridge.start import start

INTERRUPT = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT)"


def test_an_interrupt_while_loading_ends_with_130_and_one_word(tmp_path):
    (tmp_path / "slow_command.py").write_text(f"{INTERRUPT}; time.sleep(60)")
    code = "from daphne_bridge.start import start; start('slow_command')"
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.append({str(tmp_path)!r}); {code}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        # A test run in the background inherits interrupts that are ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")


def test_a_command_that_runs_is_interrupted_as_usual(tmp_path, monkeypatch):
    (tmp_path / "quick_command.py").write_text(f"def main():\n    {INTERRUPT}\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            start("quick_command")
    finally:
        signal.signal(signal.SIGINT, before)
