"""What a task's world may reach: paths below its roots, and hosts on its list. Nothing here touches
disk or network.
"""

import re
from collections.abc import Iterable

from tracecore.errors import one_line

PATH_LIMIT = 4096  # characters of a path, as on a real disk
HOST_LIMIT = 2048  # characters of a host or URL
SCHEMES = ("http", "https")
PORTS = ("80", "443")

_SHOWN = 200  # characters of an attempt that a message repeats
_LABEL_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")


class SandboxViolation(Exception):
    """A path or host was asked for that the task does not allow.

    Attributes:
        attempt: What was tried: ``read_file /etc/passwd``, ``connect example.org``. One line,
            bounded.
        reason: Why it was refused.
    """

    def __init__(self, attempt: str, reason: str) -> None:
        self.attempt = _shown(attempt)
        self.reason = reason
        super().__init__(f"{self.attempt}: {reason}")


class Sandbox:
    """The roots and hosts that one task allows.

    Args:
        filesystem_roots: Absolute POSIX paths; each allows itself and all below it.
        network_hosts: Host names, or ``*.suffix`` for every subdomain of ``suffix`` (but not
            ``suffix`` itself).

    Raises:
        ValueError: A root or host is not of that form.
    """

    __slots__ = ("_hosts", "_prefixes", "_suffixes", "filesystem_roots", "network_hosts")

    def __init__(self, filesystem_roots: Iterable[str], network_hosts: Iterable[str]) -> None:
        self.filesystem_roots = tuple(filesystem_roots)
        self.network_hosts = tuple(network_hosts)
        if wrong := [root for root in self.filesystem_roots if not is_root(root)]:
            raise ValueError(f"not an absolute POSIX path without `..`: {wrong[0]!r}")
        if wrong := [host for host in self.network_hosts if not is_host_pattern(host)]:
            raise ValueError(f"neither a host name nor *.suffix: {wrong[0]!r}")
        names = [host.lower().removesuffix(".") for host in self.network_hosts]
        self._prefixes = tuple(
            _as_prefix(normal_path(root) or "/") for root in self.filesystem_roots
        )
        self._hosts = frozenset(name for name in names if not name.startswith("*."))
        self._suffixes = tuple(name[1:] for name in names if name.startswith("*."))

    def check_path(self, path: str, op: str = "open") -> str:
        """``path`` in its one normal form: absolute, without ``.``, doubled or trailing slashes.

        Args:
            path: A POSIX path; a relative one starts at ``/``.
            op: What is to be done with it, for the words of a violation.

        Raises:
            SandboxViolation: It holds ``..`` or NUL, is too long, or lies outside every root.
            TypeError: It is not a string.
        """
        # as it mostly is: normal already, and below a root
        is_short = type(path) is str and len(path) <= PATH_LIMIT
        if is_short and _is_normal(path) and f"{path}/".startswith(self._prefixes):
            return path
        normal = normal_path(path)
        if normal is None:
            raise SandboxViolation(
                f"{op} {path}", f"`..`, NUL and more than {PATH_LIMIT} characters are refused"
            )
        if not _as_prefix(normal).startswith(self._prefixes):
            raise SandboxViolation(
                f"{op} {path}", f"outside the roots ({_listed(self.filesystem_roots)})"
            )
        return normal

    def check_host(self, host: str) -> str:
        """The bare, lower-case host name that ``host`` means.

        Args:
            host: A host, ``host:port`` or a URL; http and https, on ports 80 and 443.

        Raises:
            SandboxViolation: It means no host, another scheme or port, or a host that is not on the
                list.
            TypeError: It is not a string.
        """
        attempt = f"connect {host}"
        name = _host_of(host, attempt)
        if name not in self._hosts and not name.endswith(self._suffixes):
            raise SandboxViolation(attempt, f"not among the hosts ({_listed(self.network_hosts)})")
        return name


_at_authority_end = re.compile("[/?#]").split
_is_normal = re.compile(r"(?:/(?!\.\.?(?:/|\Z))[^/\0]+)+").fullmatch


def normal_path(path: str) -> str | None:
    """``path`` made absolute and free of ``.``, doubled and trailing slashes; None if no sandbox
    would have it.
    """
    if not isinstance(path, str):
        raise TypeError(f"a path is a string, not {type(path).__name__}")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path or len(path) > PATH_LIMIT:
        return None
    return "/" + "/".join(parts)


def is_root(text: str) -> bool:
    """Whether ``text`` may stand in ``filesystem_roots``: an absolute POSIX path without ``..``."""
    return text.startswith("/") and normal_path(text) is not None


def is_host_pattern(text: str) -> bool:
    """Whether ``text`` may stand in ``network_hosts``: a host name, or ``*.`` and a host name."""
    return _host_name(text.removeprefix("*.")) is not None


def _host_of(text: str, attempt: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"a host is a string, not {type(text).__name__}")
    # One reader's host is another's path: whatever URL parsers disagree on (spaces, control
    # characters, backslashes, letters that only look like ASCII, user names in front of the host)
    # is refused before it is taken apart.
    if (
        len(text) > HOST_LIMIT
        or not text.isascii()
        or not text.isprintable()
        or " " in text
        or "\\" in text
    ):
        raise SandboxViolation(attempt, "not a host name or URL in plain ASCII")
    scheme, separator, rest = text.partition("://")
    if separator and scheme.lower() not in SCHEMES:
        raise SandboxViolation(attempt, "only http and https are allowed")
    authority = _at_authority_end(rest, 1)[0] if separator else text
    host, separator, port = authority.partition(":")
    name = _host_name(host)
    if name is None:
        raise SandboxViolation(
            attempt, "not a host name; IP literals in brackets and user names are refused"
        )
    if separator and port not in PORTS:
        raise SandboxViolation(attempt, "only ports 80 and 443 are allowed")
    return name


def _host_name(text: str) -> str | None:
    """The host in its one normal form, or None.

    A single trailing dot means "absolute" and changes nothing.
    """
    if not text.isascii():  # before lower(): the Kelvin sign would become a k
        return None
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(
        0 < len(label) <= 63 and _LABEL_CHARACTERS.issuperset(label) for label in labels
    ):
        return None
    return name


def _as_prefix(path: str) -> str:
    return path if path == "/" else path + "/"


def _listed(allowed: tuple[str, ...]) -> str:
    return _shown(", ".join(allowed)) or "none"


def _shown(text: str) -> str:
    return one_line(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")
