"""The client side of HTTP: requests to upstreams, over pooled connections."""
