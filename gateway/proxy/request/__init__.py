"""From the bytes of a request to a `Call`: authentication, headers, parsing, JSON splicing, forms."""
