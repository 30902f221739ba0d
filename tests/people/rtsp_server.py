"""A camera: serves the bytes of an MPEG transport stream to one client at a time by RTSP, interleaved on TCP."""

import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

_SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track0\r\n"
_PACKET = 7 * 188  # whole packets of the transport stream


class Camera:
    """RTSP server on a free port of this machine, while entered."""

    def __init__(self, stream: bytes) -> None:
        self._stream = stream
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.requests: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with suppress(OSError):  # wakes who waits in accept
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(timeout=10)

    def _serve(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        with connection, connection.makefile("rb") as requests:
            while line := requests.readline().decode():
                method, address, _ = line.split()
                headers = {}
                while (header := requests.readline().decode().strip()) != "":
                    name, value = header.split(":", 1)
                    headers[name.lower()] = value.strip()
                self.requests.append(method)
                connection.sendall(self._answer(method, address, headers["cseq"]).encode())
                if method == "PLAY":
                    for packet in self._packets():
                        connection.sendall(packet)
                    return

    def _answer(self, method: str, address: str, number: str) -> str:
        more, body = "Session: 1\r\n", ""
        if method == "OPTIONS":
            more = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            more, body = f"Content-Base: {address}/\r\nContent-Type: application/sdp\r\n", _SDP
        elif method == "SETUP":
            more += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        return f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{more}Content-Length: {len(body)}\r\n\r\n{body}"

    def _packets(self) -> list[bytes]:
        packets = []
        for number, start in enumerate(range(0, len(self._stream), _PACKET)):
            payload = self._stream[start : start + _PACKET]
            header = struct.pack("!BBHII", 0x80, 33, number & 0xFFFF, 90 * number, 1)
            packets.append(struct.pack("!cBH", b"$", 0, len(header) + len(payload)) + header + payload)
        return packets
