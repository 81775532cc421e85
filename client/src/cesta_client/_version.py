"""The version of cesta-client and of cesta, which appear together: its one home."""

__version__ = "0.1.0"
USER_AGENT = f"cesta-client/{__version__}"
