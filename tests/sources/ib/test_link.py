import pytest

from backtest.errors import (
    AmbiguousContract,
    BadRequest,
    Busy,
    LinkLost,
    NoConnection,
    NoData,
    NoPermission,
    OtherSession,
    PacingViolation,
    Refused,
    TooLong,
    UnknownContract,
)
from backtest.sources.ib.error_codes import meaning, refusal
from backtest.sources.ib.link import Link

pytestmark = pytest.mark.second_client

HMDS = "Historical Market Data Service error message:"
LOST = "Connectivity between IB and Trader Workstation has been lost."
BACK = "Connectivity between IB and Trader Workstation has been restored"
HISTORY_BROKEN, HISTORY_OK = (f"HMDS data farm connection is {state}:ushmds" for state in ("broken", "OK"))
CONTRACTS_OK = "Sec-def data farm connection is OK:secdefnj"


@pytest.mark.parametrize(
    ("code", "text", "error"),
    [
        (100, "Max rate of messages per second has been exceeded", PacingViolation),
        (162, f"{HMDS}HMDS query returned no data: AAPL@SMART Trades", NoData),
        (162, f"{HMDS}Historical data request pacing violation", PacingViolation),
        (162, f"{HMDS}Time length exceed max.", TooLong),
        (162, f"{HMDS}invalid step", TooLong),
        (162, f"{HMDS}Invalid time length", TooLong),
        (162, f"{HMDS}No market data permissions for NYSE STK", NoPermission),
        (162, f"{HMDS}HMDS query returned no data: IP@SMART Trades", NoData),  # whose symbol is a word of another text
        (162, f"{HMDS}HMDS query returned no data: EUR.USD@IDEALPRO Ask", NoData),
        (162, "Message d'erreur:La requête HMDS n'a renvoyé aucune donnée : AAPL@SMART Trades", NoData),
        (162, "服务错误信息:HMDS 查询没有返回数据：AAPL@SMART Trades", NoData),
        (162, f"{HMDS}No data of type DayChart is available for the exchange 'CFE'", BadRequest),
        (162, "Fehlermeldung:Pacing-Verletzung bei der Anfrage", PacingViolation),
        (162, "Message d'erreur:Aucun droit aux données de marché pour NYSE STK", NoPermission),
        (162, "Message d'erreur:La session TWS est connectée depuis une autre IP", OtherSession),
        (162, "Message d'erreur:Requête de données historiques annulée : 7", None),
        (354, "Requested market data is not subscribed", NoPermission),
        (10089, "Requested market data requires additional subscription for API", NoPermission),
        (10090, "Part of requested market data is not subscribed", NoPermission),
        (10168, "Requested market data is not subscribed. Delayed market data is not enabled", NoPermission),
        (10186, "Requested market data is not subscribed. Delayed market data is not available", NoPermission),
        (162, f"{HMDS}Trading TWS session is connected from a different IP address", OtherSession),
        (10197, "No market data during competing live session", OtherSession),
        (162, f"{HMDS}Query failed", Refused),
        (162, f"{HMDS}HMDS server disconnect occurred. Attempting reconnection...", Refused),
        (162, "Error de mensaje del servicio de datos: desconocido", Refused),
        (162, f"{HMDS}No historical market data for EUR/CASH@FXSUBPIP Last 86400", BadRequest),
        (162, f"{HMDS}No chart is available for this contract", BadRequest),
        (162, f"{HMDS}No data of type EODChart is available for the exchange 'CBOE'", BadRequest),
        (162, f"{HMDS}API historical data query cancelled: 7", None),
        (366, "No historical data query found for ticker id:7", None),
        (165, "HMDS server connection was successful.", None),
        (166, "HMDS Expired Contract Violation", BadRequest),
        (200, "No security definition has been found for the request", UnknownContract),
        (200, "Für die Anfrage wurde keine Wertpapierdefinition gefunden", UnknownContract),
        (200, "The contract description specified for F is ambiguous.", AmbiguousContract),
        (
            200,
            "The contract description specified for SI is ambiguous; you must specify the multiplier or trading class.",
            AmbiguousContract,
        ),
        (200, "Die Kontraktbeschreibung für BRK B: nicht eindeutig", AmbiguousContract),
        (200, "Invalid destination exchange specified", UnknownContract),
        (320, "Server error when reading an API client request.", BadRequest),
        (321, "Error validating request:-'bN' : cause - Invalid duration", BadRequest),
        (321, "Error validating request.-'bW' : cause - Requests longer than 365 days must be made in years.", TooLong),
        (321, "Error.-'b2' : cause - Historical data requested duration is invalid.", BadRequest),
        (321, "Error.-'bW' : cause - Bar size setting is invalid. Legal ones are: 1 secs, 5 secs", BadRequest),
        (321, "Error.-'bW' : cause - date/time string [20240102] is invalid", BadRequest),
        (322, "Error processing request.-'bX' : cause - Duplicate ticker id", BadRequest),
        (322, "Error processing request.-'bX' : cause - Only 50 simultaneous requests allowed.", Busy),
        (322, "Fehler bei der Verarbeitung.-'bX' : Grund - Nur 50 gleichzeitige Anfragen", Busy),
        (326, "Unable to connect as the client id is already in use.", NoConnection),
        (420, "Invalid Real-time Query: No market data permissions for ISLAND STK", NoPermission),
        (420, "Invalid Real-time Query: pacing violation", PacingViolation),
        *[(code, "Not connected", LinkLost) for code in (502, 504, 507, 509, 1300)],
        *[(code, "about the link or a farm", None) for code in (1100, 1101, 1102, 2103, 2105, 2157)],
        *[(code, "about a farm", None) for code in (2104, 2106, 2158, 2107, 2108, 2119, 2110)],
        (2174, "Warning: You submitted request without explicit time zone", None),
        (10187, "Failed to request historical ticks", None),
        (10189, "Failed to request tick-by-tick data", None),
        (10225, "Bust event occurred", None),
        (10299, "Expected what to show is AGGTRADES", BadRequest),
        (10314, "End Date/Time: the date, time, or time-zone is invalid", BadRequest),
        (10339, "Setting end date/time for continuous future is not allowed.", BadRequest),
    ],
)
def test_each_code_means_what_ib_means_by_it(code, text, error):
    assert meaning(code, text) is error


