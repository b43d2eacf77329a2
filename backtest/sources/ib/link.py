"""
`Link`: which connections work at the moment, by the codes that the gateway sends.

Three things break independently: the socket to the gateway, the gateway's link to IB, and single data farms. A farm
or link that is broken is not a reason to close the socket: the gateway repairs both by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_FARM_STATES = {
    **dict.fromkeys((2103, 2105, 2157), False),
    **dict.fromkeys((2104, 2106, 2158, 2107, 2108, 2119), True),  # an idle farm wakes with the next request
}
_KIND_OF_FARM = {
    **dict.fromkeys((2105, 2106, 2107), "history"),
    **dict.fromkeys((2157, 2158), "contracts"),
    **dict.fromkeys((2103, 2104, 2108, 2119), "market"),
}
_LINK_LOST, _LINK_BACK, _BROKEN_TO_SERVER = 1100, (1101, 1102), 2110
_SHORTLY = 1 / 12  # of the belief: how long a new connection may take to say that its contracts farm works


@dataclass(slots=True)
class _Farm:
    kind: str
    works: bool


@dataclass(slots=True)
class Link:
    """
    The connections to IB that work, by the gateway's messages; times are seconds on the caller's clock.

    Args:
        belief: seconds after an outage during which "no such instrument" is ignored: the gateway may report it falsely.
    """

    belief: float = 60.0
    losses: int = 0  # how often the requests under way were lost
    _socket: bool = False
    _ib: int = 0  # the code that said that the link to IB is lost, 0 while it works
    _connected: float = 0.0
    _mended: float = field(default=float("-inf"))
    _farms: dict[str, _Farm] = field(default_factory=dict)

    def connecting(self) -> None:
        """Note that a new connection begins, on which the gateway will report again what works."""
        self._ib, self._farms = 0, {}

    def connected(self, now: float) -> None:
        """Note that the socket works."""
        if self.losses:
            self._mended = now
        self._socket, self._connected = True, now

    def disconnected(self) -> None:
        """Note that the socket broke; pending requests are lost with it."""
        self.losses += self._socket
        self._socket = False

    def heard(self, code: int, text: str, now: float) -> bool:
        """Note a message of the gateway, and return whether it was about the link or a farm."""
        if code in (_LINK_LOST, _BROKEN_TO_SERVER):
            self._ib = code
        elif code in _LINK_BACK:
            self._back(code, now)
        elif code in _FARM_STATES:
            self._farm(code, text, now)
        else:
            return False
        return True

    def why_not(self, kind: str = "history") -> str:
        """Return why no request of a kind (history, contracts) may be sent now, "" if it may."""
        if not self._socket:
            return "there is no connection to the gateway"
        if self._ib:
            return f"the gateway has no link to IB (code {self._ib})"
        broken = sorted(name for name, farm in self._farms.items() if farm.kind == kind and not farm.works)
        if not broken or any(farm.works for farm in self._farms.values() if farm.kind == kind):
            return ""  # which farm has a contract is not known: one that works may have it
        return f"IB's {kind} farm {', '.join(broken)} is broken"

    def disbelief(self, now: float) -> float:
        """Return for how many seconds to ignore "no such instrument"; 0 if it counts."""
        if self.why_not("contracts") or self.why_not("history"):
            return self.belief
        told = any(farm.kind == "contracts" and farm.works for farm in self._farms.values())
        known_at = self._connected if told else self._connected + self.belief * _SHORTLY
        return max(0.0, self._mended + self.belief - now, known_at - now)

    def _back(self, code: int, now: float) -> None:
        self.losses += code == 1101
        self._ib, self._mended = 0, now
        for name in [name for name, farm in self._farms.items() if not farm.works]:
            del self._farms[name]  # the gateway says again which are broken; a farm it forgets must not stop us

    def _farm(self, code: int, text: str, now: float) -> None:
        # "... is OK:usfarm.nj", but "... available upon demand.ushmds"
        name = text.rpartition(":" if ":" in text else ".")[2].strip()
        kind, works = _KIND_OF_FARM[code], _FARM_STATES[code]
        known = self._farms.get(name)
        if works and known and not known.works:
            self._mended = now
        if works and self._ib == _BROKEN_TO_SERVER:
            self._ib, self._mended = 0, now  # after 2110 no 1102 need follow
        self._farms[name] = _Farm(kind, works)
