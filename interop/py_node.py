#!/usr/bin/env python3
"""The published Python node, driven over stdin and stdout: commands in, one JSON event a line out.

Every node that is put beside others in a test speaks this protocol; see README.md in this folder.
"""
import argparse
import asyncio
import hashlib
import json
import os
import resource
import sys
import time

import reference
from reference import LOOPBACK, endpoint, test_bytes


def emit(event, **fields):
    print(json.dumps({'event': event, **fields}), flush=True)


def described(data):
    return {'len': len(data), 'sha256': hashlib.sha256(data).hexdigest()}


def wall_ms():
    return time.time() * 1000


class Counter:
    """What arrived since the last reset."""

    def __init__(self):
        self.messages = self.bytes = 0
        self.first = self.last = None

    def add(self, data, now):
        self.messages += 1
        self.bytes += len(data)
        self.first = self.first or now
        self.last = now


class Driven:
    """A reference node and the commands it obeys: the method `do_x` is the command `x`."""

    def __init__(self, swarm, options):
        self.node = swarm.Swarm(options)
        self.quiet = False
        self.counter = Counter()
        self.running = set()
        self.dht = None
        on = self.node.on
        on('connection', lambda peer: emit('connection', peer=peer.id, addr=peer.remote_address))
        on('disconnect', lambda peer_id: emit('disconnect', peer=peer_id))
        on('sync', lambda key, value: emit('sync', key=key, **described(value)))
        on('nat', lambda: emit('nat', addr=self.node.public_address))
        on('data', self.on_data)

    def on_data(self, data, peer):
        now = wall_ms()
        self.counter.add(data, now)
        if not self.quiet:
            emit('data', peer=peer.id, **described(data), head=data[:16].hex(), t=now)

    def in_background(self, coroutine):
        task = asyncio.ensure_future(coroutine)
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    def chosen(self, name):
        return self.node.peers if name == '*' else [p for p in self.node.peers if p.id == name[:16]]

    def write(self, peers, data):
        emit('sent', n=len(data), sha256=described(data)['sha256'], targets=sum(peer.write(data) for peer in peers))

    async def obey(self, line):
        name, *words = line.split() or ['']
        if not name:
            return
        command = getattr(self, 'do_' + name, None)
        if command is None:
            emit('error', message=f'unknown command {name}')
            return
        try:
            result = command(*words)
            if asyncio.iscoroutine(result):
                await result
        except Exception as error:
            emit('error', message=f'{name}: {error!r}')

    # Contact.

    def do_dial(self, addr, peer_id=None):
        self.node._dial(*endpoint(addr), peer_id and peer_id[:16], None, None)

    def do_hello(self, addr):
        self.node._send_hello(*endpoint(addr))

    def do_drop(self, peer):
        self.node._drop(peer[:16])

    def do_goaway(self, peers):
        for peer in self.chosen(peers):
            peer._send_raw_now(b'\x0a')

    def do_pex(self, peers='*'):
        for peer in self.chosen(peers):
            self.node._send_pex(peer)

    def do_relayreq(self, relay_id, relay_addr, target_id):
        self.node._register_relay(relay_id[:16], *endpoint(relay_addr))
        emit('relay_requested', ok=self.node._request_via_relay(target_id))

    # Messages.

    def do_send(self, peers, n, seed=0):
        self.write(self.chosen(peers), test_bytes(int(n), int(seed)))

    def do_sendhex(self, peers, text=''):
        self.write(self.chosen(peers), bytes.fromhex(text))

    def do_broadcast(self, n, seed=0):
        data = test_bytes(int(n), int(seed))
        emit('sent', n=len(data), sha256=described(data)['sha256'], targets=self.node.broadcast(data))

    def do_flood(self, count, size, gap_ms=0, seed=1):
        self.in_background(self.flood(int(count), int(size), float(gap_ms) / 1000, int(seed)))

    async def flood(self, count, size, gap, seed):
        # Against a schedule, not by sleeping the gap each time: a late wake-up must not slow the whole run.
        start, sent = time.monotonic(), 0
        for i in range(count):
            sent += self.node.broadcast(test_bytes(size, seed * 1_000_000 + i))
            await asyncio.sleep(max(0, start + (i + 1) * gap - time.monotonic()) if gap else 0)
        emit('flooded', count=count, size=size, sent=sent, ms=round((time.monotonic() - start) * 1000))

    # Values.

    def do_store(self, key, n, seed=0):
        self.node.store(key, test_bytes(int(n), int(seed)))

    def do_storehex(self, key, text):
        self.node.store(key, bytes.fromhex(text))

    def do_fetch(self, key, timeout_ms=30000):
        self.in_background(self.fetch(key, float(timeout_ms)))

    async def fetch(self, key, timeout_ms):
        start = time.monotonic()
        try:
            outcome = 'fetched', described(await self.node.fetch(key, timeout_ms))
        except Exception as error:
            outcome = 'fetch_failed', {'error': str(error) or repr(error)}
        emit(outcome[0], key=key, **outcome[1], ms=round((time.monotonic() - start) * 1000))

    # The distributed hash table, which no node starts by itself: one beside the node.

    async def do_dht(self):
        self.dht = dht_lib.SimpleDHT({})
        await self.dht.start()
        emit('dht', id=self.dht.node_id, addr=f'{LOOPBACK}:{self.dht.port}')

    async def do_dhtmeet(self, addr, node_id):
        host, port = endpoint(addr)
        await self.dht.bootstrap([{'id': node_id, 'ip': host, 'port': port}])
        emit('dhtmet', addr=addr, nodes=self.dht._table.size)

    def do_dhtput(self, key, value):
        self.dht.put(key, value)
        emit('dhtput', key=key, nodes=self.dht._table.size)

    def do_dhtfind(self, key):
        self.in_background(self.dhtfind(key))

    async def dhtfind(self, key):
        emit('dhtfound', key=key, value=await self.dht.find_value(key))

    # Bytes as they are.

    def do_raw(self, addr, text):
        self.node._transport.sendto(bytes.fromhex(text), endpoint(addr))

    def do_ctrl(self, peers, text):
        for peer in self.chosen(peers):
            peer.write_ctrl(bytes.fromhex(text))

    # Looking at the node.

    def do_peers(self):
        emit('peers', peers=[self.inside(peer) for peer in self.node.peers])

    @staticmethod
    def inside(peer):
        session = peer._session or {}
        return {
            'id': peer.id, 'addr': peer._best, 'addrs': list(peer._addrs), 'mesh': peer.in_mesh,
            'seq': peer._send_seq, 'ctr': session.get('send_ctr'), 'cwnd': peer._cwnd,
            'inflight': peer._inflight, 'queued': peer._data_queue.length, 'tokens': round(peer._tokens, 1),
            'rtt': round(peer.rtt, 2), 'jitter_next': peer._jitter._next, 'jitter_buffered': len(peer._jitter._buf),
        }

    def do_quiet(self, state):
        self.quiet = state == 'on'

    def do_counts(self, then=None):
        emit('counts', **vars(self.counter))
        if then == 'reset':
            self.counter = Counter()

    def do_stats(self):
        used = resource.getrusage(resource.RUSAGE_SELF)
        with open('/proc/self/statm', encoding='ascii') as statm:
            resident = int(statm.read().split()[1]) * resource.getpagesize()
        emit('stats', rss_kib=resident // 1024, cpu_s=round(used.ru_utime + used.ru_stime, 3))

    def do_kill(self):
        os._exit(0)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--lib', required=True, help='folder with the swarm.py of the reference')
    parser.add_argument('--seed', help='hex; a new key for every run without it')
    parser.add_argument('--port', type=int, default=0)
    parser.add_argument('--relay', action='store_true')
    parser.add_argument('--lan', action='store_true', help='multicast beacons, on the loopback interface')
    parser.add_argument('--join', metavar='HEX', help='topic')
    parser.add_argument('--max-peers', type=int)
    for name in ('--bootstrap', '--seeds', '--bootstrap-http', '--stun'):
        parser.add_argument(name, action='append', default=[])
    return parser.parse_args()


async def main(args):
    loop = asyncio.get_running_loop()
    reference.confine(loop, args.port, lambda addr: emit('blocked', to=f'{addr[0]}:{addr[1]}' if addr else None))
    loop.set_exception_handler(lambda _, c: emit('error', message=repr(c.get('exception') or c.get('message'))))
    swarm = reference.load(args.lib, [endpoint(host) for host in args.stun], args.lan)
    global dht_lib
    import dht_lib
    options = {'relay': args.relay, 'bootstrap': args.bootstrap, 'seeds': args.seeds,
               'bootstrap_http': args.bootstrap_http}
    options.update({k: v for k, v in (('seed', args.seed), ('max_peers', args.max_peers)) if v})
    driven = Driven(swarm, options)
    node = driven.node
    await node._init_task
    emit('ready', impl='py', id=node._id, pub=node._my_x25519['pub_raw'].hex(), addr=f'{LOOPBACK}:{node._lport}')
    if args.join:
        await node.join(bytes.fromhex(args.join))
        emit('joined', topic_hash=node._topic_hash)
    async for line in reference.lines_of_stdin():
        if line is None or line.strip() == 'quit':
            break
        await driven.obey(line)
    await node.destroy()
    emit('bye')


if __name__ == '__main__':
    asyncio.run(main(parse_arguments()))
    sys.stdout.flush()
