"""A headless Chromium by the DevTools protocol over pipes, without any package.

The browser reads commands from file descriptor 3 and writes answers and events to 4, each JSON that
a zero byte ends (--remote-debugging-pipe).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
)
_KEYS = {"ArrowDown": 40, "ArrowUp": 38, "ArrowLeft": 37, "ArrowRight": 39, "Enter": 13}


def browser() -> str | None:
    """The program, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Page:
    """A page of a running browser."""

    _write: int
    _read: int
    _session: str = ""
    _last: int = 0
    _rest: bytes = b""
    events: list[dict[str, Any]] = field(default_factory=list)

    def send(self, method: str, **parameters: Any) -> Any:
        """The answer to a command."""
        self._last += 1
        command = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._write, json.dumps(command).encode() + b"\0")
        while True:
            message = self._message()
            if message.get("id") != self._last:
                self.events.append(message)
            elif "error" in message:
                raise RuntimeError(f"{method}: {message['error']}")
            else:
                return message["result"]

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._read, 1 << 20)
            if not part:
                raise RuntimeError("the browser has ended")
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        return found

    def attach(self) -> None:
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        found = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def open(self, file: Path, width: int = 1400, height: int = 1000, **device: Any) -> float:
        """Seconds until the page says that it is ready."""
        metrics = {"deviceScaleFactor": 1, "mobile": False, **device}
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, **metrics)
        self.events.clear()
        began = time.perf_counter()
        self.send("Page.navigate", url=file.resolve().as_uri())
        while self.value("document.body && document.body.dataset.ready") != "yes":
            if time.perf_counter() - began > 30:
                raise RuntimeError(f"{file} does not get ready: {self.problems()}")
            time.sleep(0.02)
        return time.perf_counter() - began

    def scheme(self, name: str) -> None:
        """Light or dark."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.send("Emulation.setEmulatedMedia", features=[feature])

    def value(self, expression: str) -> Any:
        """Of JavaScript, as JSON has it."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def problems(self) -> list[str]:
        """Errors of the console, exceptions, and what was asked of a network."""
        self.value("0")  # what has happened is told before the answer
        found = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"])
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                found.append(str(params["args"]))
            elif method == "Network.requestWillBeSent":
                url = params["request"]["url"]
                if not url.startswith(("file:", "data:")):
                    found.append(f"asked for {url}")
        return found

    def click(self, selector: str) -> None:
        """The middle of the first such element, which is scrolled to."""
        x, y = self.value(
            f"(() => {{const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]})()"
        )
        self.click_at(x, y)

    def click_at(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def key(self, name: str) -> None:
        code = _KEYS.get(name, ord(name[0].upper()))
        text = {} if name in _KEYS else {"text": name}
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent", type=kind, key=name, windowsVirtualKeyCode=code, **text
            )

    def screenshot(self, file: Path) -> None:
        found = self.send("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(found["data"]))

    def pdf(self) -> bytes:
        return base64.b64decode(self.send("Page.printToPDF", printBackground=True)["data"])


@contextmanager
def opened(profile: Path) -> Iterator[Page]:
    """A browser with a profile of its own, which ends with the block."""
    program = browser()
    if program is None:
        raise RuntimeError(f"none of {', '.join(NAMES)} is installed")
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()

    def descriptors() -> None:
        """3 and 4, whatever the pipes got."""
        read, write = os.dup(to_read), os.dup(from_write)
        high = [os.dup2(fd, 200 + i) for i, fd in enumerate((read, write))]
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)

    process = subprocess.Popen(
        [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
        preexec_fn=descriptors,
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(from_write)
    try:
        page = Page(to_write, from_read)
        page.attach()
        yield page
    finally:
        os.close(to_write)
        os.close(from_read)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
