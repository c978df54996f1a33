"""python -m trust.statistics"""

from .command import main

raise SystemExit(main())
