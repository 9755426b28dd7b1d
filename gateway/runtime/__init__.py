"""Tasks, child processes, and the embedded stream server."""
