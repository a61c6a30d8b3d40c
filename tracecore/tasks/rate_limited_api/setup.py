"""The world: a token service with a busy limiter and a back end that stumbles once."""

import hashlib


def setup(seed: int, env) -> None:
    """Remember what the service knows, and set its clock to zero. Times are simulated seconds."""
    digest = hashlib.sha256(f"rate_limited_api:{seed}".encode()).hexdigest()
    interval_s = 2 + int(digest[:2], 16) % 7
    env.set_hidden_state("payload", {"client_id": f"svc-{digest[2:8]}", "scope": f"quotes:{digest[8:12]}"})
    env.set_hidden_state("token", f"tok_{digest[16:40]}")
    env.set_hidden_state("interval_s", interval_s)  # between two requests that the limiter lets through
    env.set_hidden_state("now_s", 0)
    env.set_hidden_state("open_at_s", interval_s)  # another client has used up the first interval
    env.set_hidden_state("failures_left", 1)
