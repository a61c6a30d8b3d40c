"""The world: five alerts, each with a trail through three logs, of which one is critical and still open."""

import hashlib

SERVICES = ("billing", "catalog", "gateway", "search")
ALERTS = 5
SETTLED = ("severity=critical status=resolved", "severity=warning status=open", "severity=warning status=resolved")


def setup(seed: int, env) -> None:
    """Write the logs, and remember the code at the end of the right trail."""
    logs: dict[str, list[str]] = {name: [] for name in ("alerts", *SERVICES)}
    wanted = _digest(seed, "wanted")[0] % ALERTS
    for place in range(ALERTS):
        digest = _digest(seed, f"alert {place}")
        minute = 12 + 7 * place
        incident, trace, code = f"INC-{digest[0]:03d}{place}", digest[1:5].hex(), f"AC-{digest[5:9].hex().upper()}"
        first = digest[9] % len(SERVICES)
        cause = (first + 1 + digest[10] % (len(SERVICES) - 1)) % len(SERVICES)
        standing = "severity=critical status=open" if place == wanted else SETTLED[digest[11] % len(SETTLED)]
        logs["alerts"].append(f"09:{minute} incident={incident} {standing} service={SERVICES[first]}")
        logs[SERVICES[first]].append(f"09:{minute - 1} WARN incident={incident} trace={trace} upstream={SERVICES[cause]}")
        logs[SERVICES[cause]].append(f"09:{minute - 2} ERROR trace={trace} code={code}")
        if place == wanted:
            env.set_hidden_state("alert_code", code)
    for name, lines in logs.items():
        env.write_file(f"/app/logs/{name}.log", "".join(f"{line}\n" for line in lines))


def _digest(seed: int, label: str) -> bytes:
    """32 bytes that depend on the seed and the label alone, on every machine and Python."""
    return hashlib.sha256(f"log_alert_triage:{seed}:{label}".encode()).digest()
