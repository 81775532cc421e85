"""Where releases lie: in a folder, in a bucket, or in a copy of one."""
