"""The gateway in front of Triton: its nginx, its keys and its split between two models."""
