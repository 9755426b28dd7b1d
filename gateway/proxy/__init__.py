"""The request path, which answers clients. It knows nothing about scores."""
