"""Ways of reaching a Triton: the `connection` axis."""
