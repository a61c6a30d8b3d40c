"""The world: a service that wants a handshake before it hands out a token. Times are simulated seconds."""

from .shared import derive, pick


def setup(seed: int, env) -> None:
    """Remember what the service knows, and set its clock to zero."""
    interval_s = pick((2, 3, 4, 5), seed, "interval")
    env.set_hidden_state("seed", seed)
    env.set_hidden_state("token", f"tok_{derive(seed, 'token')[:24]}")
    env.set_hidden_state("interval_s", interval_s)  # between two requests that the limiter lets through
    env.set_hidden_state("lifetime_s", 2 * interval_s + 1)  # of a handshake
    env.set_hidden_state("now_s", 0)
    env.set_hidden_state("open_at_s", 0)  # when the limiter lets the next request through
    env.set_hidden_state("failures_left", 1)
    env.set_hidden_state("handshakes", 0)
    env.set_hidden_state("pending", None)  # the handshake that waits for its phrase
    env.set_hidden_state("session", None)
