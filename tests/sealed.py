"""A network of its own for a command, in which every packet that would leave the machine is seen.

Linux gives a process a network namespace: its loopback works, and every way out of it leads to a
TUN device, whose packets this program reads and sends nowhere. So any program of any kind that
tries to reach another machine is found, and told with the address or the name that it wanted.

    unshare --net --mount python sealed.py told.json command...
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

DEVICE = "out0"
# Addresses that nobody has (RFC 5737, RFC 3849); the second is that of the name server.
HERE, NAMES, HERE_6 = "192.0.2.1", "192.0.2.53", "2001:db8::1"
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000  # from <linux/if_tun.h>
ICMP_6, HOP_BY_HOP, TCP, UDP, IGMP = 58, 0, 6, 17, 2


@functools.cache
def way_in() -> list[str] | str:
    """The words before a command that seal it, or why it cannot be sealed here."""
    for program in ("unshare", "ip", "mount"):
        if shutil.which(program) is None:
            return f"the program {program} is not installed"
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    words = ["unshare", *user, "--net", "--mount"]
    probe = ["ip", "tuntap", "add", "dev", DEVICE, "mode", "tun"]
    done = subprocess.run([*words, *probe], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"this machine gives no network namespace ({' '.join(done.stderr.split())[:200]})"
    return words


def sealed(command: list[str], told: Path) -> list[str]:
    """The command in a network of its own; what wanted to leave it is written to `told`."""
    words = way_in()
    assert isinstance(words, list), words
    return [*words, sys.executable, str(Path(__file__).resolve()), str(told), *command]


def _set_up() -> int:
    """The namespace's way out; gives the file that its packets are read from."""
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    for words in (
        "link set lo up",
        f"link set {DEVICE} addrgenmode none",  # or the kernel itself asks for routers
        f"address add {HERE}/24 dev {DEVICE}",
        f"link set {DEVICE} up",
        f"address add {HERE_6}/64 dev {DEVICE} nodad",
        f"route add default dev {DEVICE}",
        f"-6 route add default dev {DEVICE}",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    # A name server on the loopback address would hide the questions that it is asked.
    with tempfile.NamedTemporaryFile("w", suffix=".conf", delete=False) as file:
        file.write(f"nameserver {NAMES}\noptions timeout:1 attempts:1\n")
    subprocess.run(["mount", "--bind", file.name, "/etc/resolv.conf"], check=True)
    Path(file.name).unlink()
    # One try of a connection in place of six, which take two minutes.
    retries = Path("/proc/sys/net/ipv4/tcp_syn_retries")
    if os.access(retries, os.W_OK):
        retries.write_text("1")
    return tun


def _question(datagram: bytes) -> str:
    """The name that a question to a name server is about."""
    names, at = [], 12
    while at < len(datagram) and 0 < (size := datagram[at]) < 64:
        names.append(datagram[at + 1 : at + 1 + size].decode(errors="replace"))
        at += 1 + size
    return ".".join(names)


def describe(packet: bytes) -> str:
    """Where an IP packet wants to go; "" for what the kernel says by itself to its neighbours."""
    if packet[0] >> 4 == 4:
        protocol, start = packet[9], 4 * (packet[0] & 15)
        to = socket.inet_ntop(socket.AF_INET, packet[16:20])
    else:
        protocol, start = packet[6], 40
        to = socket.inet_ntop(socket.AF_INET6, packet[24:40])
    if protocol in (IGMP, HOP_BY_HOP) or (protocol == ICMP_6 and packet[start] >= 130):
        return ""
    if protocol not in (TCP, UDP):
        return f"protocol {protocol} to {to}"
    (port,) = struct.unpack("!H", packet[start + 2 : start + 4])
    if protocol == UDP and port == 53:
        return f"the address of {_question(packet[start + 8 :])}"
    return f"{'TCP' if protocol == TCP else 'UDP'} to {to} port {port}"


def _watch(tun: int, found: list[str]) -> None:
    while True:
        if words := describe(os.read(tun, 65536)):
            found.append(words)


def main() -> int:
    """The command line; ends with the code of the command."""
    told, command = Path(sys.argv[1]), sys.argv[2:]
    found: list[str] = []
    threading.Thread(target=_watch, args=(_set_up(), found), daemon=True).start()
    code = subprocess.run(command, check=False).returncode
    time.sleep(0.2)  # for the last packet
    told.write_text(json.dumps(found), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
