"""Asyncio tasks, child processes, and the embedded stream server."""
