"""The server side of HTTP: uvicorn's `http` setting. uvicorn itself runs the process, its sockets and signals."""
