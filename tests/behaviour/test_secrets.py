"""Canaries: what must stay with its owner is put wherever it could leak from, and found in nothing that is left."""

import getpass
import io
import json
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from bucket import KEY, SECRET, Bucket
from places import ROOT

from backtest.cli.app import main
from backtest.emulator.protocol import ACCOUNT

pytestmark = pytest.mark.slow

SAMPLE = str(ROOT / "data" / "sample")
USER, TOKEN = "canary-user", "canary-token-0"
DATES = ("--since", "2012-01-03", "--until", "2013-03-01")
STRATEGY = """
import backtrader as bt

class Hold(bt.Strategy):
    params = dict(size=10)

    def next(self):
        if len(self) % 20 == 3:
            self.buy(size=self.p.size)
        if len(self) % 20 == 13:
            self.close()
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return a folder in the home of a user whose name, keys and tokens are canaries; commands run in it."""
    folder = tmp_path / USER / "work"
    folder.mkdir(parents=True)
    secrets = {
        "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN,
        "AWS_EC2_METADATA_DISABLED": "true", "TWS_PASSWORD": TOKEN, "GITHUB_TOKEN": TOKEN,
        "HOME": str(folder.parent), "USER": USER, "LOGNAME": USER, "XDG_CACHE_HOME": str(folder / "cache"),
    }  # fmt: skip
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python's own names the folder
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def call(home, capfd):
    """Call the command line in that folder; return the exit code and all that it says."""

    def call(*words):
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        said = capfd.readouterr()
        return ended.value.code or 0, said.out + said.err

    return call


@pytest.fixture
def gateway(home):
    """Yield the address of `backtest emulator --log`, which tells each client its account, and once in an error."""
    scolding = {"when": {"request": 1}, "do": "error", "code": 162, "text": f"No market data permissions for {ACCOUNT}"}
    Path("faults.json").write_text(json.dumps([scolding]))
    words = ["emulator", "--store", SAMPLE, "--port", "0", "--log", "gateway.jsonl", "--faults", "faults.json"]
    with subprocess.Popen([sys.executable, "-m", "backtest", *words], stdout=subprocess.PIPE, text=True) as served:
        address = f"ib://{served.stdout.readline().split()[-1]}"
        Path("faults.json").unlink()
        yield address
        served.send_signal(signal.SIGTERM)


def left_in(folder):
    """Return the bytes of every file, and of each Parquet file what its pages and its metadata hold."""
    return {path: b"".join(layers(path.read_bytes())) for path in folder.rglob("*") if path.is_file()}


def layers(data):
    yield data
    if data.startswith(b"PAR1"):
        table = pq.read_table(io.BytesIO(data))
        yield repr((table.to_pylist(), table.schema.metadata, pq.read_metadata(io.BytesIO(data)).metadata)).encode()
    if data.startswith(b"%PDF"):
        for part in data.split(b"stream\n")[1::2]:
            yield zlib.decompressobj().decompress(part)


def canaries_in(data):
    names = {ACCOUNT, USER, TOKEN, KEY, SECRET, *({getpass.getuser()} - {"root"})}
    return {name for name in names if name.encode() in data}


def test_no_account_user_key_or_token_is_in_what_any_command_says_or_leaves(home, call, gateway):
    Path("hold.py").write_text(STRATEGY)
    refused = call("download", "GOOG/1day", *DATES, "--source", gateway, "--log-format", "json")
    said = [
        call("download", "AAPL/1day", "IBM/1day", *DATES, "--source", gateway, "--log-format", "json"),
        call("download", "AAPL/1day", *DATES, "--source", gateway, "--recheck", "--json"),
        call("ls"),
        call("verify", "--png", "coverage.png"),
        call("export", "AAPL/1day", "aapl.csv"),
        call("export", "AAPL/1day", "aapl.parquet"),
        call("import", "aapl.csv", "MSFT/1day"),
        call("pin", "AAPL/1day"),
        call("run", "hold.py", "AAPL/1day", "--out", "runs/one", "--pin", "data.lock"),
        call("run", "hold.py", "AAPL/1day", "--set", "size=20", "--benchmark", "IBM/1day", "--out", "runs/two"),
        call("sweep", "hold.py", "AAPL/1day", "--grid", "size=10,20,30", "--out", "runs/many"),
        call("report", "one", "--pdf", "one.pdf", "--json"),
        call("compare", "one", "two", "--bootstrap", "20", "--out", "compared"),
        call("validate", "many", "--bootstrap", "20", "--lookahead", "--regimes"),
        call("runs", "ls", "--json"),
        call("runs", "show", "two"),
        call("baseline", "save", "one", "--folder", "baselines"),
        call("baseline", "check", "--folder", "baselines", "--markdown", "summary.md"),
        call("reproduce", "two"),
        call("publish", (home / "published").as_uri(), "--json"),
        call("doctor", "--source", gateway, "--series", "AAPL/1day"),
    ]
    with Bucket() as bucket:
        said += [call("publish", bucket.url()), call("run", "hold.py", "AAPL/1day", "--store", bucket.url())]
        sent = b"".join(bucket.objects.values())

    assert refused[0] == 3  # without permissions, which no retry brings
    assert "162" in refused[1]
    assert [code for code, _ in said] == [0] * len(said)
    assert canaries_in(repr([refused, said]).encode()) == set()
    assert canaries_in(sent) == set()
    left = left_in(home)
    assert {path.name: found for path, data in left.items() if (found := canaries_in(data))} == {}
    assert {".csv", ".html", ".json", ".jsonl", ".lock", ".md", ".parquet", ".pdf", ".png"} <= {p.suffix for p in left}


def test_the_canaries_are_found_where_they_are(tmp_path):
    import pyarrow as pa

    table = pa.table({"word": [TOKEN] * 50}).replace_schema_metadata({"owner": USER})
    pq.write_table(table, tmp_path / "x.parquet", compression="zstd")

    assert canaries_in(left_in(tmp_path)[tmp_path / "x.parquet"]) == {TOKEN, USER}


@pytest.mark.parametrize(
    "address",
    [
        f"ib://{USER}:{TOKEN}@127.0.0.1:4002",
        f"ib://{TOKEN}@127.0.0.1",
        f"ib://{USER}:{TOKEN}@127.0.0.1:port",
        f"ib://127.0.0.1:4002?client_id=7&password={TOKEN}",
        f"ib://127.0.0.1:4002?client_id=none&password={TOKEN}",
        f"ib://127.0.0.1:port?password={TOKEN}",
        f"ib://{USER}:{TOKEN}@[::1",
        f"tws://{USER}:{TOKEN}@127.0.0.1:4002",
    ],
)
def test_a_login_in_the_address_of_a_source_is_refused_without_repeating_it(call, address):
    for words in (("download", "AAPL/1day", *DATES, "--source", address), ("doctor", "--source", address)):
        code, said = call(*words)

        assert code in (1, 2)
        assert "ib://127.0.0.1:" in said
        assert canaries_in(said.encode()) == set()


def test_a_login_in_the_endpoint_of_a_bucket_is_refused_without_repeating_it(call):
    url = f"s3://bars/store?scheme=http&region=us-east-1&endpoint_override={USER}:{TOKEN}@127.0.0.1:9"

    for words in (("ls", "--store", url), ("publish", url, "--store", SAMPLE)):
        code, said = call(*words)

        assert code == 2
        assert "environment" in said
        assert canaries_in(said.encode()) == set()
