"""Reads orders from MySQL or MariaDB with PyMySQL, by TLS with the server's own certificate."""

import os

import pymysql

with (
    pymysql.connect(
        host="mysql.corp.local",
        port=3306,
        user="shop",
        password=os.environ["MYSQL_PWD"],
        database="shop",
        ssl_ca=os.environ["CORP_CA"],  # The authority that signed it.
        ssl_verify_identity=True,  # The name in it is mysql.corp.local.
        connect_timeout=20,
    ) as connection,
    connection.cursor() as cursor,
):
    cursor.execute("select id, article from orders order by id")
    for number, article in cursor:
        print(number, article)
