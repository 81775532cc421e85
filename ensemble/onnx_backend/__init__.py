"""The python-based `onnxruntime` backend of the embedded Triton; `server.py` copies `model.py` to its place."""