def test_a_refusal_says_code_words_meaning_and_what_to_do():
    error = refusal(162, f"{HMDS}No market data permissions for NYSE STK", "1 D of AAPL/1min")

    assert (type(error), error.code) == (NoPermission, 162)
    assert "1 D of AAPL/1min with error 162" in str(error)
    assert "No market data permissions for NYSE STK; this login may not see these prices" in str(error)
    assert "subscribe" in str(error)


def connected(belief=60.0):
    link = Link(belief)
    link.connecting()
    for code, text in ((2104, "Market data farm connection is OK:usfarm"), (2106, HISTORY_OK), (2158, CONTRACTS_OK)):
        link.heard(code, text, 0.0)
    link.connected(0.0)
    return link


def test_nothing_is_sent_before_there_is_a_connection():
    link = Link()

    assert "no connection" in link.why_not()


def test_a_new_connection_works_and_is_believed_once_its_contracts_farm_is_known():
    assert connected().why_not() == ""
    assert connected().disbelief(0.0) == 0


def test_a_new_connection_that_has_not_told_of_its_contracts_farm_is_not_believed_at_once():
    link = Link(60.0)
    link.connecting()
    link.connected(0.0)

    assert link.disbelief(0.0) == 5
    assert link.disbelief(5.0) == 0


@pytest.mark.parametrize(("code", "losses"), [(1101, 1), (1102, 0)])
def test_the_link_that_comes_back_keeps_requests_or_loses_them(code, losses):
    link = connected()

    link.heard(1100, LOST, 10.0)
    down = link.why_not(), link.disbelief(10.0)
    link.heard(code, BACK, 20.0)

    assert down == ("the gateway has no link to IB (code 1100)", 60.0)
    assert (link.why_not(), link.losses) == ("", losses)
    assert (link.disbelief(20.0), link.disbelief(79.0), link.disbelief(80.0)) == (60, 1, 0)


def test_a_link_said_to_be_broken_is_back_when_a_farm_is():
    link = connected()

    link.heard(2110, "Connectivity between Trader Workstation and server is broken.", 1.0)
    down = link.why_not("contracts")
    link.heard(2106, HISTORY_OK, 2.0)

    assert "2110" in down
    assert link.why_not("contracts") == ""


def test_a_broken_history_farm_stops_bars_and_not_contracts():
    link = connected()

    link.heard(2105, HISTORY_BROKEN, 5.0)

    assert link.why_not() == "IB's history farm ushmds is broken"
    assert link.why_not("contracts") == ""
    assert link.disbelief(5.0) == 60


def test_a_farm_that_is_back_lets_bars_through_and_is_doubted_for_a_minute():
    link = connected()
    link.heard(2105, HISTORY_BROKEN, 5.0)

    link.heard(2106, HISTORY_OK, 8.0)

    assert link.why_not() == ""
    assert link.disbelief(8.0) == 60


def test_a_farm_elsewhere_that_is_broken_stops_nothing():
    link = connected()

    link.heard(2105, "HMDS data farm connection is broken:euhmds", 5.0)

    assert link.why_not() == ""


def test_a_market_data_farm_does_not_stop_history():
    link = connected()

    link.heard(2103, "Market data farm connection is broken:usfarm", 5.0)

    assert (link.why_not(), link.disbelief(5.0)) == ("", 0)


def test_a_broken_contracts_farm_stops_contracts_and_is_doubted():
    link = connected()

    link.heard(2157, "Sec-def data farm connection is broken:secdefnj", 5.0)

    assert "contracts farm secdefnj" in link.why_not("contracts")
    assert (link.why_not(), link.disbelief(5.0)) == ("", 60)


@pytest.mark.parametrize("code", [2107, 2108, 2119])
def test_an_idle_farm_is_fine(code):
    link = connected()

    assert link.heard(code, "HMDS data farm connection is inactive but should be available upon demand.ushmds", 5.0)

    assert (link.why_not(), link.disbelief(5.0)) == ("", 0)


def test_farms_that_were_broken_before_the_link_was_are_told_again():
    link = connected()
    link.heard(2105, HISTORY_BROKEN, 5.0)
    link.heard(1100, LOST, 6.0)

    link.heard(1102, BACK, 7.0)

    assert link.why_not() == ""


def test_a_broken_socket_loses_what_was_under_way_once():
    link = connected()

    link.disconnected()
    link.disconnected()

    assert (link.losses, link.why_not()) == (1, "there is no connection to the gateway")


def test_a_new_socket_forgets_the_old_farms_and_is_doubted():
    link = connected()
    link.heard(2105, HISTORY_BROKEN, 4.0)
    link.disconnected()

    link.connecting()
    link.connected(9.0)

    assert link.why_not() == ""
    assert link.disbelief(9.0) == 60


def test_what_is_not_about_the_link_is_left_to_others():
    assert not connected().heard(162, "Query failed", 1.0)
