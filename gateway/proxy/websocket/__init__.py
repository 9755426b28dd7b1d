"""The Responses API over WebSocket: a client's messages become calls of the hot path, and their events messages."""
