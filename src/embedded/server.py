"""What PostgreSQL and Valkey have in common as embedded servers."""

import signal
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from embedded.endpoint import Endpoint
from embedded.identity import identity_for
from embedded.process import Launcher, Process, version_of


class Server(ABC):
    """Everything it keeps is in `folder`, which belongs to the one object that starts it.

    Start it from a thread that stays: on Linux the server ends with the thread that started it.
    """

    refuses_root: ClassVar[bool]
    stop_signals: ClassVar[tuple[signal.Signals, ...]]
    version_pattern: ClassVar[str]

    def __init__(self, program: Path, folder: Path, *, log: Path | None, durable: bool) -> None:
        self.version = version_of(program, self.version_pattern)
        self._program = program
        self._folder = folder.resolve()
        self._durable = durable
        self._endpoint = Endpoint(self._folder)
        self._process = Process(log or self._folder / "log")

    @property
    @abstractmethod
    def url(self) -> str: ...

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.alive

    def start(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._endpoint.make_password()
        self._end_leftovers()
        identity = identity_for(self._folder, self._program, refuses_root=self.refuses_root)
        launcher = Launcher(self._folder, identity, self.stop_signals[0])
        self._create_data(launcher)
        self._endpoint.start(lambda port: self._start_on(port, launcher))

    def stop(self) -> None:
        self._process.end(*self.stop_signals)

    def kill(self) -> None:
        self._process.end()

    @abstractmethod
    def _end_leftovers(self) -> None: ...
    @abstractmethod
    def _create_data(self, launcher: Launcher) -> None: ...
    @abstractmethod
    def _start_on(self, port: int, launcher: Launcher) -> None: ...
