"""Gets the token of rate_limited_api: learns the payload, waits as long as it is told to, tries again."""


class RateLimitAgent:
    """One request at a time, and patience as the service asks for it."""

    def reset(self, task_spec: dict) -> None:  # noqa: ARG002 - part of the interface
        """Start anew: nothing has been learnt yet."""
        self.payload: dict | None = None
        self.result: dict | None = None

    def observe(self, observation: dict) -> None:
        """Keep what the last action led to, and the payload once the documentation has been read."""
        self.result = observation["last_action_result"]
        body = (self.result or {}).get("body", {})
        if "/token" in body:
            self.payload = body["/token"]["payload"]

    def act(self) -> dict:
        """Read the documentation, ask for the token, wait where told to, answer."""
        result = self.result or {}
        if self.payload is None:
            return {"type": "call_api", "args": {"endpoint": "/docs"}}
        if "retry_after" in result:
            return {"type": "wait", "args": {"seconds": result["retry_after"]}}
        if "access_token" in result.get("body", {}):
            token = result["body"]["access_token"]
            return {"type": "set_output", "args": {"key": "ACCESS_TOKEN", "value": token}}
        return {"type": "call_api", "args": {"endpoint": "/token", "payload": self.payload}}
