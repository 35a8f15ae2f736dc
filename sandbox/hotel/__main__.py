"""`python -m sandbox.hotel`: one pod."""

from __future__ import annotations

import sys

from sandbox.hotel.server import main

sys.exit(main())
