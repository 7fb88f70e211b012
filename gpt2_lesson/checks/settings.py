"""What a teacher can set about the checks."""

import os
from dataclasses import dataclass


@dataclass
class Settings:
    """What a teacher can set; each also by an environment variable.

    `partial` (GPT2_LESSON_PARTIAL): the share of the points, 0 to 1, for a function
    that behaves like exactly one known mistake. `face` (GPT2_LESSON_FACE): "public"
    names the mistake, "exam" shows only the symptom.
    """

    partial: float = float(os.environ.get("GPT2_LESSON_PARTIAL", "0"))
    face: str = os.environ.get("GPT2_LESSON_FACE", "public")

    def __setattr__(self, name: str, value: object) -> None:
        if name == "partial" and not (
                isinstance(value, int | float) and 0 <= value <= 1):
            raise ValueError(f"partial is {value!r}, expected a share from 0 to 1")
        if name == "face" and value not in ("public", "exam"):
            raise ValueError(f'face is {value!r}, expected "public" or "exam"')
        if name not in ("partial", "face"):
            raise AttributeError(f"no setting {name!r}: there are partial and face")
        super().__setattr__(name, value)


settings = Settings()
