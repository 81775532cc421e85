"""Processes of this machine: identified, started on record, ended. Standard library only."""
