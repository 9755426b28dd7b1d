"""Guards on requests and answers: what they look at, when they decide, and what a refused caller gets."""
