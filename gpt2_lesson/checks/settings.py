"""What a teacher can set about the checks."""

import os
from dataclasses import dataclass


@dataclass
class Settings:
    """What a teacher can set; each also by an environment variable.

    `partial` (GPT2_LESSON_PARTIAL): the fraction of the points, 0 to 1, for a function
    that behaves like exactly one known mistake. `mode` (GPT2_LESSON_MODE): "public"
    names the mistake, "exam" shows only the symptom.
    """

    partial: float = float(os.environ.get("GPT2_LESSON_PARTIAL", "0"))
    mode: str = os.environ.get(
        "GPT2_LESSON_MODE", os.environ.get("GPT2_LESSON_FACE", "public")
    )

    def __setattr__(self, name: str, value: object) -> None:
        if name == "face":  # its name in version 0.1
            name = "mode"
        if name == "partial" and not (
            isinstance(value, int | float) and 0 <= value <= 1
        ):
            raise ValueError(f"partial is {value!r}, expected a fraction from 0 to 1")
        if name == "mode" and value not in ("public", "exam"):
            raise ValueError(f'mode is {value!r}, expected "public" or "exam"')
        if name not in ("partial", "mode"):
            raise AttributeError(f"no setting {name!r}: there are partial and mode")
        super().__setattr__(name, value)


settings = Settings()
