"""The Spark session that is used: one that is running already, or one that is started here and stopped by its last user.

What Java prints while it starts stays off the screen, and is quoted if it does not start; nothing has been read by then. What
it and its workers print later may quote rows, and goes nowhere. On this machine Spark keeps what it puts on disk in a private
folder of ours, which is removed also where Java was killed, unless its configuration names another place.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired
from threading import Event, RLock, Thread
from typing import TYPE_CHECKING

from dpsynth.errors import OperationError
from dpsynth.schema.quoting import quoted
from dpsynth.scratch import Scratch
from dpsynth.silence import no_warnings

if TYPE_CHECKING:
    from py4j.java_gateway import JavaGateway  # type: ignore[import-untyped]
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

_SETTINGS = {
    "spark.app.name": "dpsynth",
    "spark.log.level": "OFF",  # its messages may quote rows
    "spark.ui.enabled": "false",
    "spark.eventLog.enabled": "false",  # it counts the rows of every step
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.caseSensitive": "true",
}
"""Of a session that is made here; where it runs, and with what, is Spark's own configuration."""
_NOT_STARTED = "Spark did not start: check its configuration, Java and JAVA_HOME"
_DIED = "the Spark session that this program was running has died: start the program anew"
_REMOTE = ("SPARK_REMOTE", "SPARK_CONNECT_MODE_ENABLED")  # another machine's session: no Java is started here
_ENDING = 30  # seconds that Java may take to end
_LOCK = RLock()
_own: list[_Own] = []  # the one session that was started here, if any


@dataclass
class _Own:
    """A session that was started here; `end` stops it and removes what it leaves."""

    session: SparkSession
    end: ExitStack
    users: int = 0


@contextmanager
def running_session() -> Iterator[SparkSession]:
    """The session that is running; else one that is started here, and stopped when nobody is in this context any more.

    Raises:
        OperationError: it does not start, or somebody else's has died.
    """
    silence_its_tracebacks()
    with _LOCK:
        session = None if _own else _found()
        ours = session is None
        if ours:
            if not _own:
                _own.append(_started())
            session = _own[0].session
            _own[0].users += 1
    assert session is not None
    try:
        yield session
    finally:
        if ours:
            with _LOCK:
                _own[0].users -= 1
                if not _own[0].users:
                    _own.pop().end.close()


def silence_its_tracebacks() -> None:
    """Keeps off the screen what Spark's connection logs, past every logger of its own, when Java dies."""
    logging.getLogger().addFilter(_not_of_the_connection)  # a second time changes nothing


def _not_of_the_connection(record: logging.LogRecord) -> bool:
    return "py4j" not in Path(record.pathname).parts


def _found() -> SparkSession | None:
    from py4j.protocol import Py4JError  # type: ignore[import-untyped]
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    try:
        return SparkSession.active()  # also one that another thread made
    except PySparkRuntimeError:
        return None
    except (Py4JError, OSError):
        raise OperationError(_DIED) from None


def _started() -> _Own:
    from py4j.protocol import Py4JError
    from pyspark import SparkConf, SparkContext
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # the setting of that name is read by spark-submit only
    there = SparkContext._active_spark_context is not None  # somebody's own, without a session so far
    end, words = ExitStack(), _Words()
    try:
        with no_warnings():
            conf = SparkConf().setAll(list(_SETTINGS.items()))
            if not there and not any(name in os.environ for name in _REMOTE):
                gateway, launched = SparkContext._gateway, None
                if gateway is None:
                    gateway = launched = _launched(conf, words)
                jvm_conf = SparkConf(_jvm=gateway.jvm)
                if _keeps_rows_here(jvm_conf):
                    scratch = Scratch()
                    end.callback(scratch.remove)
                    conf.set("spark.local.dir", str(scratch.path))
                if launched is not None:
                    end.callback(_ended, launched)
                context = SparkContext(conf=conf, gateway=gateway)
                end.callback(_stop, context)
                listener = getattr(context, "_accumulatorServer", None)  # prints a traceback when Java dies
                if listener is not None:
                    listener.handle_error = _say_nothing
            session = SparkSession.builder.config(map=dict(_SETTINGS)).getOrCreate()
    except BaseException as error:
        end.close()
        if not there:
            _forget()
        if isinstance(error, PySparkException | Py4JError | OSError | AttributeError):
            raise OperationError(_NOT_STARTED + words.quoted()) from None
        raise
    finally:
        words.forget()
    if not there:
        end.callback(_stop, session)
    return _Own(session, end)


def _keeps_rows_here(conf: object) -> bool:
    """Whether rows on disk lie on this machine, in a folder that nobody chose."""
    get = conf.get  # type: ignore[attr-defined]
    chosen = get("spark.local.dir", None) or os.environ.get("SPARK_LOCAL_DIRS")
    return not chosen and str(get("spark.master", "local")).startswith("local")


def _say_nothing(*_: object) -> None:
    pass


def _stop(running: SparkSession | SparkContext) -> None:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        with no_warnings():
            running.stop()
    except (PySparkException, Py4JError, OSError, AttributeError):  # it ended before us
        _forget()


def _ended(gateway: JavaGateway) -> None:
    """Ends the Java that was started here: it would keep rows in memory, and write into a folder that is gone."""
    from py4j.protocol import Py4JError

    with suppress(Py4JError, OSError):
        gateway.shutdown()
    with suppress(OSError, TimeoutExpired):
        gateway.proc.stdin.close()  # it ends when its parent lets go
        gateway.proc.wait(timeout=_ENDING)
    _forget()


def _forget() -> None:
    """Makes PySpark start Java anew: of one that has died it keeps the address, and the session as if it were running."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    SparkContext._active_spark_context = SparkContext._gateway = SparkContext._jvm = None
    SparkSession._instantiatedSession = SparkSession._activeSession = None


def _launched(conf: object, words: _Words) -> JavaGateway:
    from pyspark.java_gateway import launch_gateway

    try:
        return launch_gateway(conf, popen_kwargs={"stderr": words.sink})  # type: ignore[no-untyped-call]
    finally:
        words.close_sink()


class _Words:
    """What Java prints on its way; kept until it runs, and from then on dropped."""

    def __init__(self) -> None:
        source, self.sink = os.pipe()
        self._open = True
        self._lines: list[str] = []
        self._done = Event()
        self._listener = Thread(target=self._listen, args=(source,), daemon=True)
        self._listener.start()

    def _listen(self, source: int) -> None:
        with os.fdopen(source, errors="replace") as lines:
            for line in lines:
                if not self._done.is_set():
                    self._lines.append(line.strip())

    def close_sink(self) -> None:
        """Java has its own end of the pipe by now."""
        if self._open:
            self._open = False
            os.close(self.sink)

    def quoted(self) -> str:
        """The line that says what went wrong, as the end of a sentence; nothing where there is none."""
        self.close_sink()
        self._listener.join(timeout=2)  # seconds: it ends when Java has
        lines = [line for line in self._lines if line and "WARN" not in line]
        telling = [line for line in lines if "Exception" in line or "rror" in line] or lines[:1]
        return f"; Java said {quoted(telling[0], 200)}" if telling else ""

    def forget(self) -> None:
        """From here on, what comes may quote rows."""
        self._done.set()
        self._lines.clear()
        self.close_sink()
