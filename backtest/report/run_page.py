"""`write_report`: the metrics and figures of a run on a page, one file that loads nothing from the network."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest import _arguments
from backtest.errors import UsageError, unsaved
from backtest.market import arrays
from backtest.market.series import Series, few
from backtest.metrics.account import column, growth_of_cash, hold, hold_name, sample_hold, session_ends
from backtest.metrics.drawdown import deepest, drawdowns
from backtest.metrics.measurement import check_result, with_metrics
from backtest.metrics.returns import REASONS
from backtest.metrics.table import GROUPS, METRICS, Metric, metric_value
from backtest.metrics.trades import REFUSED
from backtest.report.attribution import attribution
from backtest.report.charts.chart import Chart, chart_of, scripts
from backtest.report.charts.chart_data import is_daily
from backtest.report.charts.chart_view import ChartView
from backtest.report.figure_data import returns_by_length, years_beside_hold
from backtest.report.figures import FIGURES, NARROW, WIDE, Figure, save_pdf, save_png, shown_figures, svg
from backtest.report.rendering import GROUP_TITLES, own_script, rendered, shown_verdict, typeset
from backtest.runs.parameters import in_words, words_of
from backtest.runs.record import files_of, is_kept_in, refuse_another
from backtest.runs.round_trips import CALL
from backtest.store.reader import Reader
from backtest.store.replacement import Content, replace_files
from backtest.store.store import store_of
from backtest.validity.validation import Validity, validate

if TYPE_CHECKING:
    from backtest.metrics.measurement import Measured

_CARDS = ("total_return", "cagr", "volatility", "sharpe", "max_drawdown", "exposure", "trades", "costs")
_COMPARED = ("return", "risk", "drawdown")  # groups of metrics that are defined for some of a run's sessions
_QUANTILES = {"worst": 0.0, "5\N{NO-BREAK SPACE}%": 0.05, "25\N{NO-BREAK SPACE}%": 0.25, "median": 0.5,
              "75\N{NO-BREAK SPACE}%": 0.75, "95\N{NO-BREAK SPACE}%": 0.95, "best": 1.0}  # fmt: skip
_NAMED = 3  # series in the head, of more all are listed
_REPLACED = ("equity", "price")  # figures that the chart shows, where scripts run
_DEEPEST = 5  # drawdowns in the table
_SHOWN = 2_000  # trades in the table: more would make the page slow to open
_DRAWN = {"shuffle": "reshuffled", "resample": "resampled", "skip": "10 % skipped"}


def write_report(
    result: Measured,
    folder: str | Path,
    validity: Validity | None = None,
    figures: Iterable[Figure] = (),
    metrics: Iterable[Metric] = (),
    store: Reader | str | Path | None = None,
    *,
    force: bool = False,
) -> Path:
    """
    Write index.html and metrics.json into a folder, save the run there too, and return the path of the page.

    If the folder already holds this run, only the page is written.

    Args:
        validity: the result of `validate` for the run; by default computed with its defaults.
        figures: your own rows, like those of FIGURES; they follow the built-in ones.
        metrics: your own rows, like those of METRICS; they follow the built-in ones.
        store: where the chart finds the bars of the run; by default the store that the run read.
        force: whether another run that the folder holds is replaced.

    Raises:
        UsageError: the folder holds another run or cannot be written, or an argument is invalid.
    """
    result, folder = check_result(result, "result"), _arguments.path(folder, "folder")
    gone = refuse_another(folder, result, _arguments.truth(force, "force"))
    if validity is None:
        validity = validate(result)
    _arguments.instance(validity, "validity", Validity, "write what validate() returns")
    run = {} if is_kept_in(result, folder) else files_of(result)
    chart = chart_of(result, _reader(result, store))
    page_files = _page_files(with_metrics(result, metrics), validity, shown_figures(result, figures), chart)
    return _put_page(gone | run | page_files, folder)


def write_page(result: Measured, folder: Path, store: Reader | str | Path | None = None) -> Path:
    """
    Write index.html and metrics.json into the folder of a saved run, and return the path of the page.

    Args:
        store: where the chart finds the bars of the run; by default the store that the run read.

    Raises:
        UsageError: the folder cannot be written.
    """
    chart = chart_of(result, _reader(result, store))
    return _put_page(_page_files(result, validate(result), shown_figures(result), chart), folder)


def _reader(result: Measured, store: Reader | str | Path | None) -> Reader | None:
    return result.bars_from if store is None else store_of(store)


def _page_files(
    result: Measured, validity: Validity, figures: Sequence[Figure], chart: Chart
) -> dict[str, Content | None]:
    text = rendered("report.html", _content(result, validity, result.kept_as, figures, chart))
    return {"metrics.json": _numbers(result, validity).encode(), "index.html": text.encode()}


def _put_page(files: Mapping[str, Content | None], folder: Path) -> Path:
    try:
        replace_files(folder, files)
    except OSError as error:
        raise unsaved("report", folder, error) from error
    return folder / "index.html"


def write_figures(result: Measured, png: str = "", pdf: str = "") -> list[Path]:
    """
    Write the figures of a run as PNG files into a folder, or with its metrics as a PDF file; return the paths.

    Raises:
        UsageError: the folder or the file cannot be written.
    """
    try:
        paths = []
        if png:
            paths += save_png(result, Path(png))
        if pdf:
            save_pdf(result, Path(pdf))
            paths.append(Path(pdf))
    except OSError as error:
        raise UsageError(f"no figures can be written ({error}); name another place") from error
    return paths


def page(result: Measured, validity: Validity | None = None, kept_as: str = "") -> str:
    """
    Return the page of a run, HTML; the same run gives the same page.

    Args:
        kept_as: the user's name for the run's folder, if any.
    """
    figures, chart = shown_figures(result), chart_of(result, result.bars_from)
    return rendered("report.html", _content(result, validity or validate(result), kept_as, figures, chart))


def chart_view(result: Measured, store: Reader | str | Path | None = None) -> ChartView:
    """
    Return a page with only the interactive chart of a run or, if it cannot be drawn, static figures and the reason.

    Args:
        store: where the chart finds the bars of the run; by default the store that the run read.
    """
    result = check_result(result, "result")
    chart = chart_of(result, _reader(result, store))
    content = {
        "title": f"{result.spec.name} on {few(result.series)}",
        "name": result.spec.name,
        "series": few(result.series),
        "chart": chart,
        "figures": [_figure(result, FIGURES[name]) for name in _REPLACED],
        "scripts": () if chart.why_not else scripts(),
    }
    return ChartView(str(content["title"]), rendered("chart.html", content))


def _numbers(result: Measured, validity: Validity) -> str:
    content = {"run": result.name, **result.stats.document, "validity": validity.to_dict()}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _content(
    result: Measured, validity: Validity, kept_as: str, figures: Sequence[Figure], chart: Chart
) -> dict[str, Any]:
    held = _hold_texts(result)
    return {
        "chart": chart,
        "contents": _contents(result, figures, chart),
        "all_series": result.series if len(result.series) > _NAMED else [],
        "tables_script": own_script("table.js"),
        "years": list(_year_rows(result)),
        "quantile_heads": list(_QUANTILES),
        "quantiles": list(_quantile_rows(result)),
        "attribution": _attribution(result),
        "combination": _combination(result),
        "refused": list(_refused(result)),
        "called": list(_called(result)),
        "ruled": "reason" in result.orders_table.column_names,
        "refused_shown": _refused_shown(result),
        "replaced": () if chart.why_not else _REPLACED,
        "scripts": () if chart.why_not else scripts(),
        "name": result.spec.name,
        "series": few(result.series),
        "params": words_of(dict(sorted(result.spec.params.items()))),
        "run": kept_as or result.name,
        "own_name": result.name,
        "summary": _summary(result),
        "basis": result.stats.basis,
        "currency": result.stats.currency,
        "hold_name": hold_name(result),
        "verdict": shown_verdict(validity.verdict),
        "intervals_basis": validity.intervals.basis,
        "cards": [_card(result, validity, name, held) for name in _CARDS],
        "figures": [_figure(result, figure) for figure in figures],
        "drawdowns": list(_drawdown_rows(result)),
        "trades": list(_trade_rows(result)),
        "paid": "dividends" in result.trades_table.column_names,
        "trades_shown": _trades_shown(len(result.trades_table)),
        "zone": "" if is_daily(result) else ", UTC",
        "sums": _sums(result),
        "open": list(_open_positions(result)),
        "costs": list(_cost_rows(validity)),
        "break_even": _break_even(validity),
        "costs_basis": validity.costs_basis,
        "intervals": list(_interval_rows(result, validity)),
        "orders": list(_order_rows(validity)),
        "groups": [group for name in (*GROUPS, "") if (group := _group(result, name, held))["metrics"]],
        "tables": [
            _asked(result),
            *_tables({name: part for name, part in result.manifest.items() if name != "combination"}),
        ],
    }


def _summary(result: Measured) -> str:
    days, unit, end = result.account.days, result.account.unit, growth_of_cash(result)[-1]
    since = f" since {result.account.held_since}" if result.account.held_since else ""
    return (
        f"{result.spec.cash:,.0f} {result.stats.currency} became {end:,.0f} in {len(days):,} {unit} from "
        f"{days[0]} to {days[-1]}. Buying and holding {hold_name(result)}{since} would have ended at "
        f"{hold(result)[-1]:,.0f}, before costs."
    )


def _hold_texts(result: Measured) -> dict[str, str]:
    if result.account.held_since:  # until then it is cash, whose zeros say nothing of the benchmark
        return {}
    if not (hold(result) > 0).all():  # prices below zero, such as crude oil's in April 2020, have no return
        return {}
    account = sample_hold(result, result.account)
    rows = [metric for metric in result.stats.rows.values() if metric.group in _COMPARED]
    return {metric.name: typeset(metric.text(metric_value(metric, account))) for metric in rows}


def _card(result: Measured, validity: Validity, name: str, held: dict[str, str]) -> dict[str, str]:
    notes = {
        "exposure": f"annual turnover {typeset(result.stats.text('turnover'))}",
        "trades": f"{typeset(result.stats.text('win_rate'))} won" if result.stats["trades"] else "",
        "costs": f"{typeset(METRICS['cagr'].text(result.stats['costs'] / result.spec.cash))} of the cash",
    }
    note = notes.get(name) or (f"buy and hold {held[name]}" if name in held else "")
    return {
        "name": name,
        "label": METRICS[name].label,
        "definition": METRICS[name].definition,
        "text": typeset(result.stats.text(name)),
        "why": _why(result, name),
        "range": _range(validity, name),
        "note": note,
    }


def _range(validity: Validity, name: str) -> str:
    ends = validity.intervals.intervals.get(name, (math.nan, math.nan))
    return _from_to(name, ends)


def _from_to(name: str, ends: tuple[float, float]) -> str:
    return "" if math.isnan(ends[0]) else " to ".join(typeset(METRICS[name].text(end)) for end in ends)


def _why(result: Measured, name: str) -> str:
    reason = result.stats.reasons.get(name, "")
    return REASONS.get(reason, reason)


def _figure(result: Measured, figure: Figure) -> dict[str, str]:
    wide, narrow = (svg(figure.draw(result, width)) for width in (WIDE, NARROW))
    return {"name": figure.name, "title": figure.title, "alt": figure.alt(result), "wide": wide, "narrow": narrow}


def _drawdown_rows(result: Measured) -> Iterator[tuple[str, ...]]:
    account = result.account
    for one in deepest(drawdowns(account.days, account.equity), _DEEPEST):
        depth = METRICS["max_drawdown"].text(one.depth)
        yield (
            typeset(depth), str(one.peak), str(one.trough), str(one.recovery or "open"), f"{one.sessions:,}",
            f"{one.days:,}", ",".join(map(str, _month_rows(result, one.trough))),
        )  # fmt: skip


def _month_rows(result: Measured, day: date) -> tuple[int, int, int]:
    """Return the first row of the record in a session's month, the row after its last, and the session's last row."""
    ends = session_ends(result.record)
    days = arrays.numbers(result.record["session"])[ends].astype("datetime64[D]")
    last = np.append(-1, ends)
    month = np.datetime64(day, "M")
    moments = [month, np.datetime64(day) + np.timedelta64(1, "D"), month + np.timedelta64(1, "M")]
    before, within, until = np.searchsorted(days, np.array(moments, "datetime64[D]"))
    return int(last[before]) + 1, int(last[until]) + 1, int(last[within])


def _contents(result: Measured, figures: Sequence[Figure], chart: Chart) -> list[tuple[str, str]]:
    """Return the anchors of the page, with the titles of their links."""
    drawn = [(figure.name, figure.title) for figure in figures if chart.why_not or figure.name not in _REPLACED]
    refused = [("refused", "Rejected orders")] if next(_refused(result), None) else []
    combined = [("combination", "Combined runs")] if result.combination else []
    refused += [("called", "Margin calls")] if next(_called(result), None) else []
    return [
        *([] if chart.why_not else [("chart", "Chart")]), *drawn, ("years", "Years"), ("quantiles", "Quantiles"),
        ("drawdowns", "Drawdowns"), ("attribution", "Where the result came from"), *combined, ("trades", "Trades"),
        *refused,
        ("other-costs", "Cost sensitivity"), ("luck", "Skill or luck"), ("numbers", "All metrics"),
        ("made", "Inputs"),
    ]  # fmt: skip


def _year_rows(result: Measured) -> Iterator[tuple[str, ...]]:
    text = METRICS["total_return"].text
    for year, own, held in zip(*years_beside_hold(result), strict=True):
        yield str(year), *(typeset(text(one)) if one == one else "–" for one in (own, held, own - held))


def _quantile_rows(result: Measured) -> Iterator[tuple[str, ...]]:
    text = METRICS["total_return"].text
    for name, returns in returns_by_length(result).items():
        shares = np.quantile(returns, list(_QUANTILES.values()))
        yield name, *(typeset(text(float(one))) for one in shares)


def _attribution(result: Measured) -> dict[str, Any]:
    found = attribution(result)
    text = METRICS["total_return"].text
    rows = [
        {
            "series": "" if share.series is None else result.series[share.series],
            "side": share.side,
            "total": _cents(share.total),
            "weight": "" if share.series is None else typeset(text(share.weight)),
            "held": "" if share.series is None else typeset(text(share.held)),
            "money": [_cents(cents) for cents in share.cents],
        }
        for share in found.shares
    ]
    totals = [_cents(cents) for cents in found.totals]
    return {"years": found.years, "rows": rows, "totals": totals, "total": _cents(found.total)}


def _combination(result: Measured) -> dict[str, Any] | None:
    found = result.combination
    if found is None:
        return None
    share, ratio = METRICS["cagr"].text, METRICS["sharpe"].text
    rows = [
        [one.label, typeset(share(one.weight)), _money(one.contribution), _money(one.costs), typeset(share(one.risk)),
         typeset(share(one.max_drawdown)), _money(one.fall)]
        for one in found.runs
    ]  # fmt: skip
    totals = [_money(sum(getattr(one, name) for one in found.runs)) for name in ("contribution", "costs", "fall")]
    labels = [one.label for one in found.runs]
    return {
        "rows": rows,
        "totals": ["", *totals[:2], "", typeset(share(found.depth)), totals[2]],
        "labels": labels,
        "correlation": [[label, *(typeset(ratio(one)) for one in row)]
                        for label, row in zip(labels, found.correlation, strict=True)],
        "words": [typeset(found.basis), typeset(found.drawdown)],
    }  # fmt: skip


def _cents(cents: int) -> str:
    return typeset(f"{'-' if cents < 0 else ''}{abs(cents) // 100:,}.{abs(cents) % 100:02}")


def _refused(result: Measured) -> Iterator[dict[str, str]]:
    daily, table = is_daily(result), result.orders_table
    places = [n for n, status in enumerate(table["status"].to_pylist()) if status in REFUSED]
    for row in table.take(np.array(places[:_SHOWN], np.int64)).to_pylist():
        yield _order_row(row, daily)


def _order_row(row: Mapping[str, Any], daily: bool) -> dict[str, str]:
    return {
        "ref": f"{row['ref']:,}",
        "series": Series.parse(row["series"]).short,
        "side": row["side"] or "",
        "kind": row["kind"] or "",
        "size": f"{abs(row['size'] or 0):,.10g}",
        "given": _time(row["created"], daily),
        "status": row["status"],
        "reason": typeset(row.get("reason") or ""),
    }


def _called(result: Measured) -> Iterator[dict[str, str]]:
    """Yield the orders that the account submitted itself in margin calls."""
    table = result.orders_table
    if "reason" not in table.column_names:
        return
    places = [n for n, reason in enumerate(table["reason"].to_pylist()) if (reason or "").startswith(CALL)]
    for row in table.take(np.array(places[:_SHOWN], np.int64)).to_pylist():
        yield _order_row(row, is_daily(result)) | {"price": _price(row["price"]) if row["filled"] else ""}


def _refused_shown(result: Measured) -> str:
    count = sum(status in REFUSED for status in result.orders_table["status"].to_pylist())
    return f"These are the first {_SHOWN:,} of {count:,}; orders.parquet has all of them. " if count > _SHOWN else ""


def _trade_rows(result: Measured) -> Iterator[dict[str, Any]]:
    daily, places = is_daily(result), _weightiest(result)
    rows = result.trades_table.take(places).to_pylist()
    short = {name: Series.parse(name).short for name in {row["series"] for row in rows}}
    for place, row in zip(places.tolist(), rows, strict=True):
        unit = f" {row['currency']}" if row.get("currency") else ""  # where money is converted
        yield {
            "place": place,
            "raw": repr(row["net"]),
            "series": short[row["series"]],
            "side": "long" if row["size"] > 0 else "short",
            "size": f"{abs(row['size']):,.10g}",
            "entry": _time(row["entry"], daily),
            "exit": _time(row["exit"], daily),
            "bars": f"{row['bars']:,}",
            "entry_price": f"{_price(row['entry_price'])}{unit}",
            "exit_price": f"{_price(row['exit_price'])}{unit}",
            "costs": _money(row["costs"]),
            "dividends": _money(row["dividends"]) if "dividends" in row else "",
            "net": _money(row["net"]),
            "return": typeset(METRICS["total_return"].text(row["return"])),
            "ended": (row.get("reason") or "").partition(":")[0],
        }


def _trades_shown(count: int) -> str:
    if count <= _SHOWN:
        return ""
    return f"The {_SHOWN:,} of {count:,} trades with the largest profit or loss; trades.parquet has all of them."


def _weightiest(result: Measured) -> np.ndarray:
    """Return the positions of the shown trades, in order: those with the largest results."""
    moved = np.abs(column(result.trades_table, "net"))
    return np.sort(np.argsort(-moved, kind="stable")[:_SHOWN])


def _open_positions(result: Measured) -> Iterator[str]:
    for n, name in enumerate(result.series):
        size, close = (column(result.record, f"{what}.{n}")[-1] for what in ("position", "close"))
        if size:
            yield f"{typeset(f'{size:,.10g}')} {name} at the last close of {_price(close)}"


def _sums(result: Measured) -> list[tuple[str, str]]:
    """Return how closed trades and open positions add up to the change of equity."""
    closed = round(column(result.trades_table, "net").sum(), 2)
    change = round(growth_of_cash(result)[-1] - result.spec.cash, 2)
    left = change - closed
    rows = [("Closed trades, net", closed), ("Open positions and other items", left), ("Change of equity", change)]
    return [(label, _money(money)) for label, money in rows]


def _cost_rows(validity: Validity) -> Iterator[list[str]]:
    for case in validity.costs:
        names = ("total_return", "cagr", "sharpe")
        yield [f"{case.factor:g}×", *(typeset(METRICS[name].text(getattr(case, name))) for name in names)]


def _break_even(validity: Validity) -> str:
    factor = validity.break_even
    if factor != factor:
        return f"No break-even: {REASONS[getattr(factor, 'reason', 'undefined')]}."
    return f"Break-even cost multiple: {factor:,.1f}."


def _interval_rows(result: Measured, validity: Validity) -> Iterator[tuple[str, str, str]]:
    """Yield label, value and interval of each number, and of the Sharpe ratio by its standard error too."""
    stats = result.stats
    for name in validity.intervals.intervals:
        yield METRICS[name].label, typeset(stats.text(name)), _range(validity, name) or "–"
    ends = stats["sharpe_low"], stats["sharpe_high"]
    yield "Sharpe ratio, from its HAC standard error", typeset(stats.text("sharpe")), _from_to("sharpe", ends) or "–"


def _order_rows(validity: Validity) -> Iterator[list[str]]:
    for one in validity.orders:
        ends = [typeset(f"{money:,.0f}") for money in one.end]
        falls = [typeset(METRICS["max_drawdown"].text(depth)) for depth in one.drawdown]
        yield [_DRAWN[one.method], *ends, *falls, typeset(METRICS["win_rate"].text(one.loss))]


def _group(result: Measured, group: str, held: dict[str, str]) -> dict[str, Any]:
    names = [name for name, metric in result.stats.rows.items() if metric.group == group]
    return {"title": GROUP_TITLES[group], "metrics": [_metric_row(result, name, held) for name in names]}


def _metric_row(result: Measured, name: str, held: dict[str, str]) -> dict[str, str]:
    metric = result.stats.rows[name]
    return {
        "name": name,
        "label": metric.label,
        "text": typeset(result.stats.text(name)),
        "why": _why(result, name),
        "held": held.get(name, ""),
        "definition": metric.definition,
    }


_LABELS = {"params": "parameters", "risk_free": "risk-free rate", "sessions_a_year": "sessions per year"}
_PLAIN = (bool, int, float, str, list, dict, type(None))


def _asked(result: Measured) -> dict[str, Any]:
    params = {name: one if isinstance(one, _PLAIN) else in_words(one) for name, one in result.spec.params.items()}
    told = {**result.spec.flat, "params": params}
    rows = [(_LABELS.get(name, name.replace("_", " ")), _word(value)) for name, value in told.items() if value != ""]
    return {"title": "Settings", "head": [], "rows": rows}


def _tables(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a table for each section of a manifest, and one for single values; sorted, as in a saved run."""
    for title, part in sorted(manifest.items()):
        if isinstance(part, dict) and part and all(isinstance(row, dict) for row in part.values()):
            head = sorted({key for row in part.values() for key in row})
            rows = [(name, *(_word(row.get(key, "")) for key in head)) for name, row in sorted(part.items())]
            yield {"title": title, "head": ["name", *head], "rows": rows}
        elif isinstance(part, dict):
            yield {"title": title, "head": [], "rows": [(key, _word(value)) for key, value in sorted(part.items())]}
    words = [(key, _word(value)) for key, value in sorted(manifest.items()) if not isinstance(value, dict)]
    if words:
        yield {"title": "Machine", "head": [], "rows": words}


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_word(one)}" for key, one in sorted(value.items())) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_word, value)) or "none"
    return f"{value:,.10g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _time(moment: datetime, daily: bool) -> str:
    return f"{moment:%Y-%m-%d}" if daily else f"{moment:%Y-%m-%d %H:%M:%S}".removesuffix(":00")


def _price(price: float) -> str:
    whole, _, decimals = f"{price:,.6f}".partition(".")
    return typeset(f"{whole}.{decimals.rstrip('0').ljust(2, '0')}")


def _money(money: float) -> str:
    return typeset(f"{money:z,.2f}")
