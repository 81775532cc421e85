"""Runs the counterparts of tests: servers, gateways, object stores, and a network that fails."""
