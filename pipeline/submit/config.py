"""Configuration of `jobs.submit`."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from pipeline.errors import UserError, check_range


@dataclass(frozen=True, kw_only=True)
class SubmitConfig:
    """Cluster to which `jobs.submit` sends a job, and the job's environment there."""

    address: str = ""
    """URL of the dashboard of the cluster's head, such as http://HEAD:8265. By default RAY_API_SERVER_ADDRESS, else
    RAY_ADDRESS where it is such a URL, else http://127.0.0.1:8265."""
    submission_id: str = ""
    """Name of the submission. The same command again follows the job while it runs, does nothing once it has succeeded,
    and after a failure or a stop submits it again, as ID.attempt2 and so on. By default a new name each time."""
    working_dir: str = "."
    """Folder that is uploaded and that the job runs in, without what its .gitignore and .rayignore name; or the URL of
    a zip file. Empty: upload nothing; the nodes must have transdomain installed."""
    env: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Name of an environment variable to pass to the job with its value here. Ray shows these values to everyone who
    can open its dashboard, so keep secrets in the environment of the nodes. No other variable is passed."""
    stop_wait_s: int = 120
    """Seconds that `ray job stop` gives the job to write a checkpoint and say how to resume, before it is killed."""
    wait: bool = True
    """Follow the job's log and end with its exit code. --no_wait only submits the job."""

    def __post_init__(self) -> None:
        check_range("stop_wait_s", self.stop_wait_s, least=1)
        if "/" in self.submission_id:
            raise UserError(f"submission_id {self.submission_id!r} has a slash: it becomes part of a URL; leave it out")
