"""Where requests go: the URL of a server, the key that it gets, and the proxy that stands in between.

Requests to this machine never take a proxy, whatever the environment says, and elsewhere the proxy has a name that can
be told before anything is sent: pictures of people must not go where nobody meant them to.
"""

import ipaddress
import os
import re
import socket
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.util import find_spec
from urllib.parse import urlsplit
from urllib.request import getproxies

from textreid.errors import ConfigError

OPENAI_VARIABLE = "OPENAI_API_KEY"
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_OPENAI_HOST = "api.openai.com"
_LONGEST_MESSAGE = 300  # characters
# Servers repeat the key that they refuse, some with stars in the middle.
_KEY_LIKE = re.compile(r"\b(sk|pk|key|hf|gsk|xai|api)[-_][\w*-]{8,}")
# As the hosts files of Debian and Red Hat have them.
_LOOPBACK_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")


def checked_url(url: str, option: str = "") -> str:
    """Return the base URL of an API without a slash at its end.

    Args:
        url: such as ``http://localhost:8000/v1``.
        option: what the error begins with: where the URL was given.

    Raises:
        ConfigError: it is not a URL of http or https, or holds a user, a password or a query, which the error does not
            repeat.
    """
    begin = f"{option}: " if option else ""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # read here, for it is only reading that raises
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.username or parts.password or parts.query:
        raise ConfigError(
            f"{begin}a URL must not hold a user, a password or a query; put the key into an environment variable"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"{begin}{url!r} is not the URL of a server; write one such as http://localhost:8000/v1")
    return url.rstrip("/")


@dataclass(frozen=True)
class Key:
    """Key of an endpoint, which may be empty; it does not show.

    Attributes:
        value: of the key.
        advice: what to do when the endpoint does not accept it.
    """

    value: str = field(default="", repr=False)
    advice: str = "it wants a key"

    @property
    def headers(self) -> dict[str, str]:
        """What a request carries."""
        return {"authorization": f"Bearer {self.value}"} if self.value else {}

    def redact(self, text: str) -> str:
        """Return ``text`` on one line, cut to 300 characters, without the key and what looks like a part of one."""
        if self.value:
            text = text.replace(self.value, "[key]")
        text = " ".join(_KEY_LIKE.sub("[key]", text).split())
        return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"


