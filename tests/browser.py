"""A real browser for tests: Chromium without a window, driven by keys over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_SECONDS = 120.0
_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowDown": 40}
Result = TypeVar("Result")


class Browser:
    """One page of a browser. Each call waits for its end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._loop = loop
        self._socket = socket
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a method of the protocol."""
        return self._loop.run_until_complete(self._called(method, parameters))

    async def _called(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json(timeout=_SECONDS)
            if message.get("id") == self._number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, url: str) -> Self:
        """Load a page."""
        self.call("Page.navigate", url=url)
        return self.until("document.readyState === 'complete'")

    def until(self, expression: str) -> Self:
        """Wait until an expression holds."""
        deadline = time.monotonic() + _SECONDS
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, expression
            time.sleep(0.02)
        return self

    def press(self, key: str, times: int = 1, *, shift: bool = False) -> Self:
        """Press a key."""
        text = {"Enter": "\r", " ": " "}.get(key)
        pressed = {"key": key, "windowsVirtualKeyCode": _KEYS[key], "modifiers": 8 * shift}
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", type="keyDown", **pressed, **({"text": text} if text else {}))
            self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)
        return self

    def type(self, text: str) -> Self:
        """Type a text where the focus is."""
        self.call("Input.insertText", text=text)
        return self

    def tab_to(self, element: str) -> Self:
        """Press the Tab key until the element with this id, or the summary with these words, has the focus."""
        words = json.dumps(element)
        here = f"document.activeElement.id === {words} || document.activeElement.textContent.trim() === {words}"
        for _ in range(400):
            if self.evaluate(here):
                return self
            self.press("Tab")
        raise AssertionError(f"the Tab key does not reach {element}")

    def focused(self) -> str:
        """The id of the element that has the focus."""
        return str(self.evaluate("document.activeElement.id"))

    def show(self, width: int, height: int, *, dark: bool = False) -> Self:
        """Set the size of the page, and its colours."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        return self

    def picture(self, path: Path) -> None:
        """Write the whole page as PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(found["data"]))

    def tree(self) -> list[tuple[str, str]]:
        """Roles and names in the accessibility tree, in the order in which they are read."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """A browser with one empty page; `folder` takes its profile."""
    assert PROGRAM is not None
    command = [
        PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--remote-debugging-port=0", f"--user-data-dir={folder}",
        "about:blank",
    ]  # fmt: skip
    loop = asyncio.new_event_loop()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield from _connected(loop, _port(folder / "DevToolsActivePort", process))
        finally:
            process.terminate()
            process.wait(_SECONDS)
            loop.close()


def _connected(loop: asyncio.AbstractEventLoop, port: str) -> Iterator[Browser]:
    run: Callable[[Coroutine[Any, Any, Any]], Any] = loop.run_until_complete
    session = run(_session())
    try:
        socket = run(_page_of(session, port))
        browser = Browser(loop, socket)
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            browser.call(f"{domain}.enable")
        yield browser
        run(socket.close())
    finally:
        run(session.close())


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()


async def _page_of(session: aiohttp.ClientSession, port: str) -> aiohttp.ClientWebSocketResponse:
    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
        pages = [one for one in await answer.json() if one["type"] == "page"]
    return await session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)


def _port(file: Path, process: subprocess.Popen[bytes]) -> str:
    """The port that the browser chose: it writes it down once it listens."""
    deadline = time.monotonic() + _SECONDS
    while not file.is_file() or "\n" not in file.read_text():
        assert process.poll() is None, "the browser ended"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return file.read_text().partition("\n")[0]
