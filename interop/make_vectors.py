#!/usr/bin/env python3
"""Golden vectors from the published Python node.

Reads the JSON files of the folder `--given`, keeps every input in them and every value that is not the reference's
(notes, results of other implementations, what only later versions send), computes all others anew with the functions
of the reference, and writes the files to `--out`. Prints a JSON object per file: how many values were computed.
"""
import argparse
import asyncio
import copy
import json
import os
import pathlib
import socket
import struct
import types

import reference

ALICE = '616c696365'  # the seed of the node that speaks in frames, topics and messages
NOWHERE = ('127.0.0.1', 9)  # an address nothing is sent to: the transport is a recorder


class Recorder:
    """Stands where the reference expects a transport, a batcher or a socket, and keeps what is sent."""

    def __init__(self):
        self.sent = []

    def sendto(self, data, _addr=None):
        self.sent.append(bytes(data))

    def send(self, _ip, _port, data):
        self.sent.append(bytes(data))

    send_now = send

    def take(self):
        sent, self.sent = self.sent, []
        return sent

    def get_protocol(self):
        return None

    def fileno(self):
        return -1

    def ignore(self, *_args):
        return None

    setsockopt = bind = setblocking = close = destroy = ignore


class Timers:
    """The event loop as a node sees it, with timers that fire when told to, and no threads."""

    def __init__(self, loop):
        self._loop, self.waiting, self.calls = loop, [], []

    def __getattr__(self, name):
        return getattr(self._loop, name)

    def call_later(self, _delay, callback, *_args):
        self.waiting.append(callback)
        return types.SimpleNamespace(cancel=lambda: None)

    def add_reader(self, *_args):
        pass

    async def run_in_executor(self, _executor, function, *args):
        self.calls.append((function, args))
        return None


