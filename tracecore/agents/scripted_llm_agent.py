"""What an agent around a language model looks like: build a prompt, ask, do what the answer says, keep a record.

The model is a stand-in that needs no network: it always answers the same prompt the same way, and solves
filesystem_hidden_config. To use a real model, give the agent another object with ``complete``.
"""

import json

TIMESTAMP = "1970-01-01T00:00:00Z"  # of every answer: the stand-in has no clock
CHARACTERS_PER_TOKEN = 4


class ScriptedModel:
    """Answers a prompt by rules. It remembers nothing: all it knows, it reads in the prompt."""

    provider = "tracecore"
    name = "scripted"
    version = "1"

    def complete(self, prompt: str) -> str:
        """The next action, as JSON text, for a prompt whose lines that begin with ``{`` tell what was done so far."""
        done = [line for line in prompt.splitlines() if line.startswith("{")]
        return json.dumps(next_action(json.loads(f"[{','.join(done)}]")))


class ScriptedLLMAgent:
    """Hands everything it has seen to the model and does what the model says."""

    def __init__(self) -> None:
        """Choose the model."""
        self.model = ScriptedModel()

    def reset(self, task_spec: dict) -> None:
        """Start anew: the prompt opens with the task."""
        actions = [f"{name}({', '.join(parameters)})" for name, parameters in task_spec["actions"].items()]
        self.prompt_lines = [
            f"Task: {task_spec['description']}",
            f"Actions: {', '.join(actions)}",
            "Answer with one action as JSON. Done so far:",
        ]
        self.llm_trace: list[dict] = []

    def observe(self, observation: dict) -> None:
        """Add the last action and its result to the prompt."""
        self.step = observation["step"]
        if observation["last_action"]:
            done = {"action": observation["last_action"], "result": observation["last_action_result"]}
            self.prompt_lines.append(json.dumps(done))

    def act(self) -> dict:
        """Ask the model, put the call on record, and do as it says."""
        prompt = "\n".join(self.prompt_lines)
        completion = self.model.complete(prompt)
        self.llm_trace.append(self.record_of(prompt, completion))
        return json.loads(completion)

    def record_of(self, prompt: str, completion: str) -> dict:
        """One entry of the LLM trace; tokens are counted as characters of both texts over four, rounded up."""
        who = {"provider": self.model.provider, "model": self.model.name, "shim_used": True}
        return {
            "request": {**who, "prompt": prompt, "metadata": {"version": self.model.version, "step": self.step}},
            "response": {
                **who,
                "completion": completion,
                "success": True,
                "error": None,
                "tokens_used": -(-(len(prompt) + len(completion)) // CHARACTERS_PER_TOKEN),
                "calls_used": 1,
                "timestamp": TIMESTAMP,
            },
        }


def next_action(done: list[dict]) -> dict:
    """The stand-in at work: list the folders, read the README, read hidden files until one bears its mark, answer."""
    if done and done[-1]["action"]["type"] == "extract_value":
        return {"type": "set_output", "args": {"key": "API_KEY", "value": done[-1]["result"]["value"]}}
    listed = {step["action"]["args"]["path"]: step["result"]["files"] for step in done if "files" in step["result"]}
    texts = {step["action"]["args"]["path"]: step["result"]["content"] for step in done if "content" in step["result"]}
    mark = texts.get("/app/README.md", "").partition("In use: ")[2].partition("\n")[0]
    for text in texts.values():
        if mark and mark in text.splitlines():
            return {"type": "extract_value", "args": {"content": text, "key": "API_KEY"}}
    known = ["/app", *(path for paths in listed.values() for path in paths)]
    for path in known:
        if path not in listed and "." not in path:
            return {"type": "list_dir", "args": {"path": path}}
    wanted = [path for path in known if path.endswith("/README.md")] + [path for path in known if "/." in path]
    return {"type": "read_file", "args": {"path": next(path for path in wanted if path not in texts)}}
