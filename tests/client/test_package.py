"""What the package exports, imports and documents."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import credit_scoring_client
from credit_scoring_client.client import AsyncClient, Client
from starlette.responses import JSONResponse, PlainTextResponse

from tests.client.examples import DECISION_FIELDS, decided

HOME = Path(credit_scoring_client.__file__).parent


def test_every_public_name_is_exported():
    imported = {name for name, value in vars(credit_scoring_client).items() if not inspect.ismodule(value)}
    public = {name for name in imported if not name.startswith("_")} | {"__version__"}
    assert credit_scoring_client.__all__ == sorted(public)


def test_importing_it_imports_httpx_and_nothing_else_of_this_environment():
    code = (
        "import sys, httpx; before = set(sys.modules); import credit_scoring_client; print(*set(sys.modules) - before)"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=HOME.parent, capture_output=True, text=True, check=True)
    foreign = {name.partition(".")[0] for name in found.stdout.split()} - sys.stdlib_module_names
    assert foreign == {"credit_scoring_client"}


def test_both_clients_have_the_same_calls():
    names = [name for name, value in vars(Client).items() if inspect.isfunction(value) and name[0] != "_"]
    for name in set(names) - {"close"}:
        blocking, coroutine = getattr(Client, name), getattr(AsyncClient, name)
        assert inspect.iscoroutinefunction(coroutine)
        assert inspect.signature(blocking) == inspect.signature(coroutine)
        assert inspect.getdoc(blocking) == inspect.getdoc(coroutine)


def test_the_example_of_the_readme_runs(server, capsys):
    [code] = re.findall(r"```python\n(.*?)```", (HOME.parent / "README.md").read_text(), re.DOTALL)
    rejected = {"index": 1, "status": "rejected", "errors": []}
    batch = JSONResponse({"model_version": "7", "results": [DECISION_FIELDS, rejected]})
    server.answers = [PlainTextResponse(""), decided(), batch]
    exec(code.replace("http://127.0.0.1:3000", server.url), {})  # noqa: S102 - the text under test
    assert capsys.readouterr().out == "decline 431\nHIGH\n()\n"
