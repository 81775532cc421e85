"""The files of releases on this machine: a bucket's mirror, or the repository's own folder."""
