"""The `onnxruntime` backend of the embedded Triton: a server starts on a copy of one of the two."""
