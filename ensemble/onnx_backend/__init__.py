"""The python-based `onnxruntime` backend of the embedded Triton; a server starts on a copy of `model.py`."""
