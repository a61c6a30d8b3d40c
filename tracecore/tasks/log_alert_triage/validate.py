"""Judges the answer after every step."""


def validate(env) -> dict:
    """Pass on the right code; end the episode on a wrong one, so that trying all of them is no way through."""
    answer = env.get_agent_output("ALERT_CODE")
    if answer is None:
        return {"ok": False, "message": "ALERT_CODE has not been set yet"}
    if answer == env.get_hidden_state("alert_code"):
        return {"ok": True, "message": "ALERT_CODE is the open alert's code"}
    return {"ok": False, "terminal": True, "failure_reason": "ALERT_CODE is not the open alert's code"}
