"""Where the tests find data that is not part of the project."""

import os
from pathlib import Path

SHARED = Path(os.environ.get("DLTRAIN_TEST_DATA") or Path(__file__).parents[1] / "../shared/data").absolute()
MISSING = f"no data in {SHARED}; set DLTRAIN_TEST_DATA"
