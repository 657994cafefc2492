"""How the commands end."""

import functools
import sys

from ..utils.errors import UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def one_line_errors(main):
    """Make `main(argv)` print a `UserError` as one line on standard error and return 2; Ctrl-C returns 130."""

    @functools.wraps(main)
    def wrapped(argv=None):
        try:
            return main(argv) or 0
        except UserError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            return EXIT_USER_ERROR
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return EXIT_INTERRUPTED

    return wrapped
