"""Settings: what they allow, and what they say of what they do not."""

import inspect
import math
from dataclasses import dataclass, fields

import pytest

from musicgen.utils.settings import Settings, check_setting, help_of, setting


@dataclass(frozen=True)
class Tea(Settings):
    """A pot of tea."""

    cups: int = setting("How many cups it fills.", 2, 1, 6)
    minutes: float = setting("How long it draws.", 3.5, 0.5, math.inf)
    kind: str = setting("Its ``colour``.", "green", choices={"green": 1, "black": 2})
    note: str = setting("Anything.", "")


def test_what_lies_within_the_limits_is_kept():
    assert Tea() == Tea(2, 3.5, "green", "")
    assert Tea(1, math.inf, "black", note=None).note is None  # a setting without limits
    assert Tea(6, 1).minutes == 1  # a whole number is a number


@pytest.mark.parametrize(
    ("name", "values", "allowed"),
    [
        ("cups", [0, 7, 2.0, "2", None, True, math.nan], "be a whole number from 1 to 6"),
        ("minutes", [0.4, -math.inf, math.nan, "3", None, True], r"lie in 0\.5\.\.inf"),
        ("kind", ["red", "", None, 1, []], "be one of green, black"),
    ],
)
def test_all_else_is_refused_and_told_what_is_allowed(name, values, allowed):
    for value in values:
        with pytest.raises(ValueError, match=rf"^{name} must {allowed}, not "):
            Tea(**{name: value})


def test_a_single_field_can_be_checked_before_there_is_a_config():
    kind = fields(Tea)[2]
    check_setting(kind, "black")
    with pytest.raises(ValueError, match="not 'blue'"):
        check_setting(kind, "blue")


def test_the_help_of_a_setting_tells_what_is_allowed():
    helps = [
        "How many cups it fills (1..6).",
        "How long it draws (0.5..inf).",
        "Its colour (green, black).",
        "Anything.",
    ]
    assert [help_of(each) for each in fields(Tea)] == helps


def test_the_docstring_of_a_config_lists_its_settings():
    assert inspect.getdoc(Tea).startswith("A pot of tea.\n\nParameters\n----------\ncups : int\n    How many cups it")


def test_what_is_usual_is_what_is_allowed_unless_told():
    cups, *_ = fields(Tea)
    assert cups.metadata["usual"] == (1, 6)
    assert setting("Legs.", 3, 1, 1000, usual=(2, 9)).metadata["usual"] == (2, 9)
