"""Text of a manifest's validation errors: field, received value, expected value."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from dff_edge.printable import printable

MAX_PROBLEMS = 20  # listed in one message


def describe(error: ValidationError) -> str:
    """Return one line per problem, at most ``MAX_PROBLEMS``."""
    problems = [p for p in error.errors(include_url=False) if not _is_echo(p)]
    lines = [_describe_one(problem) for problem in problems[:MAX_PROBLEMS]]
    if len(problems) > MAX_PROBLEMS:
        lines.append(f"  and {len(problems) - MAX_PROBLEMS} more")
    return "\n".join(lines)


def _is_echo(problem: Any) -> bool:
    """Return whether pydantic calls a list too short only because its items were refused."""
    return problem["type"] == "too_short" and len(problem["input"]) > 0


def _describe_one(problem: Any) -> str:
    place = ""
    for part in problem["loc"]:
        if part == "[key]":
            continue
        told = printable(part)
        place += f"[{part}]" if isinstance(part, int) else f".{told}" if place else told
    kind, received = problem["type"], short(problem["input"])
    if kind == "missing":
        return f"  {place}: is missing"
    if kind == "extra_forbidden":
        return f"  {place}: received {received}, expected no field of this name"
    expected = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    expected = expected.removeprefix("a valid ")
    if kind == "value_error" and not isinstance(problem["input"], str):  # a rule of a whole model
        return f"  {place or 'fields together'}: expected {expected}"
    return f"  {place or 'fields together'}: received {received}, expected {expected}"


def short(value: Any) -> str:
    """Return a value in the form that messages show."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
