"""python -m lib.publish"""

import sys

from lib.publish import main

sys.exit(main())
