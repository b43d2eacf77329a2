"""Vendors' terms in many languages: for columns, months, days of the week and time zones."""

from __future__ import annotations

# Ours -> what it is called, in small letters and digits alone ("Close/Last" is closelast, "1. open" is open); words of
# the second line count where there is none of the first. Languages: English; German, French, Spanish, Italian,
# Portuguese, Dutch, Polish, Swedish, Danish, Norwegian, Finnish, Czech, Hungarian, Turkish, Russian, Chinese, Japanese,
# Korean. An adjusted close is not a close: beside raw open, high and low it would break the rules of a bar.
WORDS: dict[str, tuple[str, ...]] = {
    "time": (
        "opentime opendate timeopen barstart start starttime startdate begin windowstart timeperiodstart "
        "candlebegintime",
        "time date datetime dateandtime datetimeutc timestamp ts t day days dates tradedate tradingday "
        "tradingdate period gmttime localtime bartime bardate candletime unix unixtime unixtimestamp epoch "
        "epochtime tsevent pricedate businessdate asofdate dtyyyymmdd yyyymmdd timeutc utctime utc datetimestamp "
        "observationdate sessiondate eventtime eventdate quotedate quotetime marketdate valuedate datadate caldt "
        "dt dtime bar candle index month week datum zeit zeitpunkt uhrzeit zeitstempel tag handelstag heure jour "
        "seance fecha hora fechahora data ora dataora datahora horario tijd czas godzina datum tid klockslag "
        "dato tidspunkt klokkeslaet klokkeslett dag paivamaara pvm aika kello cas ido idopont tarih saat zaman "
        "дата время датавремя 日期 时间 時間 交易日期 日時 日付 時刻 日付時刻 일자 날짜 시간 일시",
        "closetime timeclose endtime enddate end barend closedate timeperiodend windowend",
    ),
    "open": (
        "open o opn openprc prcod openprice priceopen first firstprice opening openingprice erstkurs erster eroffn "
        "eroffnung "
        "eroffnungskurs eroffnungspreis ouverture ouv premier apertura abertura preapertura openen opening "
        "otwarcie kursotwarcia oppning oppningskurs oppen abning abningskurs apning apningskurs avaus "
        "avauskurssi otevreni oteviraci otevrel nyito nyitoar acılıs acilıs acilis открытие откр ценаоткрытия 开盘 "
        "开盘价 開盤 開盤價 今开 始値 시가",
    ),
    "high": (
        "high h hi hgh askhi prchd highprice pricehigh highest max maximum hoch hochst hochstkurs hochstpreis "
        "tageshoch haut plushaut haute maximo maxima massimo hoog hoogste najwyzszy maks maksimum hogsta hogst "
        "hogstakurs hoj hojeste hojest hoy hoyest hoyeste ylin nejvyssi legmagasabb yuksek enyuksek максимум макс "
        "наибольшая максцена 最高 最高价 最高價 高値 고가",
    ),
    "low": (
        "low l lo bidlo prcld lowprice pricelow lowest min minimum tief tiefst tiefstkurs tiefstpreis tagestief bas "
        "plusbas "
        "basse minimo minima laag laagste najnizszy lagsta lagst lagstakurs lav laveste lavest alin nejnizsi "
        "legalacsonyabb dusuk endusuk минимум мин наименьшая минцена 最低 最低价 最低價 安値 저가",
    ),
    "close": (
        "close c cls prc prccd closeprice priceclose closing closingprice closelast schluss schlusskurs schlusspreis "
        "schlussstand cloture clot clos fermeture cierre chiusura chius fechamento slot slotkoers sluiten zamkniecie "
        "kurszamkniecia stangning stangningskurs slutkurs lukning lukkekurs sluttkurs slutt paatos paatoskurssi "
        "zaviraci zaverecna zavreni uzaviraci zaro zaroar kapanis kapanıs закрытие закр ценазакрытия 收盘 收盘价 "
        "收盤 收盤價 終値 종가",
        "last latest price lastprice lasttrade settle settlement settleprice settlementprice ltp lasttraded "
        "zuletzt letzter kurs "
        "dernier ultimo laatste koers senast siste seneste viimeisin son simdi цена value",
    ),
    "volume": (
        "volume vol v totalvolume sharevolume sharestraded volumeshares basevolume volumebase volumefrom "
        "tradedvolume totaltradedquantity realvolume pxvolume cshtrd stucke stuck stuckzahl stuecke stueck stueckzahl "
        "quantite quantita quantidade "
        "wolumen volym antal maara objem forgalmazott mennyiseg hacim hac объем 成交量 交易量 出来高 거래량",
        "volumen",  # beside a number of pieces it is money, on German pages
        "tickvol tickvolume tickqty quantity qty ticks contracts",
    ),
    "average": (
        "average vwap wap vw avgprice averageprice weightedaverage weightedaverageprice volumeweightedaverage",
    ),
    "trades": (
        "trades count barcount transactions n numberoftrades nooftrades numtrades tradecount tradescount ntrades",
    ),
    "symbol": (
        "symbol ticker tickersymbol tic sym symbole simbolo 代码 股票代码 tsCode",
        "name instrument security code stockcode ric stock pair asset contract secid company act_symbol kurzel "
        "wkn isin",
    ),
}

