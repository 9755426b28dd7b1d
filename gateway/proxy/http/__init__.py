"""HTTP on both sides: the server that clients talk to, and the clients that talk to upstreams."""
