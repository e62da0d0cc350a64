"""Writes sqlalchemy_urls.json: how SQLAlchemy 1.4.54, which Airflow 2.10 uses, takes
database URLs apart. Run by hand, with it installed: python3 generate_urls.py"""
import json
from sqlalchemy.engine.url import make_url

URLS = """sqlite:////root/airflow/airflow.db
sqlite:///rel/airflow.db
sqlite:///
sqlite://
sqlite:///:memory:
sqlite:////tmp/a%20b/c d#e.db
sqlite:////tmp/a.db?check_same_thread=false&timeout=30
sqlite+pysqlite:////tmp/a.db
postgresql://u:p@h/d
postgresql+psycopg2://u:p@h:5432/d
postgres://u:p@h/d
postgresql://u@h/d
postgresql://:p@h/d
postgresql://u:@h/d
postgresql://h/d
postgresql:///d
postgresql://
postgresql://u:p%40%2F%3A%25w@h/d
postgresql://u%40dom:p@h/d
postgresql://u:p+w@h/d
postgresql://u:p%zzw%4@h/d
postgresql://u:p%ff@h/d
postgresql://u:p%C3%A9é@h/d
postgresql://u:p/w@h/d
postgresql://u:p?w@h/d
postgresql://u:p#w@h/d
postgresql://u:p:w@h/d
postgresql://u:p@[::1]:5432/d
postgresql://u:p@[fe80::1%25eth0]/d
postgresql://u:p@[::1]/d
postgresql://u:p@h:/d
postgresql://u:p@h:5432
postgresql://u:p@h
postgresql://u:p@h/
postgresql://u:p@h/d/e
postgresql://u:p@h/d%20e
postgresql://u:p@h%2Fx/d
postgresql://u:p@h/d?sslmode=require
postgresql://u:p@h/d?sslmode=
postgresql://u:p@h/d?sslmode
postgresql://u:p@h/d?
postgresql://u:p@h/d?a=1&a=2&b=x+y%20z%2B
postgresql://u:p@h/d?host=h1:1&host=h2:2
postgresql://u:p@/d?host=/var/run/postgresql
postgresql://u:p@h/d?a%3Db=c&options=-csearch_path%3Dx
postgresql://u:p@h/d?a=b?c=d
postgresql://u:p@h?sslmode=require
postgresql://h?sslmode=require
mysql+pymysql://u:p@h:3306/d?charset=utf8mb4
mysql://u:p@localhost/d?unix_socket=/run/mysqld/mysqld.sock
mysql+mysqldb://u:p@h/d?ssl_ca=%2Fetc%2Fca.pem
postgresql://u:p@h/d&x=y
postgresql://u:p@h /d
postgresql://u: p @h/d
postgresql://u:p@h/d#frag
postgresql://u:p@h:5432/d?a=1;b=2
postgresql://u:p@h/d?a=%zz&b=%ff&c=%C3%A9
POSTGRESQL://u:p@H/D""".split("\n") + ["postgresql://u:p@h/d\n", " postgresql://u:p@h/d", "postgresql:/u", "", "x", "airflow-db-not-allowed:///", "postgresql://u:p\nw@h/d", "postgresql://u:p@h/d?a=b\nc"]

cases = []
for text in URLS:
    try:
        u = make_url(text)
    except Exception as e:
        cases.append({"url": text, "error": type(e).__name__})
        continue
    cases.append({"url": text, "dialect": u.drivername, "user": u.username or "", "password": str(u.password or ""), "host": u.host or "",
                  "port": u.port or 0, "database": u.database or "", "query": {k: [v] if isinstance(v, str) else list(v) for k, v in u.query.items()}})
json.dump(cases, open("sqlalchemy_urls.json", "w"), indent=0)
print(len(cases))
