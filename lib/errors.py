"""What can go wrong that a user can mend? Errors whose message is for the user: what is wrong, and what to do."""

from __future__ import annotations

import errno
import functools
import sys
from collections.abc import Callable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
INTERRUPTED = 130  # what shells make of Ctrl-C


class UserError(Exception):
    """An error of which a command prints the message, and no traceback."""


class SourceError(UserError, RuntimeError):
    """Images or weights that cannot be had."""


class IndexingError(UserError, ValueError):
    """Images that cannot be used as a data set."""


def reports_errors(*others: type[Exception]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Decorates a `main`: what the user can mend is said in one sentence, with exit code 1; 130 when interrupted.

    others  classes that count as such besides UserError and the errors of the system; those of modules that shape a trained
            model are no UserError, since these modules stay as they are
    """

    def decorate(main: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(main)
        def careful(*words: list[str] | None) -> int:
            try:
                return main(*words)
            except KeyboardInterrupt:
                return INTERRUPTED
            except (UserError, OSError, *others) as error:
                print(f"error: {message(error)}", file=sys.stderr)
                return 1

        return careful

    return decorate


def message(error: BaseException) -> str:
    """An error's own words; of one of the system without its number, with the file and, where the disk is full, what to do."""
    if not (isinstance(error, OSError) and error.strerror):
        return str(error)
    place = f" ({error.filename})" if error.filename else ""
    todo = "; free some disk space and run again" if error.errno in FULL else ""
    return f"{error.strerror}{place}{todo}"
