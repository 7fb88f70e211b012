"""The old name, for one component that has not moved yet."""

from gpt2_lesson.checks.engine import Exercise

Displayed = Exercise
