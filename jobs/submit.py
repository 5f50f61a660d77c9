"""Submit a job to a running Ray cluster, follow its log, and end with its exit code.

transdomain submit [OPTIONS] NAME [OPTIONS OF THE JOB]; everything after NAME belongs to the job, and is checked here
before anything is sent. RAY_AUTH_TOKEN is the token, where the cluster asks for one. Ctrl-C detaches: the job goes on,
and the last line says how to follow and how to stop it. A job that was stopped ends with 130.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from collections.abc import Sequence

from jobs.__main__ import JOBS
from jobs.cli import DONE, INTERRUPTED, check_arguments, print_notice, run_job
from jobs.ending import end
from pipeline.errors import UserError
from pipeline.submit import client
from pipeline.submit.config import SubmitConfig
from pipeline.terminal import print_line, print_part

_WITHOUT_VALUE = {"wait", "no_wait", "debug", "help", "help_all", "h"}
SUBMITTABLE = tuple(name for name in JOBS if name != "submit")


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the options of submit itself, and the job's name with all that follows it."""
    own, rest = list[str](), list(arguments)
    while rest and rest[0].startswith("-"):
        token = rest.pop(0)
        if token == "--":
            break
        own.append(token)
        takes_value = "=" not in token and token.lstrip("-").replace("-", "_") not in _WITHOUT_VALUE
        if takes_value and rest:
            own.append(rest.pop(0))
    return own, rest


def submit(config: SubmitConfig, job: Sequence[str]) -> int:
    """Submit the job whose name and options are `job`, and return its exit code."""
    name = job[0] if job else ""
    if name not in SUBMITTABLE:
        near = difflib.get_close_matches(name, SUBMITTABLE, n=1)
        wrong = (
            f"there is no job {name!r} to submit" if name else "name a job, as in: transdomain submit pack --input …"
        )
        hint = f"did you mean {near[0]}?" if near else f"jobs are {', '.join(SUBMITTABLE)}"
        raise UserError(f"{wrong}; {hint}")
    client.runtime_env(config, os.environ)
    unusable = _checked_in(config.working_dir, name, job[1:])
    if unusable:
        return unusable
    line = client.entrypoint(name, job[1:])
    try:
        cluster = client.connect(config, os.environ)
        attempt, fresh = client.submit(cluster, config, line, os.environ)
    except KeyboardInterrupt:
        print_notice("submit: interrupted while submitting; `ray job list` shows whether the job has got there")
        return INTERRUPTED
    if attempt.status == "SUCCEEDED":
        print_line(f"{attempt.id}: has succeeded already, nothing to do")
        return DONE
    stop = f"ray job stop {attempt.id} --address {cluster.address}"
    print_notice(
        f"submit: {attempt.id} {'submitted to' if fresh else 'runs already on'} {cluster.address}; to stop it: {stop}"
    )
    if not config.wait:
        return DONE
    return _follow(cluster, attempt.id, stop)


def _follow(cluster: client.Cluster, job: str, stop: str) -> int:
    try:
        ended = client.follow(cluster, job, print_part)
    except KeyboardInterrupt:
        print_notice(
            f"submit: detached, {job} goes on; to follow it: ray job logs --follow {job} --address {cluster.address}; "
            f"to stop it: {stop}"
        )
        return INTERRUPTED
    code = client.exit_code(ended)
    unexplained = ended.status == "FAILED" and ended.exit_code is None
    why = f": {' '.join(ended.message.split())[:500]}" if unexplained else ""
    print_notice(f"submit: {job} {ended.status.lower()}, exit code {code}{why}")
    return code


def _checked_in(working_dir: str, name: str, arguments: Sequence[str]) -> int:
    """Check a command line in the folder that the job will run in: its configuration files are relative to it."""
    here = contextlib.nullcontext() if client.is_remote(working_dir) else contextlib.chdir(working_dir or ".")
    with here:
        return check_arguments(name, arguments)


def main(argv: Sequence[str] | None = None) -> int:
    own, job = split_arguments(sys.argv[1:] if argv is None else argv)
    return run_job(SubmitConfig, lambda config: submit(config, job), name="submit", description=__doc__ or "", argv=own)


if __name__ == "__main__":
    end(main())
