"""Java may die under PySpark, which then goes on with what is left of it; here without Java: nobody listens at its port."""

from __future__ import annotations

import socket
from typing import Any

import pytest

pytest.importorskip("pyspark", reason="pyspark is not installed")

from py4j.clientserver import ClientServer, JavaParameters, PythonParameters  # type: ignore[import-untyped]
from py4j.java_gateway import JavaObject  # type: ignore[import-untyped]
from pyspark import SparkContext
from pyspark.sql import SparkSession

from dpsynth import OperationError
from dpsynth.counting import spark_session
from dpsynth.counting.spark_session import running_session


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A context whose Java is dead, as PySpark holds it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    gateway = ClientServer(JavaParameters(port=port), PythonParameters(port=0, eager_load=False))
    made: Any = object.__new__(SparkContext)
    made._jvm, made._jsc, made._gateway = gateway.jvm, JavaObject("o1", gateway._gateway_client), gateway
    for name, value in {"_gateway": gateway, "_jvm": gateway.jvm, "_active_spark_context": made}.items():
        monkeypatch.setattr(SparkContext, name, value)
    for name in ("_instantiatedSession", "_activeSession"):
        monkeypatch.setattr(SparkSession, name, None)
    return made


def test_a_session_of_the_caller_that_has_died_is_one_sentence(context: Any) -> None:
    with pytest.raises(OperationError, match="has died: start the program anew"), running_session():
        pass
    assert SparkContext._active_spark_context is context


def test_a_java_that_dies_while_it_starts_is_not_used_again(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SparkContext, "_active_spark_context", None)
    with pytest.raises(OperationError, match="Spark did not start"), running_session():
        pass
    assert SparkContext._gateway is None
    assert SparkContext._jvm is None


def test_after_our_own_has_died_the_next_release_starts_another(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dead: Any = object.__new__(SparkSession)
    dead._sc = context
    monkeypatch.setattr(SparkSession, "_instantiatedSession", dead)
    spark_session._stop(dead)
    spark_session._stop(context)
    assert spark_session._found() is None
    assert SparkContext._gateway is None
