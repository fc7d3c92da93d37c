"""The published Python node, with everything outside this machine taken away from it.

`load(lib)` imports `swarm.py` from the folder `lib` (a site-packages with py-setowire 0.1.0) and hands back
the module. From then on its nodes bind to 127.0.0.1, hold 127.0.0.1 for their local address, know no STUN,
piping or bootstrap host, and put their LAN socket on the loopback interface, or have none.
"""
import asyncio
import hashlib
import socket
import struct
import sys

LOOPBACK = '127.0.0.1'


def endpoint(text):
    """`HOST:PORT` as a pair."""
    host, _, port = text.rpartition(':')
    return host, int(port)


def test_bytes(n, seed):
    """The first n bytes of SHA256("setowire-test" | u32be(seed) | u32be(0)) | SHA256(.. u32be(1)) | .."""
    blocks = -(-n // 32)
    prefix = b'setowire-test' + struct.pack('>I', seed)
    return b''.join(hashlib.sha256(prefix + struct.pack('>I', i)).digest() for i in range(blocks))[:n]


class _LoopbackSocket(socket.socket):
    """A socket whose multicast groups are joined on, and sent through, the loopback interface."""

    def setsockopt(self, level, name, *value):
        if (level, name) == (socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP):
            group = value[0][:4]
            super().setsockopt(level, name, group + socket.inet_aton(LOOPBACK))
            super().setsockopt(level, socket.IP_MULTICAST_IF, socket.inet_aton(LOOPBACK))
        else:
            super().setsockopt(level, name, *value)


class _SocketModule:
    """`socket` as swarm.py sees it: all of the real module but the socket class."""

    socket = _LoopbackSocket

    def __getattr__(self, name):
        return getattr(socket, name)


def load(lib, stun=(), lan=False):
    """Import the reference from `lib`; `stun` are the only STUN servers it may know, as (host, port)."""
    sys.path.insert(0, lib)
    import constants
    constants.PIPING_SERVERS = []
    constants.HARDCODED_SEEDS = []
    constants.HARDCODED_HTTP_BOOTSTRAP = []
    constants.STUN_HOSTS = [{'host': host, 'port': port} for host, port in stun]
    import swarm
    swarm._local_ip = lambda: LOOPBACK
    swarm.socket = _SocketModule()
    if not stun:
        swarm.Swarm._stun_lazy = lambda self: None
    if not lan:
        swarm.Swarm._init_lan = lambda self: None
    return swarm


def confine(loop, port, on_blocked):
    """Bind every datagram endpoint of `loop` to loopback, the first one to `port`.

    What a node sends to anything but a literal 127.x.x.x address (names included: a look-up is a contact too)
    stays here and is told to `on_blocked(address)`.
    """
    create, ports = loop.create_datagram_endpoint, iter([port])

    async def create_on_loopback(factory, local_addr=None, **options):
        wanted = next(ports, local_addr[1] if local_addr else 0)
        transport, protocol = await create(factory, local_addr=(LOOPBACK, wanted), **options)
        send = transport.sendto

        def sendto(data, addr=None):
            if _is_loopback(addr):
                send(data, addr)
            else:
                on_blocked(addr)

        transport.sendto = sendto
        return transport, protocol

    loop.create_datagram_endpoint = create_on_loopback


def _is_loopback(addr):
    try:
        return socket.inet_aton(addr[0])[:1] == b'\x7f'
    except (OSError, TypeError):
        return False


async def lines_of_stdin():
    """The lines of standard input, then None for ever."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=1 << 22)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while True:
        line = await reader.readline()
        yield line.decode().rstrip('\n') if line else None
