"""Exercises that ask for a value."""

from dataclasses import dataclass

N_HINTS = 3


@dataclass(frozen=True)
class Exercise:
    """An exercise with its answer, three general hints, and hints for common mistakes.

    The answer is a number, which may be off by `tolerance`, or anything that can be compared. What is in `also` is
    right as well. The first two hints do not give the answer away.
    """

    answer: object
    hints: tuple[str, str, str]
    mistakes: tuple[tuple[object, str], ...] = ()
    tolerance: float = 1e-6
    also: tuple[object, ...] = ()

    def is_right(self, value: object) -> bool:
        """Return whether a value is the correct answer."""
        return any(self._same(value, right) for right in (self.answer, *self.also))

    def hint(self, value: object, attempt: int) -> str | None:
        """Return a hint: for the type, for a known mistake, or general hint `attempt` (0 to 2); None after the last."""
        known = next((hint for wrong, hint in self.mistakes if self._same(value, wrong)), None)
        if _type_word(value) != _type_word(self.answer):
            known = f"The answer is a {_type_word(self.answer)}, not a {_type_word(value)}."
        return known or (self.hints[attempt] if attempt < N_HINTS else None)

    def _same(self, value: object, other: object) -> bool:
        if _type_word(value) == _type_word(other) == "number":
            return abs(float(value) - other) <= self.tolerance
        if isinstance(value, str) and isinstance(other, str):
            return value.strip().lower() == other
        return type(value) is type(other) and value == other


def _type_word(value: object) -> str:
    """Return "number" or "string", otherwise the name of the type."""
    name = type(value).__name__
    return {"int": "number", "float": "number", "str": "string"}.get(name, name)
