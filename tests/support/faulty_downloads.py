"""The downloads and the faults that the table of faults and the storms of tests/soak share."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from backtest.market.series import Series
from backtest.sources.base import Patience


@dataclass(frozen=True)
class Job:
    """What is downloaded; the legacy limits make a window of each session of minutes, and of each year of days."""

    series: Series
    since: date
    until: date
    limits: str = "legacy"
    shut: tuple[date, ...] = ()  # days without a session which our calendar does not know of


DAILY, MINUTES = Series.parse("AAPL/1day"), Series.parse("AAPL/1min")
LATER = timedelta(days=60)  # of the gateway's clock: the vendor is late with nothing
# What must come in spite of a busy machine is given a minute; what is waited for in vain is short.
PATIENT = Patience(answer=60.0, connect=60.0, outage=60.0, backoff=0.01, backoff_most=0.05, belief=1.0)
IMPATIENT = replace(PATIENT, answer=0.4)  # for requests that are never answered
HMDS = "Historical Market Data Service error message:"
SPANISH = "Mensaje de error del servicio de datos hist\\xf3ricos:"  # as the client library shows what is no UTF-8
GERMAN = "Fehlermeldung des Dienstes für historische Marktdaten:"
INVALID = "Error validating request.-'bW' : cause - "


def on(do: str, nth: int = 1, times: int = 1, kind: str = "bars", longer: str = "", **words: Any) -> dict[str, Any]:
    return {"when": {"request": nth, "times": times, "kind": kind, "longer": longer}, "do": do, **words}


FINAL = [  # what asking again cannot mend: one request, and the advice
    (162, f"{HMDS}No market data permissions for NASDAQ STK", "subscribe"),
    (203, "The security AAPL is not available or allowed for this account.", "subscribe"),
    (354, "Requested market data is not subscribed.Delayed market data is available.", "subscribe"),
    (10089, "Requested market data requires additional subscription for API.", "subscribe"),
    (10090, "Part of requested market data is not subscribed.", "subscribe"),
    (10168, "Requested market data is not subscribed. Delayed market data is not enabled.", "subscribe"),
    (10186, "Requested market data is not subscribed. Delayed market data is not enabled.", "subscribe"),
    (162, f"{SPANISH}No hay permisos de datos de mercado para NASDAQ STK", "subscribe"),
    (162, f"{GERMAN}Keine Marktdatenberechtigungen f\\xfcr CBOE OPT.", "subscribe"),
    (162, f"{HMDS}Trading TWS session is connected from a different IP address", "log out there"),
    (162, f"{SPANISH}La sesi\\xf3n de TWS est\\xe1 conectada desde otra direcci\\xf3n IP", "log out there"),
    (162, f"{GERMAN}Verbindung der TWS-Sitzung von einer anderen IP-Adresse aus", "log out there"),
    (10197, "No market data during competing live session", "log out there"),
    (162, f"{HMDS}No historical market data for EUR/CASH@FXSUBPIP Last 1d", "another kind of price"),
    (162, f"{SPANISH}No hay datos históricos para EUR/CASH@FXSUBPIP Last 1d", "another kind of price"),
    (162, f"{HMDS}No data of type EODChart is available for the exchange 'CBOE'", "another kind of price"),
    (162, f"{HMDS}No data of type DayChart is available for the exchange 'CBOE' and the security type", "another kind"),
    (162, f"{GERMAN}Keine Daten vom Typ EODChart für die Börse 'CBOE' und '1 day'", "another kind of price"),
    (162, f"{HMDS}No chart is available", "another kind of price"),
    (166, "HMDS Expired Contract Violation:contract can not expire", "can never be served"),
    (320, "Error reading request. Unable to parse data", "can never be served"),
    (321, "Error validating request.-'bW' : cause - Historical data query end date/time", "can never be served"),
    (321, "Error al validar la solicitud.-'bW' : causa - Formato de duración no válido", "can never be served"),
    (322, "Error processing request.-'bX' : cause - Duplicate ticker id", "can never be served"),
    (326, "Unable to connect as the client id is already in use.", "client id"),
    (420, "Invalid Real-time Query:No market data permissions for AMEX STK", "subscribe"),
    (420, "Consulta en tiempo real no válida:No hay permisos para AMEX STK", "subscribe"),
    (10299, "Expected what to show is MIDPOINT, please use that instead of TRADES.", "another kind of price"),
    (10314, "End Date/Time: The date, time, or time-zone entered is invalid.", "can never be served"),
    (10339, "Setting end date/time for continuous future security type is not allowed.", "can never be served"),
]
UNKNOWN = [  # said falsely in and before outages: of a known contract believed when it is said again
    (200, "No security definition has been found for the request", "check symbol"),
    (200, "No se ha encontrado ninguna definición de valor para la solicitud", "check symbol"),
    (200, "The contract description specified for AAPL is ambiguous.", "name one by"),
    (200, "La descripción del contrato especificada para AAPL es ambigua.", "name one by"),
]
PASSING = [  # unknown, or said in passing: asked again, then for less, and never believed to be an empty market
    (162, f"{HMDS}Query failed", "Query failed"),
    (162, f"{HMDS}HMDS server disconnect occurred. Attempting reconnection...", "disconnect"),
    (162, f"{SPANISH}La consulta HMDS no devolvió datos", "devolvió"),
    (162, f"{SPANISH}intervalo no válido", "no válido"),
    (162, f"{HMDS}some new sentence", "some new sentence"),
    (162, "", "error 162"),
    (99999, "a code that nobody knows", "99999"),
]
PACED = [
    (100, "Max rate of messages per second has been exceeded:max=50 rec=51 (1)"),
    (162, f"{HMDS}Historical data request pacing violation"),
    (420, "Invalid Real-time Query:Historical data request pacing violation"),
]
TOO_LONG = [
    (162, f"{HMDS}Time length exceed max."),
    (162, f"{HMDS}invalid step: 1 secs"),
    (162, f"{HMDS}Invalid time length"),
    (162, f"{SPANISH}Paso no válido: 1 secs"),
    (321, f"{INVALID}Historical data requests for durations longer than 365 days must be made in years."),
    (321, f"{INVALID}Historical data request for greater than 86400 seconds rejected."),
    (321, "Error al validar la solicitud.-'bW' : causa - Las solicitudes de m\\xe1s de 12 meses deben hacerse en años"),
    (321, "Fehler bei der Prüfung.-'bW' : Grund - Anfragen für 52 Wochen und mehr sind in Jahren zu stellen"),
]
BUSY = [
    (322, "Error processing request:-'wd' : cause - Only 50 simultaneous API historical data requests allowed."),
    (321, "Error validating request.-'bW' : cause - Only 50 simultaneous API historical data requests allowed."),
    (322, "Error al procesar la solicitud.-'bX' : causa - Solo se permiten 50 solicitudes hist\\xf3ricas a la vez"),
]
BROKEN = [  # not connected
    (502, "Couldn't connect to TWS."),
    (504, "Not connected"),
    (507, "Bad Message Length"),
    (509, "Exception caught while reading socket - Connection reset by peer"),
    (1300, "TWS socket port has been reset and this connection is being dropped."),
]
NO_DATA = {"do": "error", "code": 162, "text": f"{HMDS}HMDS query returned no data: AAPL@SMART Trades"}
KEIN_DATA = {"do": "error", "code": 162, "text": f"{GERMAN}HMDS-Abfrage ergab keine Daten: BRK B@SMART Abschlüsse"}
CUTS = tuple({"do": "cut", "place": place, "bars": bars} for place in ("first", "middle", "last") for bars in (6, 40))
QUICK = (
    {"do": "drop", "bytes": 0}, {"do": "drop", "bytes": 300}, {"do": "drop", "bytes": 10**6}, {"do": "twice"},
    {"do": "lost", "seconds": 0.03, "code": 1101}, {"do": "lost", "seconds": 0.03, "code": 1102},
    {"do": "refuse", "seconds": 0.03}, {"do": "duplicate"}, {"do": "disorder"}, {"do": "empty"}, {"do": "unfinished"},
    {"do": "garbage"}, {"do": "delay", "seconds": 0.03}, {"do": "notice", "code": 2103}, {"do": "notice", "code": 2106},
    *({"do": "bad", "value": value} for value in ("nan", "huge", "high", "minus", "zero", "crossed", "off_grid")),
    *(
        {"do": "error", "code": code, "text": text}
        for code, text, *_ in (*FINAL, *UNKNOWN, *PASSING, *PACED, *BUSY, *TOO_LONG, *BROKEN)
    ),
    NO_DATA, *CUTS,
)  # fmt: skip
MUTES = ({"do": "silence"}, {"do": "foreign"}, {"do": "bad", "value": "text"})
