"""The vendors' APIs: building requests and reading replies, without I/O."""
