#!/usr/bin/env python3
"""Nodes of the BitTorrent Mainline DHT by libtorrent, on loopback addresses, driven over stdin and stdout.

Commands in, one JSON event a line out; see README.md in this folder.
"""
import argparse
import hashlib
import hmac
import json
import queue
import sys
import threading
import time

import libtorrent

# Nothing is contacted that is not named here, and what protects the real network against many nodes at one address is off.
SETTINGS = {
    'enable_dht': True, 'enable_lsd': False, 'enable_upnp': False, 'enable_natpmp': False, 'dht_bootstrap_nodes': '',
    'dht_restrict_routing_ips': False, 'dht_restrict_search_ips': False, 'dht_ignore_dark_internet': False,
    'dht_enforce_node_id': False, 'dht_prefer_verified_node_ids': False, 'alert_queue_size': 100_000,
    # The latter for what searches find.
    'alert_mask': libtorrent.alert.category_t.dht_notification | libtorrent.alert.category_t.dht_operation_notification,
}
DAY = 86_400


def emit(event, **fields):
    print(json.dumps({'event': event, **fields}), flush=True)


def infohash(topic, day):
    """The name of a topic on the DHT, by the words of SPEC.md and none of our code."""
    key = hmac.new(bytes(32), topic, hashlib.sha256).digest()
    return hmac.new(key, b'setowire mainline 1' + day.to_bytes(8, 'big') + b'\x01', hashlib.sha256).digest()[:20]


def infohashes(name):
    """Those of the topic of a name, yesterday, today and tomorrow: midnight may come while we are at it."""
    topic, today = hashlib.sha256(name.encode()).digest(), int(time.time()) // DAY
    return [infohash(topic, day) for day in (today, today - 1, today + 1)]


class Nodes:
    def __init__(self, count, prefix):
        hosts = [f'{prefix}.{i + 1}' for i in range(count)]
        self.sessions = [libtorrent.session({**SETTINGS, 'listen_interfaces': f'{host}:0'}) for host in hosts]
        while not all(session.is_dht_running() and session.listen_port() for session in self.sessions):
            time.sleep(0.01)
        self.addrs = [(host, session.listen_port()) for host, session in zip(hosts, self.sessions)]
        for session, own in zip(self.sessions, self.addrs):
            for addr in self.addrs:
                if addr != own:
                    session.add_dht_node(addr)
        self.wanted = {}

    def do_watch(self, name):
        """Tell what is announced for the topic of a name, and who is found for it."""
        self.wanted.update((value.hex(), name) for value in infohashes(name))
        emit('watching', name=name)

    def do_lookup(self, name):
        for value in infohashes(name):
            self.sessions[-1].dht_get_peers(libtorrent.sha1_hash(value))

    def tell(self):
        for at, session in enumerate(self.sessions):
            for alert in session.pop_alerts():
                name = self.wanted.get(str(getattr(alert, 'info_hash', '')))
                if name is None:
                    continue
                if isinstance(alert, libtorrent.dht_announce_alert):
                    emit('announced', name=name, node=at, addr=f'{alert.ip}:{alert.port}')
                elif isinstance(alert, libtorrent.dht_get_peers_reply_alert):
                    for ip, port in alert.peers():
                        emit('found', name=name, node=at, addr=f'{ip}:{port}')


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--nodes', type=int, default=10)
    parser.add_argument('--prefix', default='127.0.1', help='three numbers of the addresses')
    args = parser.parse_args()
    nodes = Nodes(args.nodes, args.prefix)
    emit('ready', version=libtorrent.__version__, nodes=[f'{host}:{port}' for host, port in nodes.addrs])
    lines = queue.Queue()
    threading.Thread(target=read, args=(lines,), daemon=True).start()
    while True:
        nodes.tell()
        try:
            line = lines.get(timeout=0.05)
        except queue.Empty:
            continue
        if line is None or line.strip() == 'quit':
            break
        command, *words = line.split()
        getattr(nodes, 'do_' + command)(*words)


def read(lines):
    for line in sys.stdin:
        lines.put(line)
    lines.put(None)


if __name__ == '__main__':
    main()
