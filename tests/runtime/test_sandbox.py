import pytest
from helpers.tables import rows, words
from hypothesis import example, given
from hypothesis import strategies as st

from tracecore.runtime.sandbox import Sandbox, SandboxViolation, is_host_pattern, is_root


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox(["/app", "/var/log/"], ["api.example.org", "*.Example.com."])


@pytest.mark.parametrize(
    ("path", "normal"),
    rows("""
    /app/        | /app
    //app//a     | /app/a
    /app/./a/.   | /app/a
    app/a        | /app/a
    /var/log/x   | /var/log/x
    /app/...     | /app/...
    /app/ü\N{ESCAPE} | /app/ü\N{ESCAPE}
    """),
)
def test_a_path_below_a_root_comes_back_in_its_normal_form(
    sandbox: Sandbox, path: str, normal: str
) -> None:
    assert sandbox.check_path(path) == normal


OUTSIDE = words("/ . /etc/passwd /application /app/../etc /app/x/.. .. /var")


@pytest.mark.parametrize("path", [*OUTSIDE, "", "/app\0", "/app/" + "a" * 4096])
def test_a_path_outside_the_roots_or_with_tricks_is_a_violation(
    sandbox: Sandbox, path: str
) -> None:
    with pytest.raises(SandboxViolation):
        sandbox.check_path(path)


@given(st.text(alphabet="/.aAp\\\0~ ", max_size=30))
@example("/app/./../etc")
def test_whatever_path_is_allowed_is_absolute_plain_and_below_a_root(text: str) -> None:
    try:
        path = Sandbox(["/app"], []).check_path(text)
    except SandboxViolation:
        return
    assert path == "/app" or path.startswith("/app/")
    assert not {"", ".", ".."} & set(path.split("/")[1:])


def test_the_root_of_everything_allows_everything() -> None:
    assert Sandbox(["/"], []).check_path("etc/passwd") == "/etc/passwd"
    assert Sandbox(["/"], []).check_path("/") == "/"


def test_without_roots_or_hosts_nothing_is_allowed() -> None:
    with pytest.raises(SandboxViolation, match=r"roots \(none\)"):
        Sandbox([], []).check_path("/a")
    with pytest.raises(SandboxViolation, match=r"hosts \(none\)"):
        Sandbox([], []).check_host("a")


def test_a_violation_says_what_was_tried_in_one_bounded_line(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxViolation) as caught:
        sandbox.check_path("/etc/\x1b[31m\n" + "x" * 3000, "read_file")
    assert caught.value.attempt.startswith("read_file /etc/\\x1b[31m\\n")
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()
    assert "outside the roots (/app, /var/log/)" in str(caught.value)


@pytest.mark.parametrize("value", [None, 3, b"/app", ["/app"]])
def test_what_is_no_string_is_an_error_of_the_caller(sandbox: Sandbox, value: object) -> None:
    with pytest.raises(TypeError, match="a path is a string, not"):
        sandbox.check_path(value)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a host is a string, not"):
        sandbox.check_host(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "name"),
    rows("""
    API.Example.ORG             | api.example.org
    api.example.org.            | api.example.org
    api.example.org:443         | api.example.org
    HTTPS://api.example.org:443/v1?q=a@b:99#c | api.example.org
    https://api.example.org?x   | api.example.org
    a.example.com               | a.example.com
    b.a.EXAMPLE.com:80          | b.a.example.com
    """),
)
def test_an_allowed_host_comes_back_bare_and_in_lower_case(
    sandbox: Sandbox, host: str, name: str
) -> None:
    assert sandbox.check_host(host) == name


NOT_PLAINLY_LISTED = words("""
    . example.org x.api.example.org example.com .example.com evilexample.com a..example.com
    api.example.org.. *.example.com
    api.example.org:8080 api.example.org: api.example.org:080 api.example.org:80:443
    ftp://api.example.org file:///etc/passwd ://api.example.org http:// //api.example.org
    api.example.org/path http://api.example.org@evil.net http://evil.net\\@api.example.org
    http://evil.net/@api.example.org http://evil.net#@api.example.org
    http://user:80@api.example.org user@api.example.org
    http://[::1]:80 [::ffff:1.2.3.4] ::1 127.0.0.1
    api.example.org\0 api.example.org\0.example.com
    api%2eexample.org api\u3002example.org \uff41pi.example.org api.example.org\u200b
    xn--pi-7ba.example.org
    """)
PADDED = ["api.example.org\n", " api.example.org", "api.example.org\t"]
TOO_LONG = ["a" * 64 + ".example.com", "http://api.example.org/" + "a" * 3000]


@pytest.mark.parametrize("host", ["", *NOT_PLAINLY_LISTED, *PADDED, *TOO_LONG])
def test_a_host_that_is_not_plainly_on_the_list_is_a_violation(sandbox: Sandbox, host: str) -> None:
    with pytest.raises(SandboxViolation) as caught:
        sandbox.check_host(host)
    assert caught.value.attempt.startswith("connect ")
    assert str(caught.value).isprintable()


def test_a_letter_that_only_lowers_to_ascii_is_refused() -> None:
    with pytest.raises(SandboxViolation):
        Sandbox([], ["k.example.org"]).check_host("\u212a.example.org")  # the Kelvin sign


@pytest.mark.parametrize("root", ["", "app", "/a/../b", "/a\0"])
def test_a_root_must_be_absolute_and_plain(root: str) -> None:
    assert not is_root(root)
    with pytest.raises(ValueError, match="absolute POSIX path"):
        Sandbox([root], [])


@pytest.mark.parametrize(
    "host",
    ["", "*", "*.", "*example.org", "a.*.org", "http://a.org", "a.org:80", "a b", "[::1]", "ü.org"],
)
def test_a_listed_host_must_be_a_name_or_a_suffix(host: str) -> None:
    assert not is_host_pattern(host)
    with pytest.raises(ValueError, match="neither a host name"):
        Sandbox([], [host])
