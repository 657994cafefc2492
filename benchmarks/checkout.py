"""Imported first by each benchmark: it measures this checkout, and ends in one line where a library is missing."""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from dassl_vr.cli.errors import end_script_in_one_line  # noqa: E402

end_script_in_one_line()
