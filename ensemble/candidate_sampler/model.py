"""What Triton loads of a release: the adapter, whose compiled kernels releases of the same code share."""

import os
from pathlib import Path

from .shared_code import import_adapter

TritonPythonModel = import_adapter(Path(__file__).parent, os.environ.get("NUMBA_CACHE_DIR")).TritonPythonModel
