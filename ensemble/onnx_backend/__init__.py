"""The `onnxruntime` backend of the embedded Triton, in C++ and in Python. A server uses a copy of one."""
