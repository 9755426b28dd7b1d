"""From the bytes of a request to a Call: authentication, headers, parsing, splicing, forms."""
