"""The world: one hidden settings file per stage, of which the README names the stage in use, and a template."""

import hashlib

FOLDERS = ("config", "deploy", "service")
STAGES = ("blue", "green", "canary")

README = """\
# Quote service

Settings lie in hidden files named .runtime-<id>.env, one for each stage.
In use: STAGE={stage}
The keys of the other stages have been revoked. config/template.env is for new installations.
"""

SETTINGS = """\
STAGE={stage}
PORT=8080
API_KEY={key}
"""


def setup(seed: int, env) -> None:
    """Lay out the files, and remember which key is the right one."""
    stage_in_use = STAGES[_digest(seed, "stage in use")[0] % len(STAGES)]
    env.write_file("/app/README.md", README.format(stage=stage_in_use))
    env.write_file("/app/config/template.env", SETTINGS.format(stage=stage_in_use, key="<paste yours here>"))
    for stage in STAGES:
        digest = _digest(seed, stage)
        folder, name, key = FOLDERS[digest[0] % len(FOLDERS)], digest[1:5].hex(), f"qk_{digest[5:15].hex()}"
        env.write_file(f"/app/{folder}/.runtime-{name}.env", SETTINGS.format(stage=stage, key=key))
        if stage == stage_in_use:
            env.set_hidden_state("api_key", key)


def _digest(seed: int, label: str) -> bytes:
    """32 bytes that depend on the seed and the label alone, on every machine and Python."""
    return hashlib.sha256(f"filesystem_hidden_config:{seed}:{label}".encode()).digest()