def key_variable(name: str) -> str:
    """Return the environment variable with the key of the endpoints called ``name``: ``QWEN_API_KEY`` for ``qwen``."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper()) + "_API_KEY"


def key_for(name: str, url: str) -> Key:
    """Return the key that may go to ``url``, an endpoint called ``name``.

    The variable of the name goes to any endpoint that was given this name. ``OPENAI_API_KEY``, which many have set for
    other programs, goes to https://api.openai.com and nowhere else, whatever the name.

    Raises:
        ConfigError: the key has characters that no header can carry.
    """
    own, at_openai = key_variable(name), _is_openai(url)
    variables = [own] if own != OPENAI_VARIABLE else []
    variables += [OPENAI_VARIABLE] if at_openai else []
    for variable in variables:
        value = os.environ.get(variable, "").strip()
        if value and not (value.isascii() and value.isprintable() and " " not in value):
            raise ConfigError(f"the environment variable {variable} holds characters that a key cannot have")
        if value:
            return Key(value, f"check the key in the environment variable {variable}")
    advice = f"set the environment variable {' or '.join(variables)}" if variables else "give it another NAME"
    return Key(advice=advice if at_openai else f"{advice} ({OPENAI_VARIABLE} is sent to https://{_OPENAI_HOST} only)")


def _is_openai(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" and parts.hostname == _OPENAI_HOST and parts.port in {None, 443}


@dataclass(frozen=True)
class Proxy:
    """A proxy that the environment names; its user and password do not show.

    Attributes:
        url: of the proxy.
        variable: the environment variable that names it.
    """

    url: str = field(repr=False)
    variable: str

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]} ({self.variable})"


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy that requests to ``url`` go through, None where they go straight.

    As curl has it: ``HTTP_PROXY``, ``HTTPS_PROXY`` or else ``ALL_PROXY``, but for the hosts of ``NO_PROXY``; and never
    for this machine (127.0.0.0/8, ::1, localhost and what else means it).

    Raises:
        ConfigError: the proxy is of a kind that cannot be used; names the variable.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    proxies = getproxies()
    kind = parts.scheme if proxies.get(parts.scheme) else "all"
    # This machine needs no entry in NO_PROXY: what is meant to stay here must not depend on one.
    address = proxies.get(kind)
    if not address or is_loopback(host) or _is_exempt(host, port, proxies.get("no", "")):
        return None
    # In reverse, small letters come first, as `getproxies` prefers them.
    variable = next(
        (name for name in sorted(os.environ, reverse=True) if name.lower() == f"{kind}_proxy" and os.environ[name]),
        "the system's settings",
    )
    proxy = Proxy(address if "://" in address else f"http://{address}", variable)
    way_out = f"unset it, or add {host} to NO_PROXY"
    try:
        scheme, where, _ = urlsplit(proxy.url).scheme, urlsplit(proxy.url).hostname, urlsplit(proxy.url).port
    except ValueError:
        scheme, where = "", None
    if scheme not in ("http", "https", "socks5", "socks5h") or not where:
        raise ConfigError(f"{variable} names a proxy for {host} that is not of http, https or socks5; {way_out}")
    if scheme.startswith("socks") and find_spec("socksio") is None:
        raise ConfigError(
            f"{variable} sends requests to {host} through a SOCKS proxy, which needs a package more: "
            f"pip install socksio; or {way_out}"
        )
    return proxy


def destination(url: str) -> str:
    """Return where what is sent to ``url`` goes, for the user to read before anything is sent."""
    proxy = proxy_for(url)
    if proxy:
        return f"{url} through the proxy {proxy}"
    return f"{url} (this machine)" if is_loopback(urlsplit(url).hostname or "") else url


def is_loopback(host: str) -> bool:
    """Tell whether ``host``, as a URL has it, is this machine.

    >>> [is_loopback(host) for host in ("127.0.0.2", "::1", "LOCALHOST.", "127.1", "gpu.example.org")]
    [True, True, True, True, False]
    """
    name = host.rstrip(".").lower().partition("%")[0]  # an IPv6 address may name an interface: fe80::1%eth0
    if name in _LOOPBACK_NAMES or name.endswith(".localhost"):
        return True
    found = _addresses(name)
    return bool(found) and all(address.is_loopback or address.is_unspecified for address in found)


def _addresses(name: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return the addresses in ``name`` (a resolver also takes 127.1), or behind it if it is short or this machine's."""
    try:
        return [_plain(ipaddress.ip_address(name))]
    except ValueError:
        pass
    try:
        return [ipaddress.IPv4Address(socket.inet_aton(name))]
    except OSError:
        pass
    if "." in name and name != socket.gethostname().lower():
        return []  # a look-up could itself go through the network, and name the host to strangers
    try:
        return [_plain(ipaddress.ip_address(entry[4][0])) for entry in socket.getaddrinfo(name, None)]
    except (OSError, ValueError):
        return []


def _plain(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address inside an IPv6 one (::ffff:127.0.0.1), or the address itself."""
    return getattr(address, "ipv4_mapped", None) or address


def _is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Tell whether an entry of ``NO_PROXY`` is ``host``: a name and those below it, an address, a network."""
    host = host.rstrip(".")
    for entry in re.split(r"[,;\s]+", no_proxy.lower()):
        pattern = entry.partition("://")[2] or entry
        if pattern == "*":
            return True
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(pattern.strip("[]"), strict=False):
                return True
        except ValueError:
            name, _, wanted = pattern.rpartition(":") if re.search(r":\d+$", pattern) else (pattern, "", "")
            name = name.strip("[]").removeprefix("*").strip(".")
            same = host == name or host.endswith(f".{name}") or ("*" in name and fnmatchcase(host, name))
            if name and (not wanted or int(wanted) == port) and same:
                return True
    return False
