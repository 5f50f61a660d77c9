from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import ray
import ray.exceptions as kinds

from pipeline.cluster import connection, loss
from pipeline.errors import StorageError, UserError


def task_error(cause: Exception) -> kinds.RayTaskError:
    return kinds.RayTaskError("MapBatches(decode)", "Traceback …\nin many\nlines", cause)


def test_what_a_function_raised_comes_out_of_the_cluster() -> None:
    missing = StorageError("s3://b/x: not found")
    assert loss.translate(task_error(missing)) is missing
    assert loss.translate(task_error(missing).as_instanceof_cause()) is missing
    wrong = UserError("no")
    wrapped = kinds.UserCodeException("UDF failed")
    wrapped.__cause__ = wrong
    assert loss.translate(task_error(wrapped)) is wrong
    other = loss.translate(task_error(ValueError("bad\nvalue")).as_instanceof_cause())
    assert str(other) == "ValueError: bad value (in a process of Ray's)"
    assert not isinstance(other, loss.ClusterLostError)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (kinds.LocalRayletDiedError(), "Ray's raylet on this machine ended (LocalRayletDiedError: "),
        (kinds.OutOfMemoryError("Task was killed due to the node running low on memory.\nMore"), "ran out of memory"),
        (kinds.NodeDiedError("node x"), "a node of the cluster died (NodeDiedError: node x)"),
        (kinds.ObjectLostError("0" * 56, None, ""), "an object of Ray's was lost with its node"),
        (kinds.ActorDiedError(None), "an actor of Ray's ended"),
        (kinds.RaySystemError("odd"), "Ray failed (RaySystemError: "),
    ],
)
def test_what_was_lost_is_named_in_a_line(error: Exception, said: str) -> None:
    found = loss.translate(error)
    assert isinstance(found, loss.ClusterLostError)
    assert said in str(found)
    assert "\n" not in str(found)


def test_an_actor_that_could_not_be_made_is_no_lost_one() -> None:
    error = kinds.ActorDiedError(task_error(UserError("the model is gone")))
    found = loss.translate(error)
    assert not isinstance(found, loss.ClusterLostError)
    assert "could not be started" in str(found)


def test_a_token_that_is_asked_for_is_the_users_matter() -> None:
    found = loss.translate(kinds.AuthenticationError("no token"))
    assert isinstance(found, UserError)
    assert "RAY_AUTH_TOKEN" in str(found)


def test_errors_of_others_pass() -> None:
    with pytest.raises(KeyError), loss.explained():
        raise KeyError
    with pytest.raises(loss.ClusterLostError) as caught, loss.explained():
        raise kinds.LocalRayletDiedError
    assert isinstance(caught.value.__cause__, kinds.LocalRayletDiedError)


def test_a_loss_is_told_to_who_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    class EndedError(Exception):
        pass

    def end(what: str) -> None:
        raise EndedError(what)

    loss.end_by(end)  # type: ignore[arg-type]
    try:
        with pytest.raises(EndedError, match="Ray's GCS has ended, and the run with it"):
            loss.report_loss("Ray's GCS has ended")
    finally:
        loss.end_by(None)
    loss.report_loss("Ray's GCS has ended")
    assert "Ray's GCS has ended" in caplog.text


@pytest.mark.parametrize("module", ["pipeline", "mymodels.night"])
def test_a_node_without_the_package_is_told_how_to_have_it(module: str) -> None:
    cause = ModuleNotFoundError(f"No module named '{module}'")
    text = f"Traceback …\n  File …\nModuleNotFoundError: No module named '{module}'"
    for error in (
        kinds.RayTaskError("MapBatches(decode)", text, cause),
        kinds.RaySystemError(f"System error: …\ntraceback: {text}"),
    ):
        found = loss.translate(error)
        assert isinstance(found, UserError)
        assert f"lacks the Python module {module};" in str(found)
        assert "transdomain submit" in str(found)


NOWHERE = types.ModuleType("nowhere_here")
exec("def task(rows):\n    return rows\nclass Actor:\n    def work(self):\n        pass", NOWHERE.__dict__)
NOWHERE.task.__module__ = NOWHERE.Actor.__module__ = "nowhere_here"
AWAY: dict[str, Callable[[], Any]] = {
    "task": lambda: ray.get(ray.remote(NOWHERE.task).remote(1)),
    "actor": lambda: ray.get(ray.remote(NOWHERE.Actor).remote().work.remote()),
    "argument": lambda: ray.get(ray.remote(lambda value: 1).remote(NOWHERE.Actor())),
    "import in a task": lambda: ray.get(ray.remote(lambda: importlib.import_module("nowhere_here")).remote()),
}
"""Work that needs a module which this process has and the workers have not."""


def test_a_module_that_a_node_lacks_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """This is what Ray really raises: it has another error for each."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "nowhere_here", NOWHERE)
    with connection.connect():
        for name, work in AWAY.items():
            with pytest.raises(UserError) as caught, connection.connect():
                work()
            assert str(caught.value).startswith(
                "a node of the cluster lacks the Python module nowhere_here; send this directory along"
            ), name
            assert "transdomain submit" in str(caught.value)
