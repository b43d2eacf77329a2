import http.client
import re
import socket

import pytest
from handmade import fill, result_of

from backtest.errors import UsageError
from backtest.report.server import PageServer

RUN = result_of([110.0, 121.0], [fill(0, 2, 10.0), fill(1, -2, 16.0)])


def written(folder):
    page = folder / "index.html"
    page.write_text(f"the page of {folder.name}, number {1 + (page.exists() and int(page.read_text()[-1]))}")
    return page


@pytest.fixture
def runs(tmp_path):
    RUN.save(tmp_path / "runs" / "a" / "first")
    return tmp_path / "runs"


@pytest.fixture
def served(runs):
    with PageServer(runs, written, lambda folders: " beside ".join(one.name for one in folders)) as served:
        yield served


def ask(served, path, host=""):
    place = served.address.removeprefix("http://")
    connection = http.client.HTTPConnection(place, timeout=30)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host or place)
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_the_gallery_is_made_again_as_runs_arrive(served, runs):
    before, first = ask(served, "/version"), ask(served, "/")
    result_of([90.0, 99.0], params={"fast": 9}).save(runs / "second")

    assert ask(served, "/version") != before
    assert re.findall(r'<a href="([^"]*)">', first[1]) == ["/a/first/index.html"]
    assert set(re.findall(r'<a href="([^"]*)">', ask(served, "/index.html")[1])) == {
        "/a/first/index.html", "/second/index.html",
    }  # fmt: skip


def test_a_page_is_made_when_it_is_looked_at_and_again_when_its_run_is_another(served, runs):
    assert ask(served, "/a/first/index.html") == (200, "the page of first, number 1")
    assert ask(served, "/a/first/index.html") == (200, "the page of first, number 1")

    result_of([90.0, 99.0]).save(runs / "a" / "first", force=True)

    assert ask(served, "/a/first/index.html") == (200, "the page of first, number 2")


def test_runs_are_compared(served, runs):
    RUN.save(runs / "b c")

    assert ask(served, "/compare?run=a%2Ffirst&run=b%20c") == (200, "first beside b c")
    assert ask(served, "/compare?run=a%2Ffirst&run=none") == (500, "nothing is saved as none; go back to /index.html\n")


@pytest.mark.parametrize("path", ["/a/first/spec.json", "/../secret/index.html", "/a/first/../../x/index.html", "/a"])
def test_nothing_but_pages_of_what_is_kept_is_served(served, runs, path):
    (runs.parent / "secret").mkdir()
    (runs.parent / "secret" / "index.html").write_text("secret")

    assert ask(served, path)[0] == 404


def test_a_page_elsewhere_that_leads_a_name_of_its_own_here_is_told_no(served):
    assert ask(served, "/", host="elsewhere.example")[0] == 403
    assert ask(served, "/", host=served.address.removeprefix("http://").replace("127.0.0.1", "localhost"))[0] == 200


def test_a_folder_without_runs_is_served_until_some_arrive(tmp_path):
    with PageServer(tmp_path / "runs", written, str) as served:
        assert "No saved runs yet" in ask(served, "/")[1]
        RUN.save(tmp_path / "runs" / "first")
        assert "/first/index.html" in ask(served, "/")[1]


def test_a_port_that_is_taken_is_told(runs):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot listen on port {port}"):
            PageServer(runs, written, str, port)
