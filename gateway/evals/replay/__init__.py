"""Replay: a dataset asked of several targets, scored and compared. It asks through the gateway, as any client does."""
