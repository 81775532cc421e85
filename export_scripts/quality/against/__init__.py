"""A candidate beside the active release of a repository, which the gate judges by."""
