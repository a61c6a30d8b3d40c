"""What the agent can do: call the service, let simulated time pass, answer."""

HOST = "api.example.test"
LONGEST_WAIT_S = 60

_env = None


def set_env(env) -> None:
    """Take the episode's environment; called once, before the first step."""
    global _env  # noqa: PLW0603 - this module is executed anew for every episode
    _env = env


def call_api(endpoint: str, payload: dict | None = None) -> dict:
    """One request to the service: a body on status 200, else an error and perhaps ``retry_after`` in seconds."""
    _env.require_network(HOST)
    if endpoint == "/docs":
        return {"ok": True, "status": 200, "body": {"/token": {"payload": _env.get_hidden_state("payload")}}}
    if endpoint == "/token":
        return _token(payload)
    return {"ok": False, "status": 404, "error": "not_found"}


def wait(seconds: int) -> dict:
    """Let whole simulated seconds pass."""
    if type(seconds) is not int or not 1 <= seconds <= LONGEST_WAIT_S:
        return {"ok": False, "error": f"seconds must be a whole number from 1 to {LONGEST_WAIT_S}"}
    now_s = _env.get_hidden_state("now_s") + seconds
    _env.set_hidden_state("now_s", now_s)
    return {"ok": True, "now": now_s}


def set_output(key: str, value: str) -> dict:
    """Answer; a wrong value may be set again."""
    _env.set_agent_output(key, value)
    return {"ok": True}


def _token(payload: dict | None) -> dict:
    if payload != _env.get_hidden_state("payload"):
        return {"ok": False, "status": 400, "error": "wrong_payload"}
    now_s, open_at_s = _env.get_hidden_state("now_s"), _env.get_hidden_state("open_at_s")
    if now_s < open_at_s:
        return {"ok": False, "status": 429, "error": "rate_limited", "retry_after": open_at_s - now_s}
    interval_s, failures_left = _env.get_hidden_state("interval_s"), _env.get_hidden_state("failures_left")
    _env.set_hidden_state("open_at_s", now_s + interval_s)
    if failures_left:
        _env.set_hidden_state("failures_left", failures_left - 1)
        return {"ok": False, "status": 503, "error": "temporarily_unavailable"}
    return {"ok": True, "status": 200, "body": {"access_token": _env.get_hidden_state("token")}}
