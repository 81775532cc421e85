"""Which Triton models hold a release, and with which configurations."""
