"""What the agent can do: call the service, let simulated time pass, answer."""

from .shared import derive, pick

HOST = "api.example.test"
LONGEST_WAIT_S = 60
TEMPLATES = ("{animal}-{colour}-{number}", "{number}/{animal}/{colour}", "{colour}.{number}.{animal}")
ANIMALS = ("heron", "lynx", "otter", "tapir", "vole")
COLOURS = ("amber", "indigo", "ochre", "teal")

_env = None


def set_env(env) -> None:
    """Take the episode's environment; called once, before the first step."""
    global _env  # noqa: PLW0603 - this module is executed anew for every episode
    _env = env


def call_api(endpoint: str, payload: dict | None = None) -> dict:
    """One request to the service: a body on status 200, else an error and perhaps ``retry_after`` in seconds."""
    _env.require_network(HOST)
    handlers = {"/handshake": _handshake, "/handshake_commit": _commit, "/token": _token}
    if endpoint not in handlers:
        return _refuse(404, "not_found")
    now_s, open_at_s = _env.get_hidden_state("now_s"), _env.get_hidden_state("open_at_s")
    if now_s < open_at_s:
        return _refuse(429, "rate_limited", retry_after=open_at_s - now_s)
    _env.set_hidden_state("open_at_s", now_s + _env.get_hidden_state("interval_s"))
    return handlers[endpoint](payload or {}, now_s)


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


def _handshake(_payload: dict, now_s: int) -> dict:
    """Open a handshake: each has its own id and phrase, and the newest replaces the one before."""
    seed, count = _env.get_hidden_state("seed"), _env.get_hidden_state("handshakes") + 1
    digest = derive(seed, f"handshake {count}")
    words = {
        "animal": pick(ANIMALS, seed, f"animal {count}"),
        "colour": pick(COLOURS, seed, f"colour {count}"),
        "number": str(int(digest[:4], 16)),
    }
    template, lifetime_s = pick(TEMPLATES, seed, f"template {count}"), _env.get_hidden_state("lifetime_s")
    answer = {"handshake_id": f"hs_{digest[4:12]}", "phrase": template.format(**words)}
    _env.set_hidden_state("handshakes", count)
    _env.set_hidden_state("pending", {"answer": answer, "expires_at_s": now_s + lifetime_s})
    return _accept({"handshake_id": answer["handshake_id"], "template": template, "words": words, "expires_in": lifetime_s})


def _commit(payload: dict, now_s: int) -> dict:
    """Turn a handshake into a session, once."""
    pending = _env.get_hidden_state("pending")
    if pending is None:
        return _refuse(409, "no_handshake")
    if now_s >= pending["expires_at_s"]:
        return _refuse(410, "handshake_expired")
    if payload != pending["answer"]:
        return _refuse(403, "wrong_phrase")
    session = f"ses_{derive(_env.get_hidden_state('seed'), payload['handshake_id'])[:12]}"
    _env.set_hidden_state("pending", None)
    _env.set_hidden_state("session", session)
    return _accept({"session": session})


def _token(payload: dict, _now_s: int) -> dict:
    session, failures_left = _env.get_hidden_state("session"), _env.get_hidden_state("failures_left")
    if session is None or payload != {"session": session}:
        return _refuse(401, "no_session")
    if failures_left:
        _env.set_hidden_state("failures_left", failures_left - 1)
        return _refuse(503, "temporarily_unavailable", retry_after=_env.get_hidden_state("interval_s"))
    return _accept({"access_token": _env.get_hidden_state("token")})


def _accept(body: dict) -> dict:
    return {"ok": True, "status": 200, "body": body}


def _refuse(status: int, error: str, **more: int) -> dict:
    return {"ok": False, "status": status, "error": error, **more}
