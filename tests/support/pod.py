"""The program of the colours in tests: names its version, counts its answers, drains, and misbehaves when told to."""

from __future__ import annotations

import asyncio
import json
import os
import time

BOUNDS = (0.05, 0.1, 0.2, 0.5, 1.0, float("inf"))
answers = {"200": 0, "500": 0}
slower = dict.fromkeys(BOUNDS, 0)
mode = {"mode": "none", "delay_seconds": 0.0, "draining": False}


def metrics() -> str:
    lines = ["# TYPE http_requests_total counter"]
    lines += [f'http_requests_total{{code="{code}"}} {count}' for code, count in answers.items()]
    lines.append("# TYPE http_request_duration_seconds histogram")
    total = 0
    for bound, count in slower.items():
        total += count
        le = "+Inf" if bound == float("inf") else bound
        lines.append(f'http_request_duration_seconds_bucket{{le="{le}"}} {total}')
    lines += [f"process_cpu_seconds_total {time.process_time()}", "process_resident_memory_bytes 1e7"]
    lines += ["database_connections 2", "disk_bytes_total 4096", f"network_bytes_total {total * 100}"]
    return "\n".join([*lines, ""])


async def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str]:
    if path == "/metrics":
        return (500, "broken") if mode["mode"] == "mute" else (200, metrics())
    if path.startswith("/-/"):
        if headers.get("x-admin-token") != "drain-token":
            return 401, "the token is wrong"
        if path == "/-/drain":
            mode["draining"] = method == "POST"
        elif method == "POST":
            mode.update(json.loads(body))
        return 200, json.dumps(mode)
    if headers.get("user-agent", "").startswith("kube-probe/"):
        return 200, "ok"
    begun = time.monotonic()
    status = 500 if mode["mode"] == "errors" else 200
    if mode["mode"] == "slow":
        await asyncio.sleep(mode["delay_seconds"])
    answers[str(status)] += 1
    slower[next(bound for bound in BOUNDS if time.monotonic() - begun <= bound)] += 1
    return status, "ok"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, path, _ = head[0].split()
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            status, text = await answer(method, path, headers, body)
            close = mode["draining"] or headers.get("connection", "").lower() == "close"
            head = [f"HTTP/1.1 {status} X", f"X-Version: {os.environ['VERSION']}", f"Content-Length: {len(text)}"]
            writer.write("\r\n".join([*head, *["Connection: close"] * close, "", text]).encode())
            await writer.drain()
            if close:
                return
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, os.environ["POD_IP"], int(os.environ["PORT"]), backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
