"""A peer: sse-starlette on uvicorn, in the two ways that a user would write.

``app``: as its documentation shows it, each client with a Redis subscription of its own. ``hub_app``: one subscription
for all, and a queue for each client. Neither can resume: both send what is published while a client is there.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

REDIS_URL = os.environ.get("PEER_REDIS_URL", "redis://127.0.0.1:6379")


async def ready(_):
    return PlainTextResponse("ready")


async def stream(request):
    async def events():
        redis = Redis.from_url(REDIS_URL)
        async with redis, redis.pubsub() as subscription:
            await subscription.subscribe(request.path_params["project"])
            async for message in subscription.listen():
                if message["type"] == "message":
                    yield {"data": message["data"].decode()}

    return EventSourceResponse(events())


app = Starlette(routes=[Route("/readyz", ready), Route("/{project}/events", stream)])


queues: dict[str, set[asyncio.Queue]] = {}


@asynccontextmanager
async def following(_):
    async def follow():
        redis = Redis.from_url(REDIS_URL)
        async with redis, redis.pubsub() as subscription:
            await subscription.psubscribe("p*")
            async for message in subscription.listen():
                if message["type"] == "pmessage":
                    text = message["data"].decode()
                    for queue in queues.get(message["channel"].decode(), ()):
                        queue.put_nowait(text)

    task = asyncio.create_task(follow())
    yield
    task.cancel()


async def hub_stream(request):
    queue: asyncio.Queue = asyncio.Queue()
    members = queues.setdefault(request.path_params["project"], set())

    async def events():
        members.add(queue)
        try:
            while True:
                yield {"data": await queue.get()}
        finally:
            members.discard(queue)

    return EventSourceResponse(events())


hub_app = Starlette(
    routes=[Route("/readyz", ready), Route("/{project}/events", hub_stream)],
    lifespan=following,
)
