"""Frame of every entry point around its one function: parse, run, turn the outcome into a line and an exit code.

Entry points import their options alone, and their job once it runs: help and an error of the command line come at once.
"""

from __future__ import annotations

import contextvars
import importlib
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn, TypeVar

from pipeline import command, storage, terminal
from pipeline.cluster import loss
from pipeline.config import parse
from pipeline.engine.completion.budget import BudgetExceededError
from pipeline.errors import UserError, one_line, printable
from pipeline.storage.retry import first_answer_soon
from pipeline.terminal import print_notice

C = TypeVar("C")

DONE, FAILED, UNUSABLE, OVER_BUDGET, INTERRUPTED = 0, 1, 2, 3, 130

_parse_only: contextvars.ContextVar[bool] = contextvars.ContextVar("only_parsing", default=False)


def run_job(
    config: type[C],
    function: Callable[[C], int],
    *,
    name: str,
    description: str,
    argv: Sequence[str] | None = None,
) -> int:
    """Run one job from the command line and return its exit code.

    0 done; 1 failed; 2 unusable arguments, configuration or preflight; 3 the error budget was exceeded; 130
    interrupted. A failure ends with one line; `--debug` anywhere on the line adds the traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    logging.basicConfig(handlers=[terminal.LineHandler()], level=logging.WARNING)
    logging.getLogger("transdomain").setLevel(logging.INFO)
    for stop_signal in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop_signal, _interrupt)
    with terminal.guarded():
        return _run(config, function, arguments, name=name, description=description, debug=debug)


def _run(
    config: type[C], function: Callable[[C], int], arguments: list[str], *, name: str, description: str, debug: bool
) -> int:

    def goes_on() -> str:
        return f"the same command goes on from here: {_command(name, arguments)}"

    loss.end_by(_ending(name, goes_on))
    command.remember(lambda: _command(name, arguments))
    try:
        with first_answer_soon():
            parsed = parse(config, arguments, prog=f"python -m jobs.{name}", description=description)
            return DONE if _parse_only.get() else function(parsed)
    except KeyboardInterrupt:
        print_notice(f"{name}: interrupted; {goes_on()}")
        return INTERRUPTED
    except loss.ClusterLostError as error:
        return _failed(name, error, debug, FAILED, then=f"; {goes_on()}")
    except UserError as error:
        return _failed(name, error, debug, UNUSABLE)
    except BudgetExceededError as error:
        return _failed(name, error, debug, OVER_BUDGET)
    except Exception as error:  # the last line of defence: a line for the user, the traceback on request
        return _failed(name, error, debug, FAILED)
    finally:
        loss.end_by(None)


def check_arguments(name: str, arguments: Sequence[str]) -> int:
    """Return the exit code with which a job refuses its command line, after printing why; 0 where it accepts it."""
    token = _parse_only.set(True)
    try:
        return importlib.import_module(f"jobs.{name}").main(arguments)
    finally:
        _parse_only.reset(token)


def _failed(name: str, error: Exception, debug: bool, code: int, then: str = "") -> int:
    if debug:
        logging.getLogger("transdomain").error("", exc_info=error)
    print_notice(f"{name}: {one_line(error, kind=False)}{then}")
    return code


def _ending(name: str, goes_on: Callable[[], str]) -> Callable[[str], NoReturn]:
    def end(what: str) -> NoReturn:
        print_notice(f"{name}: {what}; {goes_on()}")
        os._exit(FAILED)  # without the main thread, which may wait forever for what was lost

    return end


def _command(name: str, arguments: Sequence[str]) -> str:
    way = f"transdomain submit {name}" if storage.is_submitted() else f"python -m jobs.{name}"
    return " ".join([way, *map(_quoted, arguments)])


def _quoted(argument: str) -> str:
    """Return an argument as a shell takes it, even where it cannot be shown as it is."""
    if printable(argument) == argument:
        return shlex.quote(argument)
    plain = (chr(b) if 32 <= b < 127 and chr(b) not in "'\\" else f"\\x{b:02x}" for b in os.fsencode(argument))
    return f"$'{''.join(plain)}'"


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Unwind and say how to go on at the first Ctrl-C or stop request (SIGTERM); end at once at the second."""
    for stop_signal in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop_signal, lambda *_: os._exit(INTERRUPTED))
    raise KeyboardInterrupt
