"""Runs what tests talk to: servers, gateways, object stores, and a network that fails."""
