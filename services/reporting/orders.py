"""What is to be written for a job: every kind, in the forms that its destinations ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from services.common.settings import AnyDestination
from services.reporting.analysis.analysis import Analysis
from services.reporting.kinds.kind import Kind, Order
from services.reporting.kinds.registry import Kinds
from services.reporting.objects.forms import PLAIN, Form
from services.reporting.predecessor import Earlier

# By destination, the earlier results that one for it may replace, the nearest first.
EarlierResults = Mapping[str, tuple[Earlier, ...]]


@dataclass(frozen=True, slots=True)
class Occasion:
    """What orders depend on beside the analysis itself.

    Attributes:
        destinations: those that are configured.
        earlier: earlier results by kind, for kinds that name them.
        series_number_base: settings.reporting.series_number_base.
        rank: the job's place among the study's jobs, from 0.
        remarks: sentences for the reader, by the segment's number in the manifest.
    """

    destinations: tuple[AnyDestination, ...]
    series_number_base: int
    rank: int
    earlier: Mapping[str, EarlierResults] = field(default_factory=dict[str, EarlierResults])
    remarks: Mapping[int, str] = field(default_factory=dict[int, str])


def orders_for(kinds: Kinds, analysis: Analysis, occasion: Occasion) -> list[tuple[Kind, Order]]:
    """What is written, in order: each kind after the kinds that it needs, the plain form first."""
    orders: list[tuple[Kind, Order]] = []
    for kind in kinds:
        if not kind.makes(analysis):
            continue
        earlier = occasion.earlier.get(kind.name, {})
        references = {
            each.sop_instance_uid: each.reference() for found in earlier.values() for each in found
        }
        for form in forms_wanted(kind, kinds, occasion.destinations, earlier):
            number = kind.names.series_number(occasion.series_number_base, occasion.rank, form)
            order = Order(form, number, dict(occasion.remarks), references.get(form.follows))
            orders.append((kind, order))
    return orders


def forms_wanted(
    kind: Kind,
    kinds: Kinds,
    destinations: Iterable[AnyDestination],
    earlier: EarlierResults | None = None,
) -> tuple[Form, ...]:
    """The forms of a kind to make: the plain form, and every other that a destination may get.

    While an earlier result is still on its way to a destination, both forms are made: the form that
    names the earlier result, and the form that does not.
    """
    forms = {kind.names.form_name(PLAIN): PLAIN}
    for destination in destinations:
        found: Sequence[Earlier] = (earlier or {}).get(destination.name, ())
        wanted = [kinds.form_for(destination, each.sop_instance_uid) for each in found]
        if not (found and found[0].certain):
            wanted.append(kinds.form_for(destination))
        for form in wanted:
            # Of forms that this kind writes alike, one is made.
            forms.setdefault(kind.names.form_name(form), form)
    return tuple(forms[name] for name in sorted(forms))
