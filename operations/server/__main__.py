"""`python -m operations.server`: one tritonserver in the foreground, without a supervisor."""

import sys

from operations.server.process import main

if __name__ == "__main__":
    sys.exit(main())
