"""Passes connections on to another port and delivers every answer 50 ms late: a distant server on this machine.

late.py LISTEN-PORT TARGET-PORT
"""

import asyncio
import sys

DELAY = 0.05


async def deliver_late(reader, writer):
    loop = asyncio.get_running_loop()
    queue = asyncio.Queue(maxsize=512)

    async def receive():
        while data := await reader.read(256 * 1024):
            await queue.put((loop.time() + DELAY, data))
        await queue.put(None)

    receiving = asyncio.create_task(receive())
    try:
        while item := await queue.get():
            due, data = item
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            writer.write(data)
            await writer.drain()
    finally:
        receiving.cancel()
        writer.close()


async def pass_on(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def main():
    async def serve(reader, writer):
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]), limit=1 << 20)
        await asyncio.gather(
            pass_on(reader, upstream_writer), deliver_late(upstream_reader, writer), return_exceptions=True
        )

    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), limit=1 << 20)
    await server.serve_forever()


asyncio.run(main())
