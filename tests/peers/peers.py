"""The peers: what stores statistics besides botstats, set up and tuned as by somebody who knows each.

Every peer keeps, for each series (account, bot, channel) and hour, the counts of 16 kinds of events,
the sums of 3 values, and the exact set of users. A class starts its server in a folder of its own on
a loopback port, makes its tables, stores batches of `feed`, and answers `days`.
"""

import glob
import http.client
import os
import pwd
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.parse

from watch import disk_bytes

KINDS = """user_wrote bot_replied topic_found talk_closed user_tagged bot_at_a_loss intent_found
operator_called operator_came operator_wrote operator_left api_asked button_pressed goal_met
api_failed intent_missed""".split()
VALUED = ["talk_closed", "operator_wrote", "api_asked"]
COLUMNS = [f"c{n}" for n in range(len(KINDS))] + [f"s{n}" for n in range(len(VALUED))]
# How long a server may take to start or to stop, in seconds.
PATIENCE_S = 30


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"{what} is not there after {PATIENCE_S} s")
        time.sleep(0.05)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Peer:
    """What the peers have in common. `process` is the server, if there is one."""

    form, batch, process = "lines", 50_000, None

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        os.makedirs(folder)

    def launch(self, command, **options):
        with open(os.path.join(self.folder, "log"), "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **options)

        def ready():
            if self.process.poll() is not None:
                raise SystemExit(f"{command[0]} ended; see {self.folder}/log")
            return listens(self.port)

        until(command[0], ready)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class PostgreSQL(Peer):
    """Batches are copied into a temporary table, then one upsert; the position is stored with it."""

    form = "copy"
    packages = ["postgresql"]
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "shared_buffers": "1GB",
        "work_mem": "128MB",
        "maintenance_work_mem": "256MB",
        "max_wal_size": "8GB",
        "checkpoint_timeout": "15min",
        "wal_compression": "lz4",
        "wal_buffers": "64MB",
        "temp_buffers": "128MB",
        "jit": "off",
        "fsync": "on",
        "synchronous_commit": "on",
    }

    @staticmethod
    def found():
        return sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))

    def start(self):
        import psycopg

        program = self.found()[-1]
        # PostgreSQL refuses to run as root.
        user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        options = {"user": user.pw_uid, "group": user.pw_gid, "cwd": "/"} if user else {}
        if user:
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        data = os.path.join(self.folder, "data")
        initdb = os.path.join(os.path.dirname(program), "initdb")
        command = [initdb, "-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "trust"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)
        settings = [f"--{name}={value}" for name, value in self.settings.items()]
        self.launch([program, "-D", data, "-p", str(self.port), *settings], **options)

        where = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"

        def connected():
            try:
                self.db = psycopg.connect(where)
            except psycopg.OperationalError:
                return False  # It listens before it lets anybody in.
            return True

        until("a connection to PostgreSQL", connected)
        counts = ", ".join(f"{name} bigint NOT NULL" for name in COLUMNS)
        self.db.execute(
            "CREATE TABLE series(id int PRIMARY KEY, account text, bot text, channel text,"
            " UNIQUE(account, bot, channel))"
        )
        self.db.execute(
            f"CREATE TABLE stats(series int, hour int, {counts}, users bigint[],"
            " PRIMARY KEY(series, hour)) WITH (fillfactor = 85)"
        )
        self.db.execute("CREATE TABLE progress(events bigint)")
        self.db.execute("INSERT INTO progress VALUES (0)")
        self.db.execute("CREATE TEMP TABLE fresh(LIKE stats) ON COMMIT DELETE ROWS")
        self.db.commit()
        add = ", ".join(f"{name} = stats.{name} + excluded.{name}" for name in COLUMNS)
        self.upsert = (
            f"INSERT INTO stats SELECT * FROM fresh ON CONFLICT (series, hour) DO UPDATE SET {add},"
            " users = CASE WHEN stats.users @> excluded.users THEN stats.users ELSE"
            " ARRAY(SELECT unnest(stats.users) UNION SELECT unnest(excluded.users)) END"
        )

    def put(self, events, _replies, series, rows):
        with self.db.cursor() as cursor:
            for table, data in (("series", series), ("fresh", rows)):
                with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                    copy.write(data)
            cursor.execute(self.upsert)
            cursor.execute("UPDATE progress SET events = %s", [events])
        self.db.commit()

    def disk_bytes(self):
        sizes = "SELECT sum(pg_total_relation_size(c)) FROM unnest(ARRAY['stats', 'series']) c"
        return int(self.db.execute(sizes).fetchone()[0])

    def days(self, account):
        sums = ", ".join(f"sum({name})::bigint" for name in COLUMNS)
        source = "FROM series JOIN stats ON series = id"
        where = "WHERE account = %s GROUP BY hour / 24"
        users = f"SELECT hour / 24, count(DISTINCT u) {source}, unnest(users) u {where}"
        users = dict(self.db.execute(users, [account]).fetchall())
        rows = self.db.execute(f"SELECT hour / 24, {sums} {source} {where}", [account])
        return {row[0]: [*row[1:], users[row[0]]] for row in rows}

    def events(self):
        total = " + ".join(COLUMNS[: len(KINDS)])
        return int(self.db.execute(f"SELECT sum({total}) FROM stats").fetchone()[0])


class Redis(Peer):
    """A hash of sums for each account and hour, a set of users for each series and hour."""

    form, batch = "redis", 10_000
    packages = ["redis-server"]
    settings = """--save "" --appendonly yes --appendfsync everysec --aof-use-rdb-preamble yes
    --hash-max-listpack-entries 512 --hash-max-listpack-value 64 --set-max-intset-entries 512"""

    @staticmethod
    def found():
        return shutil.which("redis-server")

    def start(self):
        settings = self.settings.replace('""', "-").split()
        settings = ["" if setting == "-" else setting for setting in settings]
        bind = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", self.folder]
        self.launch([self.found(), *bind, *settings])
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def put(self, _events, replies, _first, commands):
        # Replies are read while commands are written: else both sides could wait for each other.
        writing = threading.Thread(target=self.socket.sendall, args=[commands])
        writing.start()
        # MULTI's, then QUEUED of each command, then EXEC's, whose list has a line for each command.
        left, start = 2 + 2 * replies, True
        while left:
            data = self.socket.recv(1 << 18)
            if not data or b"\n-" in data or (start and data.startswith(b"-")):
                raise SystemExit(f"Redis: {data[:300]}")
            left -= data.count(b"\n")
            start = data.endswith(b"\n")
        writing.join()

    def ask(self, *parts):
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
        text = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self.socket.sendall(b"*%d\r\n%s" % (len(parts), text))
        return self.reply()

    def reply(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:].strip()
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        if kind == b"$":
            length = int(rest)
            return self.file.read(length + 2)[:-2] if length >= 0 else None
        if kind == b"-":
            raise SystemExit(f"Redis: {line}")
        return int(rest) if kind == b":" else rest

    def disk_bytes(self):
        return disk_bytes(self.folder)

    def days(self, account):
        sums, users = {}, {}
        for key in self.ask("KEYS", f"h:{account}:*"):
            hour = int(key.rsplit(b":", 1)[1])
            fields = self.ask("HGETALL", key)
            for field, value in zip(fields[::2], fields[1::2]):
                series, letter = field.split(b".")
                row = sums.setdefault(hour // 24, [0] * len(COLUMNS))
                row[letter[0] - ord("a")] += int(value)
                users.setdefault(hour // 24, set()).add(b"u:%s:%d" % (series, hour))
        return {day: [*row, len(self.ask("SUNION", *users[day]))] for day, row in sums.items()}

    def events(self):
        return int(self.ask("GET", "events"))


def clickhouse_tables(merge_columns):
    """Tables of both ClickHouses: raw events go through a materialized view and are not stored."""
    kinds = ", ".join(f"'{kind}' = {n}" for n, kind in enumerate(KINDS))
    sums = [f"countIf(type = '{kind}') AS c{n}" for n, kind in enumerate(KINDS)]
    sums += [f"sumIf(value, type = '{kind}') AS s{n}" for n, kind in enumerate(VALUED)]
    columns = ", ".join(f"{name} {merge_columns}" for name in COLUMNS)
    return [
        "CREATE TABLE ev (ts DateTime('UTC'), account String, bot String, channel String,"
        f" user String, type Enum8({kinds}), value UInt64) ENGINE = Null",
        "CREATE TABLE stats (day Date, account String, hour DateTime('UTC'), bot String,"
        f" channel String, {columns}, users AggregateFunction(uniqExact, UInt64))"
        " ENGINE = {engine} PARTITION BY toYYYYMM(day) ORDER BY (account, hour, bot, channel)",
        "CREATE MATERIALIZED VIEW mv TO stats AS SELECT toDate(hour) AS day, account,"
        f" toStartOfHour(ts) AS hour, bot, channel, {', '.join(sums)},"
        " uniqExactState(sipHash64(user)) AS users FROM ev GROUP BY account, hour, bot, channel",
    ]


class ClickHouse(Peer):
    """Debian's server, over HTTP."""

    packages = ["clickhouse-server"]
    config = """<yandex><logger><level>warning</level><log>{0}/ch.log</log>
<errorlog>{0}/ch.err</errorlog></logger><http_port>{1}</http_port><tcp_port>{2}</tcp_port>
<listen_host>127.0.0.1</listen_host><path>{0}/data/</path><tmp_path>{0}/tmp/</tmp_path>
<user_files_path>{0}/files/</user_files_path><mark_cache_size>536870912</mark_cache_size>
<uncompressed_cache_size>0</uncompressed_cache_size><mlock_executable>false</mlock_executable>
<users_config>{0}/users.xml</users_config><default_profile>default</default_profile>
<default_database>default</default_database><timezone>UTC</timezone></yandex>"""
    users = """<yandex><profiles><default/></profiles><quotas><default/></quotas><users><default>
<password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>
<quota>default</quota></default></users></yandex>"""
    engine, column = "SummingMergeTree", "UInt64"

    @staticmethod
    def found():
        return shutil.which("clickhouse-server")

    def start(self):
        config = os.path.join(self.folder, "config.xml")
        with open(config, "w") as file:
            file.write(self.config.format(self.folder, self.port, free_port()))
        with open(os.path.join(self.folder, "users.xml"), "w") as file:
            file.write(self.users)
        self.launch([self.found(), f"--config-file={config}"], cwd=self.folder)
        self.http = http.client.HTTPConnection("127.0.0.1", self.port)
        for table in clickhouse_tables(self.column):
            self.query(table.replace("{engine}", self.engine))

    def query(self, text, body=None, **settings):
        settings = dict(settings, query=text) if body is not None else settings
        path = "/?" + urllib.parse.urlencode(settings)
        self.http.request("POST", path, text.encode() if body is None else body)
        answer = self.http.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise SystemExit(f"ClickHouse: {said[:600]}")
        return said.decode()

    def put(self, _events, _replies, _first, lines):
        settings = {"date_time_input_format": "best_effort", "input_format_skip_unknown_fields": 1}
        self.query("INSERT INTO ev FORMAT JSONEachRow", lines, **settings)

    def disk_bytes(self):
        sizes = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'stats'"
        return int(self.query(sizes))

    def days(self, account):
        sums = ", ".join(f"sum({name})" for name in COLUMNS)
        rows = self.query(
            f"SELECT toUInt32(toDate(hour)), {sums}, uniqExactMerge(users) FROM stats"
            f" WHERE account = '{account}' GROUP BY toDate(hour) FORMAT TSV"
        )
        rows = [list(map(int, line.split("\t"))) for line in rows.splitlines()]
        return {row[0]: row[1:] for row in rows}

    def hours(self, account):
        """A month by the hour, all bots and channels as one, as it would be sent to a client."""
        sums = ", ".join(f"sum({name}) AS {name}" for name in COLUMNS)
        return self.query(
            f"SELECT hour, {sums}, uniqExactMerge(users) AS users FROM stats WHERE account ="
            f" '{account}' AND hour >= now() - INTERVAL 30 DAY GROUP BY hour ORDER BY hour FORMAT JSON"
        )

    def events(self):
        return int(self.query(f"SELECT sum({' + '.join(COLUMNS[:len(KINDS)])}) FROM stats"))


class ChDB(ClickHouse):
    """ClickHouse in this process. A batch goes through a file in memory: inline data is copied."""

    modules = ["chdb"]
    packages = []
    engine, column = "AggregatingMergeTree", "SimpleAggregateFunction(sum, UInt64)"

    @staticmethod
    def found():
        return True

    def start(self):
        from chdb import session

        self.session = session.Session(os.path.join(self.folder, "data"))
        for text in ("CREATE DATABASE st ENGINE = Atomic", "USE st"):
            self.session.query(text)
        for table in clickhouse_tables(self.column):
            self.session.query(table.replace("{engine}", self.engine))
        self.spool = f"/dev/shm/botstats-peers-{os.getpid()}"

    def query(self, text, body=None, **settings):
        return str(self.session.query(text))

    def put(self, events, _replies, _first, lines):
        with open(self.spool, "wb") as spool:
            spool.write(lines)
        columns = ", ".join(f"{name} String" for name in ("account", "bot", "channel", "user"))
        self.query(
            "INSERT INTO ev SELECT ts, account, bot, channel, user, type, value FROM"
            f" file('{self.spool}', 'JSONEachRow', 'ts DateTime(\\'UTC\\'), {columns}, type String,"
            " value UInt64') SETTINGS date_time_input_format = 'best_effort', async_insert = 0,"
            " optimize_on_insert = 0, input_format_skip_unknown_fields = 1, log_queries = 0,"
            f" max_threads = 1, input_format_parallel_parsing = 0,"
            f" insert_deduplication_token = '{events}'"
        )

    def stop(self):
        self.session.close()
        os.unlink(self.spool)


PostgreSQL.modules = ["psycopg"]
Redis.modules = ClickHouse.modules = []
PEERS = {
    "clickhouse": ClickHouse,
    "chdb": ChDB,
    "postgresql": PostgreSQL,
    "redis": Redis,
}
