"""python -m lib.sources"""

import sys

from lib.sources import main

sys.exit(main())
