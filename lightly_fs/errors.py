"""What can go wrong with the system (a broken *sample* is a `Failure`, see `types`).

    LightlyFSError                exit 1
    ├── ConfigError               2    a key, option or config file is wrong
    ├── MountError                3    a bucket cannot be mounted, or stopped answering (`reason`)
    ├── DatasourceError           4    nothing there, or it cannot be listed or read
    ├── NoUsableSampleError       5    not one sample could be embedded
    ├── ArtifactError             6    a run directory is damaged, or holds another run
    │   └── RunLockedError             another process is writing this run directory
    ├── MissingExtraError         7    an optional dependency is not installed
    ├── ModelError                8    a model, its weights or an embeddings file cannot be used
    ├── TooManyFailuresError      10   more samples failed than `max_failures` allows
    └── TemporarySpaceError       11   the directory for temporary files is full or not usable

Exit 9 is not an error: the run is complete but some samples could not be read (partial).
Ctrl-C exits with 130, SIGTERM with 143, SIGHUP (the terminal was closed; not under nohup) with 129;
all leave a run that can be resumed. So does 141: whoever read the output (`… | head -1`) has gone.
"""

from typing import ClassVar

EXIT_PARTIAL = 9


class LightlyFSError(Exception):
    """A system failure with an exit code and, where one is known, a hint that can be pasted."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(LightlyFSError):
    exit_code = 2


class MountError(LightlyFSError):
    """A mount failed; `reason` is a stable word for programs (`credentials`, `bucket`, …)."""

    exit_code = 3

    def __init__(self, message: str, *, reason: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class DatasourceError(LightlyFSError):
    exit_code = 4


class NoUsableSampleError(LightlyFSError):
    exit_code = 5


class ArtifactError(LightlyFSError):
    exit_code = 6


class RunLockedError(ArtifactError):
    pass


class MissingExtraError(LightlyFSError):
    exit_code = 7


class ModelError(LightlyFSError):
    exit_code = 8


class TooManyFailuresError(LightlyFSError):
    exit_code = 10


class TemporarySpaceError(LightlyFSError):
    exit_code = 11
