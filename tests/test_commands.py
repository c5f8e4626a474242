"""The errors a newcomer meets are one clear sentence that says what to do."""

import os
import shutil
import socket
import subprocess
import sys

import pytest

from qa_lab.claims.notebooks import ROOT


def run(*command: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_an_unknown_question_is_named_with_those_there_are():
    done = run(sys.executable, "-m", "qa_lab.claims", "prove", "why-scales", cwd=ROOT)
    assert done.returncode == 1
    assert "No notebook is called “why-scales”. There are: " in done.stderr
    assert "why-scale" in done.stderr


def test_a_port_in_use_is_said_with_another_to_take():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run(sys.executable, "-m", "qa_lab.guide.serve", "--port", str(port), cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr == f"Port {port} is in use. Choose another: make site PORT={port + 1}\n"


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_a_python_that_is_too_old_is_said_with_what_is_needed(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "python-old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = run("make", "test", f"PYTHON={old}", cwd=tmp_path, env=os.environ | {"MAKEFLAGS": ""})
    assert done.returncode == 2
    assert "QA Lab needs Python 3.11 or newer" in done.stderr
    assert "Python 3.9.2. Name one: make PYTHON=" in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_help_is_what_make_says_by_itself():
    done = run("make", "-s", cwd=ROOT)
    for command in ("site", "test", "prove", "record", "fix", "help"):
        assert f"make {command} " in done.stdout
