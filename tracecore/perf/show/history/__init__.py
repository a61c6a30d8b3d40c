"""How archived slices of several releases are shown: what each took, and what changed."""
