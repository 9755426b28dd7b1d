import asyncio
async def test_x(room, exchange):
    async with room.consuming() as desk:
        await room.send(exchange("1"))
        await room.until_read()
        await room.corridor._redis.delete(room.corridor.key)
        await room.send(exchange("0"))
        for i in range(40):
            await asyncio.sleep(.02)
        print(room.sql("SELECT count(*) FROM exchanges"), await room.corridor.lag(), await room.corridor._redis.xrange(room.corridor.key), await room.corridor._redis.xinfo_groups(room.corridor.key))
