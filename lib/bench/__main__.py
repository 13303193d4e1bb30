"""python -m lib.bench"""

import sys

from lib.bench import main

sys.exit(main())
