"""The server side of HTTP: uvicorn's `http` setting, one connection after another."""
