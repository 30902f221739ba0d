"""What an administrator decides when the service is started."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from textreid.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """How a gallery is served.

    Attributes:
        gallery: its name.
        database: address of a PostgreSQL server; None takes ``$TEXTREID_DATABASE``, or the embedded one.
        host: name or address to listen at; only this machine by default.
        port: 0 takes any that is free.
        connections: to the database; so many searches run at once, others queue.
        certificate: file with the certificate for HTTPS, and those that vouch for it.
        key: file with its private key.
        require_purpose: whether a search must say what it is for.
        keep_days: after which crops are erased; None keeps them.
        rate: requests a second that an account may send for long.
        alerts: file with the destinations of alerts; None for no alerts.
        upload_mb: MiB that one upload may have; 0 allows none.
    """

    gallery: str
    database: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    connections: int = 4
    certificate: Path | None = None
    key: Path | None = None
    require_purpose: bool = False
    keep_days: float | None = None
    rate: float = 50.0
    upload_mb: int = 256
    alerts: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"--port: expected 0 to 65535, got {self.port}")
        if not 1 <= self.connections <= 64:
            raise ConfigError(f"--connections: expected 1 to 64, got {self.connections}")
        if self.keep_days is not None and not self.keep_days > 0:
            raise ConfigError(f"--keep-days: expected more than 0, got {self.keep_days}")
        if not self.rate > 0:
            raise ConfigError(f"--rate: expected more than 0, got {self.rate}")
        if not 0 <= self.upload_mb <= 100_000:
            raise ConfigError(f"--upload-mb: expected 0 to 100000, got {self.upload_mb}")
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("HTTPS needs both --certificate and --key")
        for option, path in (("--certificate", self.certificate), ("--key", self.key), ("--alerts", self.alerts)):
            if path is not None and not path.is_file():
                raise ConfigError(f"{option} {path}: there is no such file")

    @property
    def is_local(self) -> bool:
        """Whether nobody on another machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def hosts(self) -> frozenset[str]:
        """Names by which a browser on this machine calls the service."""
        return frozenset({"localhost", "127.0.0.1", "::1", self.host})
