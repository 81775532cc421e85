"""Carries questions to a server: over HTTP or gRPC, with threads or with asyncio."""
