"""Conditions on scores, such as `cycle_l1 < 0.1 and realism > 0.3`: comparisons, `and`, `or`, `not`, parentheses."""

from __future__ import annotations

import ast
import contextlib
import operator
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipeline.errors import UserError

_COMPARISONS: Mapping[type[ast.cmpop], Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def check_condition(condition: str, known: Sequence[str]) -> None:
    """Raise UserError where a condition is none, or names something that is not among the `known` scores."""
    tree, names = _parsed(condition, known)
    _truth(tree, condition, {name: np.zeros(1) for name in names})


def kept(condition: str, scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the truth of a condition for each row, bool [N], from its scores, float [N] each.

    A row without one of the scores that the condition names (nan) is not kept, whatever else is true of it. Raises
    UserError like `check_condition`.
    """
    tree, names = _parsed(condition, list(scores))
    there = [~np.isnan(scores[name]) for name in names]
    return np.logical_and.reduce([_truth(tree, condition, scores), *there])


def _parsed(condition: str, known: Sequence[str]) -> tuple[ast.expr, set[str]]:
    """Return a condition as a tree, and the scores that it names, at least one."""
    try:
        tree = ast.parse(condition.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"keep_if {condition!r} is no condition, such as cycle_l1 < 0.1 and realism > 0.3") from error
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    if unknown := sorted(names - set(known)):
        raise UserError(
            f"keep_if {condition!r} names {', '.join(unknown)}, which this job does not score; it scores "
            f"{', '.join(known) or 'nothing: add --score'}"
        )
    if not names:
        raise UserError(f"keep_if {condition!r} names no score; it may name {', '.join(known)}")
    return tree, names


def _truth(node: ast.expr, condition: str, scores: Mapping[str, np.ndarray]) -> np.ndarray:
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            return np.logical_and.reduce([_truth(value, condition, scores) for value in values])
        case ast.BoolOp(op=ast.Or(), values=values):
            return np.logical_or.reduce([_truth(value, condition, scores) for value in values])
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ~_truth(operand, condition, scores)
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARISONS for op in ops):
            sides = [_value(each, condition, scores) for each in (left, *others)]
            pairs = [_COMPARISONS[type(op)](sides[i], sides[i + 1]) for i, op in enumerate(ops)]
            return np.logical_and.reduce(pairs)
    raise UserError(
        f"keep_if {condition!r}: {ast.unparse(node)!r} is no comparison of a score with a number; comparisons are "
        "joined by and, or, not"
    )


def _value(node: ast.expr, condition: str, scores: Mapping[str, np.ndarray]) -> np.ndarray:
    match node:
        case ast.Name(id=name):
            return scores[name]
        case ast.Constant(value=float() | int() as number) if not isinstance(number, bool):
            with contextlib.suppress(OverflowError):
                return np.full(len(next(iter(scores.values()))), float(number))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() as operand):
            return -_value(operand, condition, scores)
        case ast.UnaryOp(op=ast.UAdd(), operand=ast.Constant() as operand):
            return _value(operand, condition, scores)
    raise UserError(f"keep_if {condition!r}: {ast.unparse(node)!r} is neither a score nor a number")
