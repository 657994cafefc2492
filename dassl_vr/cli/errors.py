"""How the commands end."""

import argparse
import errno
import functools
import sys

from ..utils.distributed import tells_the_reason
from ..utils.errors import ConfigError, RunInterrupted, UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_PREEMPTED = 75  # "try again later" in sysexits.h: the run was saved and can be gone on with


# What the system says no to for reasons that lie with the user's disk and directories
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO}


class OneLineParser(argparse.ArgumentParser):
    """A parser whose complaints are `ConfigError`s instead of the whole usage."""

    def error(self, message):
        raise ConfigError(f"{message} (see {self.prog} --help)")


def positive(text):
    """A whole number above 0, as the `type` of an argument."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got '{text}'")
    return int(text)


def one_line_errors(main):
    """Make `main(argv)` print a `UserError`, or that the disk is full or closed to us, as one line on standard error and return
    2; Ctrl-C returns 130, and a run that saved itself because a signal asked it to end 75. Of several processes of a run, the
    first that fails prints its line."""

    @functools.wraps(main)
    def wrapped(argv=None):
        try:
            return main(argv) or 0
        except UserError as error:
            _say(f"error: {' '.join(str(error).split())}")
            return EXIT_USER_ERROR
        except RunInterrupted as error:
            _say(str(error))
            return EXIT_PREEMPTED
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            _say(f"error: {error.strerror}: {error.filename or 'a file'}; make room or choose another directory")
            return EXIT_USER_ERROR
        except KeyboardInterrupt:
            _say("interrupted")
            return EXIT_INTERRUPTED

    return wrapped


def _say(line):
    if tells_the_reason():
        print(line, file=sys.stderr)
