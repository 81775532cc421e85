"""Answers `POST /v1/explain`: a process of the serving environment that explains one release's answers."""
