"""Tests of jobs.submit without a cluster: what is submitted, what becomes of a name, what is refused in one line."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import submit
from pipeline.errors import UserError
from pipeline.submit import client
from pipeline.submit.client import Attempt, Cluster
from pipeline.submit.config import SubmitConfig
from tests.cluster import free_port

LINE = "python -m jobs.pack --input in"
NOWHERE = "http://127.0.0.1:1"


def attempt(number: int, status: str, *, line: str = LINE, exit_code: int | None = None) -> Attempt:
    return Attempt(client.attempt_id("nightly", number), number, line, status, exit_code)


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Return the one line that is printed about an unusable command line."""
    assert submit.main(argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


# --- what is submitted --------------------------------------------------------------------------------------------


@given(st.lists(st.text(st.characters(exclude_characters="\0"))))
def test_the_shell_sees_the_arguments_as_they_were_given(arguments: list[str]) -> None:
    assert shlex.split(client.entrypoint("pack", arguments)) == ["python", "-m", "jobs.pack", *arguments]


def test_only_named_variables_are_passed_on() -> None:
    environment = {"AWS_SECRET_ACCESS_KEY": "s3cret", "RAY_AUTH_TOKEN": "t0ken", "AWS_REGION": "eu", "HOME": "/root"}
    made = client.runtime_env(SubmitConfig(env=("AWS_REGION",), stop_wait_s=33), environment)
    assert made["env_vars"] == {"AWS_REGION": "eu", "RAY_JOB_STOP_WAIT_TIME_S": "33"}
    assert "s3cret" not in str(made)
    assert "t0ken" not in str(made)


def test_an_installed_transdomain_needs_no_upload() -> None:
    assert client.runtime_env(SubmitConfig(working_dir=""), {}).keys() == {"env_vars"}
    assert client.runtime_env(SubmitConfig(), {})["working_dir"] == "."


@pytest.mark.parametrize(
    ("given_address", "environment", "expected"),
    [
        ("", {}, "http://127.0.0.1:8265"),
        ("http://head:8265/", {"RAY_ADDRESS": "http://other:8265"}, "http://head:8265"),
        ("", {"RAY_ADDRESS": "http://other:8265"}, "http://other:8265"),
        ("", {"RAY_ADDRESS": "10.0.0.1:6379", "RAY_API_SERVER_ADDRESS": "https://api"}, "https://api"),
    ],
)
def test_the_option_is_before_the_environment(given_address: str, environment: dict[str, str], expected: str) -> None:
    assert client.dashboard_address(given_address, environment) == expected


def test_an_address_that_is_no_dashboard_is_refused() -> None:
    for given_address, environment in (("head:8265", {}), ("", {"RAY_ADDRESS": "10.0.0.1:6379"})):
        with pytest.raises(UserError, match=r"give --address http://HEAD:8265"):
            client.dashboard_address(given_address, environment)


def test_the_token_is_a_header() -> None:
    assert client.headers({"RAY_AUTH_TOKEN": "t0ken"}) == {"Authorization": "Bearer t0ken"}
    assert client.headers({"RAY_AUTH_TOKEN": "t0ken", "RAY_AUTH_MODE": "disabled"}) == {}
    assert client.headers({}) == {}


# --- what becomes of a name ---------------------------------------------------------------------------------------


@given(st.text("atemp.12", min_size=1), st.integers(1, 30))
def test_an_attempt_is_found_by_its_name(submission_id: str, number: int) -> None:
    assert client.attempt_number(submission_id, client.attempt_id(submission_id, number)) == number


@pytest.mark.parametrize(
    "name", ["nightly2", "nightly.2", "nightly.attempt", "nightly.attempt1", "nightly.attempt02", "nightl", "x.nightly"]
)
def test_other_names_are_no_attempts(name: str) -> None:
    assert client.attempt_number("nightly", name) is None


def test_a_failure_is_submitted_anew_and_a_success_is_not() -> None:
    assert client.next_attempt([], LINE) == 1
    assert client.next_attempt([attempt(1, "FAILED")], LINE) == 2
    assert client.next_attempt([attempt(10, "STOPPED"), attempt(9, "FAILED")], LINE) == 11
    for status in ("PENDING", "RUNNING", "SUCCEEDED"):
        newest = attempt(2, status)
        assert client.next_attempt([newest, attempt(1, "FAILED")], LINE) == newest


@pytest.mark.parametrize(("status", "state"), [("RUNNING", "runs"), ("SUCCEEDED", "has succeeded with")])
def test_another_command_under_the_same_name_is_refused(status: str, state: str) -> None:
    with pytest.raises(UserError, match=f"nightly {state} another command .*choose another --submission_id"):
        client.next_attempt([attempt(1, status)], LINE + " --seed 2")


def test_another_command_may_put_a_failure_right() -> None:
    assert client.next_attempt([attempt(1, "FAILED")], LINE + " --budget.share 0.1") == 2


@pytest.mark.parametrize(
    ("status", "driver", "expected"),
    [
        ("SUCCEEDED", 0, 0), ("FAILED", 3, 3), ("FAILED", 2, 2), ("FAILED", 130, 130), ("FAILED", -9, 137),
        ("FAILED", None, 1), ("STOPPED", None, 130),
    ],
)  # fmt: skip
def test_the_exit_code_is_the_jobs_own(status: str, driver: int | None, expected: int) -> None:
    assert client.exit_code(attempt(1, status, exit_code=driver)) == expected


class FakeClient:
    """Stand-in for Ray's client, on whose cluster somebody else makes the first attempt just before we do."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []

    def list_jobs(self) -> list[Any]:
        return self.jobs

    def submit_job(self, *, entrypoint: str, submission_id: str, runtime_env: dict[str, Any]) -> str:
        if not self.jobs:
            status = SimpleNamespace(value="RUNNING")
            others = {"submission_id": submission_id, "entrypoint": entrypoint, "status": status}
            self.jobs = [SimpleNamespace(**others, driver_exit_code=None, message=None)]
        raise RuntimeError(
            f"Request failed with status code 500: Job with submission_id {submission_id} already exists."
        )


def test_who_loses_the_race_for_an_attempt_follows_the_winners() -> None:
    cluster: Any = Cluster("http://head:8265", FakeClient())  # type: ignore[arg-type]
    found, fresh = client.submit(cluster, SubmitConfig(submission_id="nightly"), LINE, {})
    assert found == attempt(1, "RUNNING")
    assert not fresh


def test_a_head_that_has_only_just_started_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [RuntimeError("status code 500: No available agent to submit job, please try again later.."), None]

    def submit_job(**_: Any) -> str:
        if error := answers.pop(0):
            raise error
        return "raysubmit_1"

    monkeypatch.setattr(client, "_AGAIN_AFTER_S", 0.0)
    cluster: Any = Cluster("http://head:8265", SimpleNamespace(submit_job=submit_job))  # type: ignore[arg-type]
    assert client.submit(cluster, SubmitConfig(), LINE, {}) == (Attempt("raysubmit_1", 1, LINE, "PENDING"), True)


@given(st.lists(st.text(), max_size=6), st.integers(0, 20))
def test_a_log_that_is_told_again_is_written_once(parts: list[str], broken_after: int) -> None:
    written: list[str] = []
    passage = client.LogTail(written.append)
    passage.restart()
    for part in parts[:broken_after]:
        passage.add(part)
    passage.restart()
    passage.add("".join(parts))
    assert "".join(written) == "".join(parts)


# --- the command line ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "own", "job"),
    [
        ("pack --input in --no_wait", "", "pack --input in --no_wait"),
        ("--no_wait --debug pack", "--no_wait --debug", "pack"),
        ("--no-wait --env A --env=B --address http://h pack", "--no-wait --env A --env=B --address http://h", "pack"),
        ("--stop_wait_s 3 -- pack --help", "--stop_wait_s 3", "pack --help"),
        ("--help", "--help", ""),
        ("--address", "--address", ""),
    ],
)
def test_what_follows_the_jobs_name_is_the_jobs(line: str, own: str, job: str) -> None:
    assert submit.split_arguments(line.split()) == (own.split(), job.split())


def test_what_cannot_work_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    at = ("--address", f"http://127.0.0.1:{free_port()}")
    job = ("pack", "--input", "s3://x/in", "--output", "s3://x/out")
    assert "no Ray head can be reached there" in (directly := refused(capsys, *at, *job))
    assert "proxy" not in directly
    with monkeypatch.context() as behind:
        behind.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
        behind.delenv("no_proxy", raising=False)
        behind.delenv("NO_PROXY", raising=False)
        by_proxy = refused(capsys, *at, *job)
        assert "http_proxy is set, so a proxy was asked: where it is no way there, set no_proxy=127.0.0.1" in by_proxy
        behind.setenv("no_proxy", "127.0.0.1")
        assert "proxy" not in refused(capsys, *at, *job)
    assert "no job 'pakc' to submit; did you mean pack?" in refused(capsys, *at, "pakc", *job[1:])
    assert "no job 'submit' to submit" in refused(capsys, *at, "submit", *job)
    assert "name a job, as in" in refused(capsys, *at)
    assert "pack: unknown option --imput; did you mean --input?" in refused(capsys, *at, *job, "--imput", "x")
    assert "pack: split" in refused(capsys, *at, *job, "--split", "train", "0.5")
    assert "unknown option --adress; did you mean --address?" in refused(capsys, "--adress", at[1], *job)
    assert "--env NO_SUCH_NAME: there is no such variable" in refused(capsys, "--env", "NO_SUCH_NAME", *at, *job)
    assert "there is no such folder" in refused(capsys, "--working_dir", str(tmp_path / "none"), *at, *job)
    assert "stop_wait_s is 0" in refused(capsys, "--stop_wait_s", "0", *at, *job)
    assert "has a slash" in refused(capsys, "--submission_id", "a/b", *at, *job)


def test_configuration_files_are_those_of_the_working_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pack.yaml").write_text("input: s3://x/in\noutput: s3://x/out\nsedd: 1\n")
    command = ("--address", NOWHERE, "--working_dir", str(tmp_path), "pack", "--config", "pack.yaml")
    assert "pack.yaml: unknown key sedd; did you mean seed?" in refused(capsys, *command)


def test_a_configuration_file_may_name_several_variables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRST_NAME", "1")
    (tmp_path / "submit.yaml").write_text("env: [FIRST_NAME, SECOND_NAME]\n")
    command = ("--config", str(tmp_path / "submit.yaml"), "pack", "--input", "x", "--output", "y")
    assert "--env SECOND_NAME: there is no such variable" in refused(capsys, *command)


def test_help_of_a_job_needs_no_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        submit.main(["--address", NOWHERE, "verify", "--help"])
    assert ended.value.code == 0
    assert "jobs.verify" in capsys.readouterr().out
