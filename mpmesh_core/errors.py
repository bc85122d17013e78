"""errors: the one exception family of MPMesh.

Every message is one line: what is wrong, which value, what to do. The command line prints it and
exits with `exit_code`; the kinds also derive from the fitting built-in, so library users can catch
either.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class MPMeshError(Exception):
    """Base class of all errors that MPMesh raises on purpose."""

    exit_code = 1


class UsageError(MPMeshError, ValueError):
    """A wrong option, argument or combination of them (exit code 2 on the command line)."""

    exit_code = 2


class ShapeError(MPMeshError, ValueError):
    """A tensor or array of the wrong shape or type at a public edge."""


class InputError(MPMeshError, ValueError):
    """An image, video, bag, camera or label file that cannot be used."""


class MissingFileError(MPMeshError, FileNotFoundError):
    """A file that does not exist, with where to put or how to get it."""

    def __str__(self) -> str:  # FileNotFoundError would print errno fields
        return str(self.args[0]) if self.args else ""


class WeightsError(MPMeshError, ValueError):
    """A checkpoint or body file that does not fit what it is loaded into."""


class NumericalError(MPMeshError, ArithmeticError):
    """NaN or infinity from a network."""


class DeviceError(MPMeshError, RuntimeError):
    """No GPU where one was asked for, or a GPU out of memory."""


class MissingPackageError(MPMeshError, ImportError):
    """An optional package that is not installed, with the install command."""


@contextmanager
def refusing(complaint: str, advice: str = "") -> Iterator[None]:
    """Turn whatever goes wrong with a file inside into an InputError of one line.

    Damaged files make the format libraries raise almost anything, so everything is caught; none
    of it is swallowed.

    Args:
        complaint: before the reason, such as "x.mat is no readable .mat file".
        advice: after it.
    """
    try:
        yield
    except MPMeshError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise InputError(f"{complaint} ({reason}){advice}") from error


def first_line(error: Exception) -> str:
    """The first line of a library's message, which may have many, or none."""
    return (str(error) or repr(error)).strip().splitlines()[0]
