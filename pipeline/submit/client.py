"""Submit a job's command line to Ray, follow the job, and pass on its exit code.

Notable points:

- A submission has one name and as many attempts as it takes: ID, then ID.attempt2 and so on. Ray never accepts a name
  twice (to reuse one after deleting its record is not supported). So where two clients make the same attempt at once,
  one is refused and follows the other.
- A log whose connection breaks continues where it broke.
- The token is sent in the header of each request, and is no part of what is submitted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import shlex
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.errors import UserError
from pipeline.submit.config import SubmitConfig

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"

STOPPED = 130
"""Exit code for a stopped job: Ray records none."""

_EXCLUDES = [".git", ".venv", "venv", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"]
_ANSWER_WITHIN_S, _PATIENCE_S, _AGAIN_AFTER_S = 20.0, 60.0, 1.0
_RUNNING, _ENDED = ("PENDING", "RUNNING"), ("SUCCEEDED", "FAILED", "STOPPED")


class LostError(Exception):
    """Loss of the head, which no longer answers; the job may still run."""


class Attempt(NamedTuple):
    """One submission of a job, as Ray records it."""

    id: str
    number: int
    """Number of the attempt, from 1."""
    entrypoint: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    exit_code: int | None = None
    """Exit code of the job's driver; None where it was stopped, was killed with its node, or has not ended."""
    message: str = ""


class Cluster(NamedTuple):
    """Ray head that has answered, and a client of it."""

    address: str
    client: JobSubmissionClient


# --- what is submitted: plain data --------------------------------------------------------------------------------


def entrypoint(name: str, arguments: Sequence[str]) -> str:
    """Return the shell line that runs the job, with `arguments` quoted."""
    return shlex.join(["python", "-m", f"jobs.{name}", *arguments])


