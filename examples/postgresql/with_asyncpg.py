"""Reads orders with asyncpg, through a pool; PGPASSWORD comes from the environment."""

import asyncio

import asyncpg


async def main() -> None:
    async with asyncpg.create_pool(
        host="db.corp.local", port=5432, user="shop", database="shop", min_size=1, max_size=5
    ) as pool:
        for row in await pool.fetch("select id, article from orders order by id"):
            print(row["id"], row["article"])


asyncio.run(main())
