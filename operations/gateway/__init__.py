"""The gateway: its keys, its split, its nginx."""