def runtime_env(config: SubmitConfig, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return Ray's runtime environment for the job. Raises UserError where a variable or the folder is missing.

    The actor that stops the job runs in the same environment, so the waiting time reaches it.
    """
    missing = [name for name in config.env if name not in environment]
    if missing:
        raise UserError(f"--env {missing[0]}: there is no such variable in the environment; export it or leave it out")
    variables = {name: environment[name] for name in config.env}
    made: dict[str, Any] = {"env_vars": variables | {"RAY_JOB_STOP_WAIT_TIME_S": str(config.stop_wait_s)}}
    if config.working_dir:
        if not is_remote(config.working_dir) and not os.path.isdir(config.working_dir):
            raise UserError(f"--working_dir {config.working_dir}: there is no such folder")
        made |= {"working_dir": config.working_dir, "excludes": _EXCLUDES}
    return made


def is_remote(working_dir: str) -> bool:
    """Return True where the nodes fetch the working directory themselves."""
    return "://" in working_dir


def dashboard_address(given: str, environment: Mapping[str, str]) -> str:
    """Return the URL of the head's dashboard. Raises UserError for an address of another kind."""
    named = {"--address": given} | {n: environment.get(n, "") for n in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")}
    source, address = next(((n, a) for n, a in named.items() if a), ("", DEFAULT_ADDRESS))
    if not re.match(r"https?://[^/]", address):
        raise UserError(f"{source} is {address}: jobs are submitted to the dashboard; give --address http://HEAD:8265")
    return address.rstrip("/")


def headers(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that carry RAY_AUTH_TOKEN; none where RAY_AUTH_MODE says there is no authentication."""
    token = environment.get("RAY_AUTH_TOKEN", "")
    mode = environment.get("RAY_AUTH_MODE", "").lower()
    return {"Authorization": f"Bearer {token}"} if token and mode != "disabled" else {}


# --- what becomes of a name: plain functions ----------------------------------------------------------------------


def attempt_id(submission_id: str, number: int) -> str:
    """Return the name under which Ray knows an attempt: ID, ID.attempt2, ID.attempt3 …"""
    return submission_id if number == 1 else f"{submission_id}.attempt{number}"


def attempt_number(submission_id: str, name: str) -> int | None:
    """Return the number of the attempt called `name`; None where it is no attempt of that submission."""
    match = re.fullmatch(re.escape(submission_id) + r"(?:\.attempt(\d+))?", name)
    number = int(match[1] or 1) if match else 0
    return number if number and name == attempt_id(submission_id, number) else None


def next_attempt(attempts: Iterable[Attempt], line: str) -> Attempt | int:
    """Return the attempt of a submission that runs or has succeeded; where there is none, the number of a new one.

    Raises UserError where that attempt runs, or ran, a command other than `line`. After a failure or a stop another
    command is welcome, since it may be the fix.
    """
    newest = max(attempts, key=lambda attempt: attempt.number, default=None)
    if newest is None:
        return 1
    if newest.status in ("FAILED", "STOPPED"):
        return newest.number + 1
    if newest.entrypoint != line:
        state = "has succeeded with" if newest.status == "SUCCEEDED" else "runs"
        raise UserError(f"{newest.id} {state} another command ({newest.entrypoint}); choose another --submission_id")
    return newest


def exit_code(ended: Attempt) -> int:
    """Return the exit code of the job itself."""
    if ended.status == "STOPPED":
        return STOPPED
    if ended.exit_code is None:
        return int(ended.status != "SUCCEEDED")
    return ended.exit_code if ended.exit_code >= 0 else 128 - ended.exit_code


# --- with Ray -----------------------------------------------------------------------------------------------------


def connect(config: SubmitConfig, environment: Mapping[str, str]) -> Cluster:
    """Connect to the cluster at the configured address. Raises UserError where none answers or the token is refused."""
    address, identity = dashboard_address(config.address, environment), headers(environment)
    _ask_version(address, identity)
    # Ray's client prefers these variables to the address passed to it.
    os.environ.pop("RAY_ADDRESS", None)
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    # Ray warns at each upload of what it leaves out by default; _EXCLUDES has all of it.
    os.environ.setdefault("RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES", "")
    from ray.job_submission import JobSubmissionClient

    for module in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
        logging.getLogger(f"ray.{module}").setLevel(logging.WARNING)

    class Client(JobSubmissionClient):
        def _package_exists(self, package_uri: str) -> bool:
            """Return False always: a job that has just ended takes its package with it, even one that Ray just saw.

            Uploaded again, it is kept for this job. Should a later Ray not ask, two jobs in quick succession may fail.
            """
            return False

    return Cluster(address, Client(address, headers=identity))


def submit(cluster: Cluster, config: SubmitConfig, line: str, environment: Mapping[str, str]) -> tuple[Attempt, bool]:
    """Return the attempt that stands for `line` now, and True where this call made it.

    Raises UserError where the name stands for something else, or Ray does not accept what is submitted.
    """
    environs, began = runtime_env(config, environment), time.monotonic()
    while True:
        number = 1
        if config.submission_id:
            found = next_attempt(_attempts(cluster.client, config.submission_id), line)
            if isinstance(found, Attempt):
                return found, False
            number = found
        name = attempt_id(config.submission_id, number) if config.submission_id else None
        try:
            made = cluster.client.submit_job(entrypoint=line, submission_id=name, runtime_env=environs)
        except (RuntimeError, ValueError) as error:
            if name and "already exists" in str(error):
                continue  # somebody else has just made this attempt
            if "No available agent" in str(error) and time.monotonic() - began < _PATIENCE_S:
                time.sleep(_AGAIN_AFTER_S)  # the head has only just started
                continue
            raise UserError(f"{cluster.address}: the job was not accepted: {_first_line(error)}") from error
        return Attempt(made, number, line, "PENDING"), True


def follow(cluster: Cluster, job: str, write: Callable[[str], object]) -> Attempt:
    """Write the job's log as it comes, until the job has ended, and return the attempt.

    Raises LostError once the head has not answered for a minute.
    """
    import aiohttp

    log, last_received_s = LogTail(write), time.monotonic()
    while True:
        try:
            asyncio.run(_tail(cluster.client, job, log))
            attempt = _attempt(job, 1, cluster.client.get_job_info(job))
            last_received_s = time.monotonic()
            if attempt.status in _ENDED:
                return attempt
        except (OSError, RuntimeError, aiohttp.ClientError) as error:
            last_received_s = max(last_received_s, log.last_received_s)
            if time.monotonic() - last_received_s > _PATIENCE_S:
                raise LostError(
                    f"{cluster.address} has not answered for {_PATIENCE_S:.0f} s ({_first_line(error)}); the job may "
                    f"go on: ray job status {job} --address {cluster.address}"
                ) from error
        time.sleep(_AGAIN_AFTER_S)


class LogTail:
    """Log that may be sent again from its beginning, but of which each part is written once."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write, self._written, self._position = write, 0, 0
        self.last_received_s = time.monotonic()
        """Time at which the last part came, in seconds of the monotonic clock."""

    def restart(self) -> None:
        """Expect the beginning of the log again."""
        self._position = 0

    def add(self, text: str) -> None:
        """Write what is new in `text`."""
        self.last_received_s = time.monotonic()
        new = text[max(0, self._written - self._position) :]
        self._position += len(text)
        self._written = max(self._written, self._position)
        if new:
            self._write(new)


async def _tail(client: JobSubmissionClient, job: str, log: LogTail) -> None:
    log.restart()
    async with contextlib.aclosing(client.tail_job_logs(job)) as parts:  # type: ignore[type-var]
        async for part in parts:
            log.add(part)


def _attempts(client: JobSubmissionClient, submission_id: str) -> list[Attempt]:
    jobs = [(job.submission_id or "", job) for job in client.list_jobs()]
    return [_attempt(name, number, job) for name, job in jobs if (number := attempt_number(submission_id, name))]


def _attempt(name: str, number: int, details: Any) -> Attempt:
    status = details.status.value
    assert status in _RUNNING + _ENDED, status
    return Attempt(name, number, details.entrypoint, status, details.driver_exit_code, details.message or "")


def _ask_version(address: str, identity: Mapping[str, str]) -> None:
    """Ask the head for its version: Ray's client would wait minutes for a silent head, and not say what is wrong."""
    try:
        request = urllib.request.Request(f"{address}/api/version", headers=dict(identity))
        with urllib.request.urlopen(request, timeout=_ANSWER_WITHIN_S) as answer:
            json.load(answer)["ray_version"]
    except urllib.error.HTTPError as error:
        if error.code == 401:
            raise UserError(f"{address}: this cluster asks for a token; set RAY_AUTH_TOKEN to it") from None
        if error.code == 403:
            raise UserError(f"{address}: the token in RAY_AUTH_TOKEN is not that of this cluster") from None
        said = f"{address}: answers with status {error.code}; is it the dashboard of a Ray head?"
        raise UserError(said + _by_proxy(address)) from None
    except OSError as error:
        said = f"{address}: no Ray head can be reached there ({getattr(error, 'reason', error)}); give --address"
        raise UserError(said + _by_proxy(address)) from error
    except (ValueError, KeyError, TypeError):
        said = f"{address}: answers, but not as the dashboard of a Ray head does; give --address"
        raise UserError(said + _by_proxy(address)) from None


def _by_proxy(address: str) -> str:
    """Return what to add to a failure at an address that is asked by way of a proxy; "" where it is asked directly."""
    url = urllib.parse.urlsplit(address)
    if url.scheme not in urllib.request.getproxies() or urllib.request.proxy_bypass(url.netloc):
        return ""
    return f"; {url.scheme}_proxy is set, so a proxy was asked: where it is no way there, set no_proxy={url.hostname}"


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
