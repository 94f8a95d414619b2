"""How this server runs."""

from dataclasses import dataclass

from modelyard.store.engine import Durability


@dataclass(frozen=True)
class Settings:
    """`hosts` are further names by which clients may address the server, beyond the loopback ones; `artifacts` is
    s3://bucket/prefix or a folder, in the yard when empty.
    """

    host: str = "127.0.0.1"
    port: int = 8600
    database: str = ""
    artifacts: str = ""
    durability: Durability = "process"
    hosts: tuple[str, ...] = ()
    tls: bool = False
    loops: bool = True
    """Whether this process runs the controller, scheduler and jobs (not when embedded in a command)."""

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"
