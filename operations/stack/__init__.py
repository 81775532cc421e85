"""`cesta stack`: gateway, supervisor, Triton, Prometheus and Alertmanager on loopback, without Docker."""

from operations.stack.programs import Addresses
from operations.stack.run import run_stack, serve_stack

__all__ = ["Addresses", "run_stack", "serve_stack"]
