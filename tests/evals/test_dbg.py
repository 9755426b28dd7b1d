import asyncio, pytest
@pytest.mark.parametrize("i", range(40))
async def test_x(room, exchange, i):
    async with room.consuming() as desk:
        await room.send(exchange("1"))
        await room.until_read()
        await room.corridor._redis.delete(room.corridor.key)
        await room.send(exchange("0"))
        await room.until(lambda: room.sql("SELECT count(*) FROM exchanges")==[(2,)])
@pytest.mark.parametrize("i", range(40))
async def test_y(room, exchange, i):
    with pytest.raises(ExceptionGroup):
      async with room.consuming() as desk:
        await room.send(exchange("1"))
        await asyncio.sleep(i*.0007)
        raise ValueError
