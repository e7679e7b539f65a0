"""The event hub: who is told what."""

from realmkit.arch.events import Event, EventHub, GptChange, RecEntered


def test_an_observer_of_some_kinds_hears_of_no_others() -> None:
    hub = EventHub()
    some: list[Event] = []
    everything: list[Event] = []
    hub.subscribe(some.append, kinds=(RecEntered,))
    hub.subscribe(everything.append)
    entered, changed = RecEntered(1, 0, 0x1000), GptChange(2, 0, 0x2000, "NS", "REALM")
    hub.emit(entered)
    hub.emit(changed)
    assert some == [entered]
    assert everything == [entered, changed]


def test_observers_are_told_in_the_order_in_which_they_came() -> None:
    hub = EventHub()
    order: list[str] = []
    hub.subscribe(lambda _: order.append("first"))
    hub.subscribe(lambda _: order.append("second"), kinds=(RecEntered,))
    hub.subscribe(lambda _: order.append("third"))
    hub.emit(RecEntered(0, 0, 0))
    assert order == ["first", "second", "third"]


def test_who_has_left_hears_nothing_and_costs_nothing() -> None:
    hub = EventHub()
    seen: list[Event] = []
    leave = hub.subscribe(seen.append, kinds=(RecEntered,))
    stay = hub.subscribe(lambda _: None, detailed=False)
    assert (hub.active, hub.detailed) == (True, True)
    leave()
    hub.emit(RecEntered(0, 0, 0))
    assert not seen
    assert (hub.active, hub.detailed) == (True, False)
    stay()
    assert not hub.active
