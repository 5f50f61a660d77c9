"""Sockets on which the processes of this machine listen, read from /proc."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path

Address = tuple[str, int]
_LISTEN = "0A"


def listening(pid: int) -> set[Address]:
    """Return host and TCP port of every socket on which a process of this user listens; none where it has ended."""
    try:
        return _listening(pid)
    except (FileNotFoundError, ProcessLookupError):
        return set()


def _listening(pid: int) -> set[Address]:
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(descriptor))
        except FileNotFoundError:  # the file was closed meanwhile
            continue
        if found:
            inodes.add(found[1])
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and fields[9] in inodes:
                addresses.add(_address(fields[1]))
    return addresses


def beyond_loopback(addresses: Iterable[Address]) -> set[Address]:
    """Return those that another host could reach."""
    return {address for address in addresses if not _is_loopback(address[0])}


def _is_loopback(host: str) -> bool:
    address = ipaddress.ip_address(host)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _address(text: str) -> Address:
    """Decode an address of four-byte words, each in the byte order of the machine."""
    host, port = text.split(":")
    raw = b"".join(bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8))
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw), int(port, 16)
