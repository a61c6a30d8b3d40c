"""Judges the answer after every step."""


def validate(env) -> dict:
    """Pass on the right key; end the episode on a wrong one, so that trying all of them is no way through."""
    answer = env.get_agent_output("API_KEY")
    if answer is None:
        return {"ok": False, "message": "API_KEY has not been set yet"}
    if answer == env.get_hidden_state("api_key"):
        return {"ok": True, "message": "API_KEY is the key in use"}
    return {"ok": False, "terminal": True, "failure_reason": "API_KEY is not the key in use"}
