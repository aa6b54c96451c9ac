"""`python -m tsuzuku`: the command line."""

import sys

from tsuzuku.cli import main

sys.exit(main())
