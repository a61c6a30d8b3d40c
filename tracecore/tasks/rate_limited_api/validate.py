"""Judges the answer after every step."""


def validate(env) -> dict:
    """Pass on the token that the service hands out; a wrong one may be corrected, since no token can be guessed."""
    answer = env.get_agent_output("ACCESS_TOKEN")
    if answer is None:
        return {"ok": False, "message": "ACCESS_TOKEN has not been set yet"}
    if answer == env.get_hidden_state("token"):
        return {"ok": True, "message": "ACCESS_TOKEN is the service's token"}
    return {"ok": False, "message": "ACCESS_TOKEN is not the service's token"}
