"""Finds the key in use for filesystem_hidden_config: looks through the folders, reads the hidden files, answers."""


class ToyAgent:
    """A plan in a few rules; all it knows about the world comes from the observations."""

    def reset(self, task_spec: dict) -> None:
        """Start anew: nothing has been seen yet."""
        self.folders: list[str] = list(task_spec["sandbox"]["filesystem_roots"])
        self.files: list[str] = []
        self.mark = ""  # the line that tells the file in use, once the README has said so
        self.observation: dict = {}

    def observe(self, observation: dict) -> None:
        """Keep what the last action led to."""
        self.observation = observation

    def act(self) -> dict:
        """React to the last result, else look further."""
        action, result = self.observation["last_action"], self.observation["last_action_result"]
        last = action["type"] if action else None
        if last == "list_dir":
            self.remember(result["files"])
        elif last == "read_file" and not self.mark:
            self.mark = result["content"].partition("In use: ")[2].splitlines()[0]
        elif last == "read_file" and self.mark in result["content"].splitlines():
            return {"type": "extract_value", "args": {"content": result["content"], "key": "API_KEY"}}
        elif last == "extract_value":
            return {"type": "set_output", "args": {"key": "API_KEY", "value": result["value"]}}
        return self.look_further()

    def remember(self, paths: list[str]) -> None:
        """Sort what a folder holds: folders to list, the README and hidden files to read."""
        for path in paths:
            name = path.rpartition("/")[2]
            if name == "README.md":
                self.files.insert(0, path)
            elif name.startswith("."):
                self.files.append(path)
            elif "." not in name:
                self.folders.append(path)

    def look_further(self) -> dict:
        """All folders first, then the files one by one."""
        if self.folders:
            return {"type": "list_dir", "args": {"path": self.folders.pop(0)}}
        return {"type": "read_file", "args": {"path": self.files.pop(0)}}
