"""Gets the token of rate_limited_chain: handshake, filled template, session, token; starts over if it was too slow."""


class ChainAgent:
    """Holds the next request until the service lets it through."""

    def reset(self, task_spec: dict) -> None:  # noqa: ARG002 - part of the interface
        """Start anew, with the handshake."""
        self.request: dict = {"endpoint": "/handshake"}
        self.result: dict | None = None

    def observe(self, observation: dict) -> None:
        """Let each new answer of the service decide the next request."""
        self.result = observation["last_action_result"] or {}
        body = self.result.get("body", {})
        if "template" in body:
            phrase = body["template"].format(**body["words"])
            payload = {"handshake_id": body["handshake_id"], "phrase": phrase}
            self.request = {"endpoint": "/handshake_commit", "payload": payload}
        elif "session" in body:
            self.request = {"endpoint": "/token", "payload": {"session": body["session"]}}
        elif self.result.get("error") == "handshake_expired":
            self.request = {"endpoint": "/handshake"}

    def act(self) -> dict:
        """Answer if the token is there, wait where told to, else send the request that is due."""
        result = self.result or {}
        if "access_token" in result.get("body", {}):
            token = result["body"]["access_token"]
            return {"type": "set_output", "args": {"key": "ACCESS_TOKEN", "value": token}}
        if "retry_after" in result:
            return {"type": "wait", "args": {"seconds": result["retry_after"]}}
        return {"type": "call_api", "args": self.request}
