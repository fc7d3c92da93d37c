#!/usr/bin/env python3
"""A line chat on the published Python node, speaking the JSON of its chat program.

A line of stdin is a message, `/dial HOST:PORT` contacts a peer, `/quit` leaves. A message that arrives is
`nick<TAB>text` on stdout; everything else is on stderr and begins with `* `.
"""
import argparse
import asyncio
import hashlib
import json
import sys

import reference
from reference import LOOPBACK, endpoint


def say(text):
    print('* ' + text, file=sys.stderr, flush=True)


class Chat:
    def __init__(self, node, nick):
        self.node, self.nick, self.nicks = node, nick, {}
        node.on('connection', self.on_connection)
        node.on('disconnect', lambda peer_id: self.nicks.pop(peer_id, None))
        node.on('data', self.on_data)

    def encoded(self, kind, **fields):
        return json.dumps({'type': kind, 'nick': self.nick, **fields}).encode()

    def on_connection(self, peer):
        say(f'connected to {peer.id}')
        peer.write(self.encoded('JOIN'))

    def on_data(self, data, peer):
        try:
            message = json.loads(data)
            kind, nick = message['type'], message['nick']
        except (ValueError, KeyError, TypeError):
            return  # gossip and test bytes pass here too
        if kind == 'JOIN':
            if peer.id not in self.nicks:
                self.nicks[peer.id] = nick
                say(f'{nick} joined')
                peer.write(self.encoded('JOIN'))
        elif kind == 'MSG' and message.get('_selfId') != self.node._id:
            print(f'{nick}\t{message.get("text")}', flush=True)
        elif kind == 'LEAVE':
            self.nicks.pop(peer.id, None)
            say(f'{nick} left')

    async def run(self):
        async for line in reference.lines_of_stdin():
            if line is None or line == '/quit':
                break
            if line.startswith('/dial '):
                self.node._dial(*endpoint(line.split()[1]), None, None, None)
            elif line:
                self.node.broadcast(self.encoded('MSG', text=line, _selfId=self.node._id))
        self.node.broadcast(self.encoded('LEAVE'))
        await asyncio.sleep(0.05)  # the batcher of the reference holds what is sent for 2 ms
        await self.node.destroy()


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('nick')
    parser.add_argument('room', nargs='?', default='lobby')
    parser.add_argument('--lib', required=True, help='folder with the swarm.py of the reference')
    parser.add_argument('--port', type=int, default=0)
    args = parser.parse_args()
    loop = asyncio.get_running_loop()
    reference.confine(loop, args.port, lambda addr: say(f'blocked {addr}'))
    node = reference.load(args.lib).Swarm({})
    chat = Chat(node, args.nick)
    await node._init_task
    await node.join(hashlib.sha256(f'chat:{args.room}'.encode()).digest())
    say(f'listening on {LOOPBACK}:{node._lport}')
    await chat.run()


if __name__ == '__main__':
    asyncio.run(main())
