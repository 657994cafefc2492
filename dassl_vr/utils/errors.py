"""Errors that a user can cause. The command line prints each as one line and leaves with exit code 2."""

import errno

EXIT_USER_ERROR = 2
EXIT_PREEMPTED = 75  # "try again later" in sysexits.h: the run was saved and can be continued
EXIT_INTERRUPTED = 130
EXIT_READER_GONE = 141  # as of a Unix tool that SIGPIPE ends

# Errors of the system that come from the user's disk and directories
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO}


class UserError(Exception):
    """An error that the user can fix: the message is one line saying what is wrong, what was expected and what to do."""


class ConfigError(UserError):
    """A key, a value or a combination of values in the configuration is wrong."""


class DataError(UserError):
    """Data is missing, incomplete or unreadable."""


class WeightsError(UserError):
    """Pre-trained weights or a checkpoint are missing, unreadable or do not fit."""


class NonFiniteLossError(UserError, FloatingPointError):
    """The training loss became NaN or infinite."""


class DiskError(UserError):
    """A file of the run cannot be written."""


class LostProcessError(UserError):
    """Another process of the same run is gone."""


class RunInterrupted(Exception):
    """A signal asked the run to end, and it can be continued; the message is one line saying where and how."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of work that can be continued; the message is one line saying how."""
