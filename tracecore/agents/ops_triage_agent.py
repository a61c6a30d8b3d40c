"""Follows the trail of log_alert_triage: the open critical alert, its incident, its trace, the code."""


class OpsTriageAgent:
    """One search leads to the next; each log line is read as ``name=value`` fields."""

    def reset(self, task_spec: dict) -> None:  # noqa: ARG002 - part of the interface
        """Start anew: the trail begins at the alerts."""
        self.logs: list[str] = []
        self.found: dict[str, str] = {}

    def observe(self, observation: dict) -> None:
        """Add the fields of what the last search found."""
        self.logs = observation["visible_state"]["files_seen"]
        for line in (observation["last_action_result"] or {}).get("lines", []):
            self.found |= dict(word.split("=", 1) for word in line.split() if "=" in word)

    def act(self) -> dict:
        """Take the step that the fields found so far allow."""
        found = self.found
        if not self.logs:
            return {"type": "list_dir", "args": {"path": "/app/logs"}}
        if "code" in found:
            return {"type": "set_output", "args": {"key": "ALERT_CODE", "value": found["code"]}}
        if "trace" in found:
            return self.search(found["upstream"], f"trace={found['trace']}")
        if "incident" in found:
            return self.search(found["service"], f"incident={found['incident']}")
        return self.search("alerts", "severity=critical status=open")

    def search(self, name: str, text: str) -> dict:
        """The action that looks for a text in one of the logs."""
        path = next(log for log in self.logs if log.endswith(f"/{name}.log"))
        return {"type": "search_file", "args": {"path": path, "text": text}}
