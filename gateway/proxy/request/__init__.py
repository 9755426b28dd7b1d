"""Makes a `Call` of the bytes of a request: authentication, headers, parsing, JSON splicing, forms."""
