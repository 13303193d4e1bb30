"""python -m lib.study"""

import sys

from lib.study import main

sys.exit(main())
