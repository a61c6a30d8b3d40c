#!/usr/bin/env python3
"""What agents on an SDK reach whose model answers after half a second: the share of the ideal rate,
and the processor time of an episode beside that of a plain agent, in one run.

Needs the package openai and the models extra. Prints a table to stderr and one JSON object to
stdout.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
HARNESS = os.path.join(ROOT, "scripts", "perf_harness.py")
TASK = os.path.join(ROOT, "tests", "helpers", "tasks", "plain")
SHARE_AIM, CPU_AIM_MS = 0.75, 30.0
BODY = {
    "id": "c",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "look"}}
    ],
    "usage": {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7},
}
SDK = """\
import openai
class Agent:
    def reset(self, spec):
        self.client, self.step = openai.OpenAI(), 0
    def observe(self, observation):
        self.step = observation["step"]
    def act(self):
        asked = [{{"role": "user", "content": f"step {{self.step}}"}}]
        answer = self.client.chat.completions.create(model="m", messages=asked)
        return {{"type": answer.choices[0].message.content if self.step < {steps} else "finish"}}
"""
PLAIN = """\
class Agent:
    def reset(self, spec): self.step = 0
    def observe(self, observation): self.step = observation["step"]
    def act(self): return {{"type": "look" if self.step < {steps} else "finish"}}
"""


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--episodes", type=int, default=384)
    parser.add_argument("--calls", type=int, default=8, help="of each episode")
    parser.add_argument("--answers-after", type=float, default=0.5, metavar="SECONDS")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, stand_in(options) as url:
        write_task(os.path.join(scratch, "tasks", "plain"), steps=options.calls + 1)
        plain = run(PLAIN, options, scratch, None)
        sdk = run(SDK, options, scratch, url)
    ideal = options.slots / (options.calls * options.answers_after)
    report = {
        "share of the ideal rate": (sdk["per_s"] / ideal, f">= {SHARE_AIM}"),
        "CPU of an episode over a plain one, ms": (
            1000 * (sdk["cpu_s"] - plain["cpu_s"]),
            f"<= {CPU_AIM_MS:g}",
        ),
        "CPU of an episode, the whole tree with the gateway, ms": (1000 * sdk["tree_cpu_s"], ""),
        "CPU of a plain episode, the whole tree, ms": (1000 * plain["tree_cpu_s"], ""),
        "episodes/s, ideal": (ideal, ""),
        "episodes/s": (sdk["per_s"], ""),
    }
    for name, (value, aim) in report.items():
        print(f"{name:58} {value:8.2f}  {aim}", file=sys.stderr)
    print(json.dumps({"options": vars(options), **{name: row[0] for name, row in report.items()}}))
    return 0


def write_task(folder: str, steps: int) -> None:
    """The plain task of the tests, with a budget of so many steps."""
    shutil.copytree(TASK, folder)
    path = os.path.join(folder, "task.toml")
    with open(path, encoding="utf-8") as file:
        manifest = re.sub(r"(?m)^(steps|tool_calls) = .*$", rf"\1 = {steps}", file.read())
    with open(path, "w", encoding="utf-8") as file:
        file.write(manifest)


def run(source: str, options: argparse.Namespace, scratch: str, url: str | None) -> dict[str, Any]:
    """A slice of an agent: episodes per second, and processor time of one, by its row (episode and
    agent) and of all below this process.
    """
    agent = os.path.join(scratch, "agent.py")
    with open(agent, "w", encoding="utf-8") as file:
        file.write(source.format(steps=options.calls))
    with open(os.path.join(scratch, "scenario.json"), "w", encoding="utf-8") as file:
        json.dump([{"agent": agent, "task_ref": "plain@1"}], file)
    words = ["--scenario=scenario.json", "--tasks-dir=tasks", f"--episodes={options.episodes}"]
    words += [f"--workers={options.slots}", "--sample-interval=0", "--progress=never"]
    if url is not None:
        with open(os.path.join(scratch, "models.toml"), "w", encoding="utf-8") as file:
            file.write(f'[[model]]\nname = "openai"\nupstream = "{url}"\n')
        words.append("--models=models.toml")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, HARNESS, *words], cwd=scratch, stdout=subprocess.PIPE, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    end = json.loads(done.stdout)
    with open(os.path.join(scratch, end["artifacts"]["series"]), encoding="utf-8") as file:
        rows = json.load(file)
    assert end["ok"], end["summary"]["failure_reasons"]
    tree_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        # From the first begin: before it the SDK is imported once, whatever the number of episodes.
        "per_s": len(rows)
        / (max(row["end_offset_s"] for row in rows) - min(row["start_offset_s"] for row in rows)),
        "cpu_s": sorted(row["cpu_user_s"] + row["cpu_sys_s"] for row in rows)[len(rows) // 2],
        "tree_cpu_s": tree_s / len(rows),
    }


@contextlib.contextmanager
def stand_in(options: argparse.Namespace) -> Iterator[str]:
    """A model in a process of its own that answers after a while; gives its address."""
    command = [sys.executable, __file__, "--serve", str(options.answers_after)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait()


async def serve(answers_after_s: float) -> None:
    """Answer every request alike, until standard input ends."""
    data = json.dumps(BODY).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError), contextlib.closing(writer):
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                sizes = [line for line in lines if line.startswith(b"content-length:")]
                await reader.readexactly(int(sizes[0].partition(b":")[2]))
                await asyncio.sleep(answers_after_s)
                writer.write(head % len(data) + data)

    server = await asyncio.start_server(talk, "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve(float(sys.argv[2])))
        sys.exit(0)
    sys.exit(main())
