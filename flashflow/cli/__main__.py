"""`python -m flashflow.cli` is the command `flashflow`."""

import sys

from flashflow.cli import main

sys.exit(main())