# What a column or a line is called that says in which currency prices are; and names of columns that have one in them.
CURRENCY_WORDS = (
    "currency ccy curr cur currencycode pricecurrency tradingcurrency devise wahrung waehrung moneda moeda valuta "
    "divisa waluta deviza mena para parabirimi валюта 货币 币种 通貨 통화"
)
_CODES = (
    "USD EUR GBP CHF CAD AUD NZD JPY HKD CNY CNH SGD KRW INR SEK NOK DKK PLN CZK HUF TRY RUB ILS ZAR MXN BRL THB TWD "
    "MYR IDR PHP SAR AED USDT USDC GBX"
)
CURRENCY_NAMES = {code.lower(): code for code in _CODES.split()} | {
    "euro": "EUR", "euros": "EUR", "pence": "GBX", "yen": "JPY",
}  # fmt: skip

_MONTH_NAMES = (  # from January on
    "jan januar january janvier janv enero ene gennaio gen janeiro januari sty styczen янв января",
    "feb februar february fevrier février fevr févr febrero febbraio fevereiro fev februari lut luty фев февраля",
    "mar mrz maerz marz mär märz march mars marzo março maart mrt marzec мар марта",
    "apr april avril avr abril abr aprile kwi kwiecien апр апреля",
    "may mai mayo maggio mag maio mei maj май мая",
    "jun juni june juin junio giugno giu junho cze czerwiec июн июня",
    "jul juli july juillet juil julio luglio lug julho lip lipiec июл июля",
    "aug august aout août agosto ago augustus augusti sie sierpien авг августа",
    "sep sept september septembre septiembre settembre set setembro wrz wrzesien сен сентября",
    "oct okt october oktober octobre octubre ottobre ott outubro out paz pazdziernik окт октября",
    "nov november novembre noviembre novembro lis listopad ноя ноября",
    "dec dez december dezember decembre déc décembre diciembre dic dicembre dezembro gru grudzien дек декабря",
)
MONTHS = {word: number for number, words in enumerate(_MONTH_NAMES, 1) for word in words.split()}
# How the days of the week begin, and how numbers of days end.
WEEKDAYS = "mon|tue|wed|thu|fri|sat|sun|mo|di|mi|do|fr|sa|so|lun|mar|mer|mie|jeu|jue|ven|vie|sam|sab|dim|dom"
ORDINAL = "(?:st|nd|rd|th)?"
# Those of the world's that mean one offset; CST, IST and BST mean several. ET and the like change with the season.
ABBREVIATIONS: dict[str, float | str] = {
    "Z": 0, "UTC": 0, "GMT": 0, "EST": -5, "EDT": -4, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
    "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "MEZ": 1, "MESZ": 2, "EET": 2, "EEST": 3, "MSK": 3, "JST": 9, "KST": 9,
    "HKT": 8, "SGT": 8, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13,
    "ET": "America/New_York", "CT": "America/Chicago", "PT": "America/Los_Angeles",
}  # fmt: skip
