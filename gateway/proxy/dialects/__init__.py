"""The providers' APIs: building requests and reading replies, without I/O."""
