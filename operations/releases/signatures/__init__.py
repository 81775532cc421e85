"""Who made a release, whom a server trusts, and whether the release is whole."""
