"""The base class of all configs, and their fields, which have a description and allowed values."""

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import Field, field, fields
from typing import Any


def setting(
    text: str,
    default: Any,
    lowest: float | None = None,
    highest: float | None = None,
    choices: Collection[str] = (),
    usual: tuple[float, float] | None = None,
) -> Any:
    """Make a dataclass field with a description and its allowed values.

    Parameters
    ----------
    text : str
        One sentence for the docstring, the command line and the forms.
    default : Any
        If it is an int, only whole numbers are allowed.
    lowest, highest : float, optional
        Limits; both are allowed values.
    choices : collection of str
        It may grow later, as the keys of a table do.
    usual : (float, float), optional
        Limits of a slider, if the allowed range is too wide for one.
    """
    limits = lowest, highest
    about = {"text": text, "limits": limits, "choices": choices, "usual": usual or limits}
    return field(default=default, metadata=about)


def help_of(each: Field) -> str:
    """Return the description of a `setting` with its allowed values."""
    lowest, highest = each.metadata["limits"]
    choices = each.metadata["choices"]
    allowed = ", ".join(choices) if choices else "" if lowest is None else f"{_as_text(lowest)}..{_as_text(highest)}"
    return each.metadata["text"].replace("`", "").removesuffix(".") + (f" ({allowed})." if allowed else ".")


def _as_text(limit: float) -> str:
    return "2**63 - 1" if limit == 2**63 - 1 else f"{limit:g}" if isinstance(limit, float) else str(limit)


class Settings:
    """Base class of configs with `setting` fields, which checks all values.

    A ValueError names the first value that is not allowed.
    The docstring of a subclass gets a section of parameters, made from the fields.
    """

    def __init_subclass__(cls):
        settings = {name: each for name, each in vars(cls).items() if isinstance(each, Field)}
        lines = [f"{name} : {type(each.default).__name__}\n    {help_of(each)}" for name, each in settings.items()]
        cls.__doc__ = "\n".join([inspect.cleandoc(cls.__doc__ or ""), "", "Parameters", "----------", *lines])

    def __post_init__(self):
        for each in fields(self):
            check_setting(each, getattr(self, each.name))


def check_setting(each: Field, value: Any) -> None:
    """Raise ValueError if a value is not allowed for a `setting` field."""
    lowest, highest = each.metadata["limits"]
    choices = each.metadata["choices"]
    if choices and value not in tuple(choices):
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


def only_fields(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values whose names are fields of a config of class `kind`."""
    return {each.name: values[each.name] for each in fields(kind) if each.name in values}


def check_names(field_name: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return names as a tuple; raise ValueError unless they are non-empty strings without duplicates."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ValueError(f"{field_name} must be a sequence of names, not {names!r}")
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{field_name} must be non-empty strings, not {names!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"{field_name} must be different, not {', '.join(names)}")
    return tuple(names)
