"""Exercises with feedback: ``check("01-1", value)`` or ``check("01-4", function)`` confirms an answer or gives a hint.

The exercises of each part of the course have a module of their own. To add one, add an entry to its ``EXERCISES``.
"""

from musicgen.lab.course.exercises.check import EXERCISES as EXERCISES
from musicgen.lab.course.exercises.check import check as check
