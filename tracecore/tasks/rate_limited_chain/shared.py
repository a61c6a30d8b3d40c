"""What the setup and the actions both need: values that depend on the seed alone."""

import hashlib


def derive(seed: int, label: str) -> str:
    """64 hex digits that depend on the seed and the label alone, on every machine and Python."""
    return hashlib.sha256(f"rate_limited_chain:{seed}:{label}".encode()).hexdigest()


def pick(choices: tuple, seed: int, label: str):
    """One of the choices."""
    return choices[int(derive(seed, label)[:8], 16) % len(choices)]
