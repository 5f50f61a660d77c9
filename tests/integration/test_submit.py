"""Submission to a real cluster of one node that asks for a token, as `ray start --head` makes it."""

from __future__ import annotations

import io
import re
import signal
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pipeline import storage
from tests import corpus
from tests.chaos.child import run as run_in_the_loop
from tests.chaos.driver import Driver
from tests.chaos.ground import assert_same, crash_at
from tests.cluster import head, ray_job

TOKEN = "a-token-that-nobody-may-read"
LETS_IN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with head(2, LETS_IN) as address:
        yield address


def client(address: str, log: Path, arguments: Sequence[str], environment: dict[str, str] = LETS_IN) -> Driver:
    return Driver("submit", ["--address", address, *arguments], log, environment)


def submit(address: str, log: Path, *arguments: str, environment: dict[str, str] = LETS_IN) -> tuple[int, str]:
    """Run jobs.submit; return the exit code and all that was printed."""
    log.unlink(missing_ok=True)
    with client(address, log, arguments, environment) as process:
        return process.wait(), log.read_text()


def jobs(address: str) -> str:
    """Return what Ray reports about all its jobs to everybody who has the token."""
    request = urllib.request.Request(f"{address}/api/jobs/", headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request) as answer:
        return io.TextIOWrapper(answer).read()


def test_without_the_right_token_one_line_says_so(cluster: str, tmp_path: Path) -> None:
    job = ("verify", "--input", str(tmp_path))
    for environment, why in (
        ({"RAY_AUTH_TOKEN": "wrong"}, "the token in RAY_AUTH_TOKEN is not that of this cluster"),
        ({"RAY_AUTH_TOKEN": ""}, "this cluster asks for a token; set RAY_AUTH_TOKEN to it"),
    ):
        code, said = submit(cluster, tmp_path / "log", *job, environment={"RAY_AUTH_MODE": "token"} | environment)
        assert (code, said) == (2, f"submit: {cluster}: {why}\n")


def test_the_exit_code_is_the_jobs_own_and_its_log_is_readable(cluster: str, tmp_path: Path) -> None:
    source = corpus.write_folder(str(tmp_path / "in"), 9)
    pack = ("pack", "--input", source, "--output", str(tmp_path / "out with a space"), "--budget.after_rows", "1")
    secret = {**LETS_IN, "AWS_SECRET_ACCESS_KEY": "nobody-may-read-this-either", "PASSED_ON": "to-be-seen"}
    code, said = submit(cluster, tmp_path / "log", "--env", "PASSED_ON", *pack, environment=secret)
    assert code == 3, said
    assert "pack: stopped: 3 of 12 images were quarantined, more than the error budget bears" in said
    assert "\x1b" not in said
    assert "Traceback" not in said
    told = jobs(cluster)
    assert "to-be-seen" in told
    assert TOKEN not in told + said
    assert secret["AWS_SECRET_ACCESS_KEY"] not in told + said


@pytest.mark.long
def test_a_relative_path_is_refused_by_the_job(cluster: str, tmp_path: Path) -> None:
    code, said = submit(cluster, tmp_path / "log", "pack", "--input", "relative", "--output", str(tmp_path / "out"))
    assert code == 2
    assert "pack: relative: a relative path, and a submitted job runs in a copy" in said


@pytest.mark.long
def test_a_submission_is_detached_from_joined_stopped_and_made_again(cluster: str, tmp_path: Path) -> None:
    source, bundle = corpus.write_folder(str(tmp_path / "in"), 9), corpus.write_bundle(str(tmp_path / "bundle"))
    output, token = str(tmp_path / "out"), tmp_path / "token"
    job = ["--input", source, "--bundle", bundle, "--limits.rows", "4", "--resources.threads", "1"]
    held = crash_at("hold:before data", token)
    command = ["--submission_id", "night", "--env", "TRANSDOMAIN_CRASH", "--env", "TRANSDOMAIN_CRASH_TOKEN"]
    command += ["translate", *job, "--output", output]
    first, second = tmp_path / "first", tmp_path / "second"

    with client(cluster, first, command, LETS_IN | held) as process:
        assert process.wait_for(token.exists), first.read_text()
        process.signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert "submit: detached, night goes on; to follow it: ray job logs --follow night" in first.read_text()

    with client(cluster, second, command, LETS_IN | held) as process:
        assert process.wait_for(lambda: "Running entrypoint" in second.read_text())
        assert "night runs already on" in second.read_text()
        stopped = ray_job(cluster, "stop", "night", folder=str(tmp_path), environment=LETS_IN)
        assert stopped.returncode == 0, stopped.stderr
        assert process.wait(30) == 130
    said = second.read_text()
    assert re.search(r"translate: interrupted; the same command goes on from here: transdomain submit translate ", said)
    assert "submit: night stopped, exit code 130" in said
    assert not storage.exists(f"{output}/_SUCCESS")

    code, said = submit(cluster, second, *command, environment=LETS_IN | held)
    assert code == 0, said
    assert "submit: night.attempt2 submitted to" in said
    assert f"{output}: complete: 9 ok, 3 quarantined of 12 inputs" in said
    assert submit(cluster, second, *command, environment=LETS_IN | held) == (
        0,
        "night.attempt2: has succeeded already, nothing to do\n",
    )
    clean = str(tmp_path / "clean")
    assert run_in_the_loop("translate", [*job, "--output", clean, "--local"], {}) == 0
    assert_same(corpus.contents(output), corpus.contents(clean))
