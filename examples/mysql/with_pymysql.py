"""Reads orders from MySQL or MariaDB with PyMySQL."""

import os

import pymysql

with (
    pymysql.connect(
        host="mysql.corp.local",
        port=3306,
        user="shop",
        password=os.environ["MYSQL_PWD"],
        database="shop",
        connect_timeout=20,
    ) as connection,
    connection.cursor() as cursor,
):
    cursor.execute("select id, article from orders order by id")
    for number, article in cursor:
        print(number, article)
