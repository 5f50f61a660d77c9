"""Configuration of `jobs.submit`."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from pipeline.errors import UserError, check_range


@dataclass(frozen=True, kw_only=True)
class SubmitConfig:
    """To which cluster `jobs.submit` takes a job, and what the job finds there."""

    address: str = ""
    """The dashboard of the cluster's head, such as http://HEAD:8265. By default RAY_API_SERVER_ADDRESS, else
    RAY_ADDRESS where it is such a URL, else http://127.0.0.1:8265."""
    submission_id: str = ""
    """Name of the submission. The same command again follows it while it runs, does nothing once it has succeeded, and
    after a failure or a stop submits it anew, as ID.attempt2 and so on. By default a new name each time."""
    working_dir: str = "."
    """Folder that is uploaded and that the job runs in, without what its .gitignore and .rayignore name; or the URL of
    a zip file. Empty: nothing is uploaded, and the nodes have transdomain installed."""
    env: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Name of an environment variable that the job is given with the value it has here. Ray shows these values to all
    who may open its dashboard, so secrets had better be in the environment of the nodes. Nothing else is passed on."""
    stop_wait_s: int = 120
    """Seconds that `ray job stop` leaves the job, for a checkpoint and the line that resumes, before it is killed."""
    wait: bool = True
    """Follow the job's log and end with its exit code. --no_wait: only submit it."""

    def __post_init__(self) -> None:
        check_range("stop_wait_s", self.stop_wait_s, least=1)
        if "/" in self.submission_id:
            raise UserError(f"submission_id {self.submission_id!r} has a slash: it becomes part of a URL; leave it out")
