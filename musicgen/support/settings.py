"""Settings that know what they may be: the configs of the stages are made of them."""

import inspect
import re
from collections.abc import Collection, Sequence
from dataclasses import Field, field, fields
from typing import Any


def setting(
    default: Any,
    lowest: float | None = None,
    highest: float | None = None,
    choices: Collection[str] = (),
    usual: tuple[float, float] | None = None,
) -> Any:
    """Make a dataclass field with limits, both allowed, or with choices; a whole default allows whole numbers only.

    What is `usual` is all that a slider offers, where the limits are too far apart for one.
    """
    limits = lowest, highest
    return field(default=default, metadata={"limits": limits, "choices": tuple(choices), "usual": usual or limits})


def help_of(kind: type) -> dict[str, str]:
    """Return what the docstring of a dataclass of settings says of each, on one line."""
    described = re.findall(r"^(\w+) : .*\n((?: {4}.*\n?)+)", inspect.getdoc(kind), re.MULTILINE)
    return {name: " ".join(text.split()).replace("`", "") for name, text in described}


class Settings:
    """A dataclass of `setting` fields; ValueError names the first that is not allowed, and what would be."""

    def __post_init__(self):
        for each in fields(self):
            check_setting(each, getattr(self, each.name))


def check_setting(each: Field, value: Any) -> None:
    """Raise ValueError unless a field made by `setting` may have this value."""
    (lowest, highest), choices = each.metadata["limits"], each.metadata["choices"]
    if choices and value not in choices:
        raise ValueError(f"{each.name} must be one of {', '.join(choices)}, not {value!r}")
    if isinstance(each.default, bool) and not isinstance(value, bool):
        raise ValueError(f"{each.name} must be True or False, not {value!r}")
    if lowest is None:
        return
    whole = isinstance(each.default, int)
    number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not number or not lowest <= value <= highest:
        allowed = f"be a whole number from {lowest} to {highest}" if whole else f"lie in {lowest:g}..{highest:g}"
        raise ValueError(f"{each.name} must {allowed}, not {value!r}")


def check_names(field_name: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return different, non-empty names as a tuple; ValueError if they are anything else."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ValueError(f"{field_name} must be a sequence of names, not {names!r}")
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{field_name} must be names, not {names!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"{field_name} names one twice: {', '.join(names)}")
    return tuple(names)
