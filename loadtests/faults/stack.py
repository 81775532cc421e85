"""`cesta stack` on given ports, as a process of its own: python -m loadtests.faults.stack OUT HOST:PORT…"""

import sys
from pathlib import Path

from operations.outputs import Outputs
from operations.stack import Addresses, serve_stack

if __name__ == "__main__":
    out = Path(sys.argv[1])
    serve_stack(out, str(Outputs(out).repository), Addresses(*sys.argv[2:]))