def pattern(n):
    """The bytes the fields call `byte i = (7*i + i/256) mod 256`."""
    return bytes((7 * i + i // 256) % 256 for i in range(n))


class Maker:
    def __init__(self, lib):
        self.swarm = reference.load(lib, lan=True)
        # Imported after `load` has put them on the path.
        import crypto
        import dht_lib
        import framing
        import structs
        self.crypto, self.dht_module, self.framing, self.structs = crypto, dht_lib, framing, structs
        self.count = 0

    def set(self, where, key, value):
        """Puts a value of the reference in its place."""
        where[key] = value
        self.count += 1

    def node(self, seed=ALICE):
        """A node without sockets: what it sends is in `node.out`."""
        async def no_sockets(_self):
            pass
        self.swarm.Swarm._init = no_sockets
        node = self.swarm.Swarm({'seed': seed})
        node._loop = Timers(asyncio.get_running_loop())
        node.out = node._transport = node._batch = Recorder()
        node._lport = 40001
        node._ready_event.set()
        return node

    def peer_of(self, node, peer_id, pub=None, mesh=True):
        """Makes `node` know a peer, whose frames leave through `node.out` at once."""
        addr = '%s:%d' % NOWHERE
        if pub is None:
            pub = self.crypto.generate_x25519('626f62')['pub_raw']
        assert node._register_peer(peer_id[:16], addr, pub)
        peer = node._peers[peer_id[:16]]
        peer.in_mesh = mesh
        peer.write_ctrl = peer._send_raw
        return peer

    # One method per file.

    async def keys(self, data):
        for vector in data['vectors']:
            pair = self.crypto.generate_x25519(vector['seed_hex'])
            private = pair['private_key'].private_bytes_raw()
            clamped = bytes([private[0] & 248]) + private[1:31] + bytes([private[31] & 127 | 64])
            node = self.node(vector['seed_hex'])
            node._send_hello(*NOWHERE)
            self.set(vector, 'private_raw_hex', private.hex())
            self.set(vector, 'private_clamped_hex', clamped.hex())
            self.set(vector, 'public_hex', pair['pub_raw'].hex())
            self.set(vector, 'id_hex', node._id)
            self.set(vector, 'wire_id_hex', node.out.take()[0][1:9].hex())

    async def sessions(self, data):
        for vector in data['vectors']:
            nodes = {side: self.node(vector[side + '_seed_hex']) for side in 'ab'}
            for side, other in ('ab', 'ba'):
                mine, theirs = nodes[side], nodes[other]._my_x25519['pub_raw']
                peer = self.peer_of(mine, nodes[other]._id, theirs)
                raw = self.crypto.derive_session(mine._my_x25519['private_key'], theirs)
                session = struct.pack('>I', raw['session_id'])
                out = vector[side]
                self.set(vector, side + '_public_hex', mine._my_x25519['pub_raw'].hex())
                self.set(vector, 'okm_hex', (raw['send_key'] + raw['recv_key'] + session).hex())
                self.set(out, 'id_hex', mine._id)
                self.set(out, 'peer_wire_id_hex', peer.id)
                self.set(out, 'is_lower', peer._session['send_key'] == raw['send_key'])
                self.set(out, 'send_key_hex', peer._session['send_key'].hex())
                self.set(out, 'recv_key_hex', peer._session['recv_key'].hex())
                self.set(out, 'session_id', peer._session['session_id'])
                self.set(out, 'session_id_hex', session.hex())
            public = self.crypto.X25519PublicKey.from_public_bytes(nodes['b']._my_x25519['pub_raw'])
            self.set(vector, 'shared_secret_hex', nodes['a']._my_x25519['private_key'].exchange(public).hex())

    async def data_frames(self, data):
        node = self.node()
        peer = self.peer_of(node, 'e84175f93d4bc143')
        for vector in data['vectors']:
            peer._session.update(send_key=bytes.fromhex(vector['send_key_hex']), session_id=vector['session_id'],
                                 send_ctr=vector['counter'])
            peer._send_seq, peer._tokens = vector['seq'], 1
            payload = bytes.fromhex(vector['app_payload_hex'])
            peer._send_encrypted(payload)
            frame, = node.out.take()
            receiver = {'recv_key': peer._session['send_key']}
            self.set(vector, 'aead_plaintext_hex', self.crypto.decrypt(receiver, frame[1:]).hex())
            self.set(vector, 'nonce_hex', frame[1:13].hex())
            self.set(vector, 'frame_hex', frame.hex())

    async def fragments(self, data):
        node = self.node()
        peer = self.peer_of(node, 'e84175f93d4bc143')
        for vector in data['vectors']:
            peer._tokens = 1
            with fixed_random(vector['frag_id_hex']):
                peer._send_encrypted(pattern(vector['payload_len']))
            frames = node.out.take()
            self.set(vector, 'total', len(frames))
            self.set(vector, 'frames_hex', [frame.hex() for frame in frames])
        peer._tokens = 1
        peer._send_encrypted(pattern(data['not_fragmented_at']))
        assert [frame[0] for frame in node.out.take()] == [1], 'the largest whole message is another one'

    async def frames(self, data):
        for vector in data['vectors']:
            speak = getattr(self, 'frame_' + vector['type'].lower(), None)
            if speak is None:
                continue  # CHUNK_ACK: later versions only
            node = self.node()
            frame = speak(node, copy.deepcopy(vector['fields']))
            frame = await frame if asyncio.iscoroutine(frame) else frame
            self.set(vector, 'frame_hex', frame.hex())
            self.set(vector, 'length', len(frame))

    def frame_hello(self, node, _fields):
        node._send_hello(*NOWHERE)
        return node.out.take()[0]

    def frame_hello_ack(self, node, _fields):
        node._send_hello_ack(*NOWHERE)
        return node.out.take()[0]

    def frame_ping(self, node, fields):
        self.peer_of(node, 'e84175f93d4bc143')
        node._heartbeat()
        clock, self.swarm._now_ms = self.swarm._now_ms, lambda: fields['timestamp_ms']
        try:
            node._peers['e84175f93d4bc143']._seen = fields['timestamp_ms']
            node._loop.waiting.pop()()
        finally:
            self.swarm._now_ms = clock
        return node.out.take()[-1]

    def frame_pong(self, node, _fields):
        node._on_ping(b'\x03\x00', '%s:%d' % NOWHERE)
        return node.out.take()[0]

    def frame_have(self, node, fields):
        node._send_have_keys(self.peer_of(node, 'e84175f93d4bc143'), fields['keys'])
        return node.out.take()[0]

    def frame_want(self, node, fields):
        self.peer_of(node, 'e84175f93d4bc143')
        node._send_want(fields['key'])
        return node.out.take()[0]

    def frame_chunk(self, node, fields):
        self.peer_of(node, 'e84175f93d4bc143')
        single = fields['form'] == 'single'
        key, value = fields['key'], bytes.fromhex(fields['value_hex']) if single else pattern(2000)
        node.store(key, value)
        node.out.take()
        node._on_want(bytes([0x11, len(key)]) + key.encode(), '%s:%d' % NOWHERE)
        return node.out.take()[0 if single else fields['index']]

    def frame_relay_ann(self, node, fields):
        self.peer_of(node, 'e84175f93d4bc143')
        node._is_relay, node._ext = True, fields
        node._announce_relay()
        return node.out.take()[0]

    def frame_relay_req(self, node, fields):
        node._ext, node._lport = {'ip': fields['from_ip']}, fields['from_port']
        node._register_relay('e84175f93d4bc143', *NOWHERE)
        node._request_via_relay(fields['to_wire_id_hex'])
        return node.out.take()[0]

    def frame_relay_fwd(self, node, fields):
        target = self.peer_of(node, 'e84175f93d4bc143')
        asker = types.SimpleNamespace(_id=fields['from_wire_id_hex'], _lip=fields['ip'], _lport=fields['port'],
                                      _relays=node._relays, _relay_bans={}, _transport=node.out)
        node._register_relay(node._id[:16], *NOWHERE)
        self.swarm.Swarm._request_via_relay(asker, target.id)
        node._is_relay = True
        node._on_relay_req(node.out.take()[0], '%s:%d' % NOWHERE)
        return node.out.take()[0]

    def frame_pex(self, node, fields):
        asker = self.peer_of(node, 'e84175f93d4bc143')
        for entry in fields['peers']:
            self.peer_of(node, entry['id_hex'])._best = f'{entry["ip"]}:{entry["port"]}'
        node._send_pex(asker)
        return node.out.take()[0]

    def frame_ihave(self, node, fields):
        self.peer_of(node, 'e84175f93d4bc143', mesh=False)
        node._ihave_buf = [bytes.fromhex(text) for text in fields['hashes_hex']]
        node._emit_ihave()
        return node.out.take()[0]

    async def frame_goaway(self, node, _fields):
        self.peer_of(node, 'e84175f93d4bc143')
        self.swarm.DRAIN_TIMEOUT = 0
        await node.destroy()
        return node.out.take()[0]

    def frame_lan(self, node, fields):
        recorder, module = Recorder(), self.swarm.socket
        node._lip, node._lport, node._topic_hash = fields['ip'], fields['port'], fields['topic_hash'] or None
        self.swarm.socket = types.SimpleNamespace(**{**vars(socket), 'socket': lambda *_: recorder})
        try:
            node._init_lan()
        finally:
            self.swarm.socket = module
        node._loop.waiting.pop()()
        return recorder.take()[0]

    def frame_batch(self, _node, fields):
        recorder = Recorder()
        batch = self.framing.BatchSender(recorder)
        batch._send_batch(*NOWHERE, [bytes.fromhex(text) for text in fields['frames_hex']])
        return recorder.take()[0]

    async def frame_stun_binding_request(self, node, fields):
        with fixed_random(fields['transaction_id_hex']):
            await node._stun_probe(dict(zip(('host', 'port'), NOWHERE)), 0)
        return node.out.take()[0]

    async def hashes(self, data):
        bloom = self.structs.BloomFilter()
        self.set(data, 'bloom_bits', bloom._bits)
        self.set(data, 'bloom_hashes', bloom._hashes)
        for vector in data['vectors']:
            key = self.framing.xor_hash(bytes.fromhex(vector['data_hex']))
            self.set(vector, 'xor_hash', key)
            self.set(vector, 'bloom_positions', bloom._positions(key))

    async def topics(self, data):
        for vector in data['vectors']:
            node, puts = self.node(), []

            class Dht(self.dht_module.SimpleDHT):
                async def start(self):
                    pass

                def put(self, key, _value):
                    puts.append(key)

            self.swarm.SimpleDHT = Dht
            # With a public address known, `join` goes to the piping hosts at once; the calls are recorded.
            node._piping_servers, node.public_address, node._ext = ['host'], 'known', {'ip': '203.0.113.7', 'port': 1}
            joined = asyncio.ensure_future(node.join(bytes.fromhex(vector['topic_hex'])))
            while not (joined.done() and puts and len(node._loop.calls) >= 3):
                await asyncio.sleep(0)
            node._announce_relay_dht()
            node._destroyed = True
            paths = [args[0].removeprefix('https://host') for _, args in node._loop.calls]
            self.set(vector, 'topic_hash', node._topic_hash)
            self.set(vector, 'announce_path', paths[0])
            self.set(vector, 'inbox_path', next(path for path in paths if path != paths[0]))
            self.set(vector, 'inbox_id_hex', node._id)
            self.set(vector, 'dht_topic_key', puts[0])
            self.set(vector, 'dht_relay_key', puts[-1])

    async def dht(self, data):
        lib = self.dht_module
        for name, value in (('k', lib.K), ('alpha', lib.ALPHA), ('rpc_timeout_ms', int(lib.TIMEOUT_S * 1000)),
                            ('republish_ms', int(lib.REPUBLISH_S * 1000))):
            self.set(data, name, value)
        for vector in data['bucket_vectors']:
            pair = bytes.fromhex(vector['self_hex']), bytes.fromhex(vector['other_hex'])
            self.set(vector, 'xor_hex', lib._xor_distance(*pair).hex())
            self.set(vector, 'bucket_index', lib._bucket_index(*pair))
        for vector in data['key_vectors']:
            self.set(vector, 'sha1_hex', lib._sha1(vector['key']).hex())
        for message in data['messages']:
            self.set(message, 'py_bytes_hex', lib._encode(message['json']).hex())
        closest = data['closest']
        table = lib.RoutingTable(bytes.fromhex(closest['self_hex']))
        for node_id in closest['inserted']:
            table.add({'id': node_id, 'ip': NOWHERE[0], 'port': NOWHERE[1]})
        self.set(closest, 'closest_20', [node['id'] for node in table.closest(closest['target_hex'])])
        self.set(closest, 'table_size', table.size)

    async def json_messages(self, data):
        node, texts = self.node(), []
        self.peer_of(node, 'e84175f93d4bc143')._enqueue = texts.append
        node._gossip_peer('127.0.0.1', 40001, node._id[:16])
        self.set(data, 'gossip_payload_text', texts[0].decode())
        self.set(data, 'me_without_stun', node._me())
        node._ext = {'ip': '203.0.113.7', 'port': 50000}
        self.set(data, 'me_with_stun', node._me())
        node._bootstrap_http = ['http://host']
        await node._query_bootstrap_http()
        library, requests = self.swarm.urllib, []
        self.swarm.urllib = types.SimpleNamespace(request=types.SimpleNamespace(
            Request=library.request.Request, urlopen=lambda request, timeout: requests.append(request)))
        try:
            for function, args in node._loop.calls:
                function(*args)
        finally:
            self.swarm.urllib = library
        post, get = requests[0], library.request.Request(requests[1])
        announce, peers = data['http_bootstrap']['announce'], data['http_bootstrap']['peers']
        for where, request in ((announce, post), (peers, get)):
            self.set(where, 'method', request.get_method())
            self.set(where, 'path', request.selector)
        self.set(announce, 'body', json.loads(post.data))


class fixed_random:
    """While it lasts, the system's random bytes are these."""

    def __init__(self, text):
        self.bytes = bytes.fromhex(text)

    def __enter__(self):
        self.original, os.urandom = os.urandom, lambda n: self.bytes[:n]

    def __exit__(self, *_):
        os.urandom = self.original


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--lib', required=True, help='folder with the swarm.py of the reference')
    parser.add_argument('--given', type=pathlib.Path, required=True)
    parser.add_argument('--out', type=pathlib.Path, required=True)
    args = parser.parse_args()
    maker = Maker(args.lib)
    for path in sorted(args.given.glob('*.json')):
        make = getattr(maker, path.stem, None)
        if make is None:
            print(json.dumps({'file': path.name, 'values': 0}))
            continue
        data = json.loads(path.read_text(encoding='utf-8'))
        maker.count = 0
        await make(data)
        text = json.dumps(data, indent=1, ensure_ascii=False)
        (args.out / path.name).write_text(text, encoding='utf-8')
        print(json.dumps({'file': path.name, 'values': maker.count}))


if __name__ == '__main__':
    asyncio.run(main())
