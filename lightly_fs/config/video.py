"""Which frames of videos a run takes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from lightly_fs.config.frozen import Frozen


class VideoConfig(Frozen):
    """Every frame, unless one of these is given."""

    fps: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="Take so many frames per second of a video; none: every frame."
    )
    every_nth: int = Field(1, ge=1, description="Take every n-th frame, from the first one on.")
    keyframes_only: bool = Field(
        default=False, description="Take the keyframes, which alone need not decode others."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> VideoConfig:
        asked = {
            "video.fps": self.fps is not None,
            "video.every_nth": self.every_nth > 1,
            "video.keyframes_only": self.keyframes_only,
        }
        given = [name for name, one in asked.items() if one]
        if len(given) > 1:
            raise ValueError(f"`{'` and `'.join(given)}` do not go together; keep one of them")
        return self
