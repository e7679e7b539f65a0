"""RMI_REC_CREATE, REC_DESTROY and PSCI_COMPLETE (spec: rmi sections 6.8, 6.9, 6.11)."""

from typing import TYPE_CHECKING, Final

from realmkit.arch.psci import PsciStatus
from realmkit.arch.rmi import MAX_REC_AUX, REC_RUNNABLE, RecParams, Rmi, Status, mpidr_to_index
from realmkit.arch.smccc import signed
from realmkit.machine.port import El2Port
from realmkit.rmm.dispatch import Command, rmi_command
from realmkit.rmm.execution import psci_requests, registers
from realmkit.rmm.features import MAX_RECS, REC_AUX_COUNT
from realmkit.rmm.measurement import extend_rim_rec
from realmkit.rmm.state import GranuleState, RealmState, Rec, Refusal

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

_MPIDR_SBZ: Final = ~0xFFFF_FF0F
_DELEGATED: Final = GranuleState.DELEGATED


def rec_create(rmm: "Rmm", port: El2Port, rd: int, rec: int, params_ptr: int) -> tuple[int, ...]:
    """RMI_REC_CREATE: ``rec`` becomes the next REC of the Realm, with the parameters at ``params_ptr``."""
    granules = rmm.granules
    granules.require_ns(params_ptr, "params")
    params = RecParams.unpack(granules.read_ns(port, params_ptr, "params"))
    if params.num_aux > MAX_REC_AUX:
        raise Refusal("num_aux_bound", Status.ERROR_INPUT)
    aux = params.aux[: params.num_aux]
    for pa in aux:
        granules.require(pa, _DELEGATED, "aux")
    if len({rec, *aux}) != len(aux) + 1:
        raise Refusal("aux_alias", Status.ERROR_INPUT)
    granules.require(rec, _DELEGATED, "rec")
    realm = rmm.require_realm(rd)
    if realm.num_recs >= MAX_RECS:
        raise Refusal("num_recs", Status.ERROR_REALM)
    if realm.state is not RealmState.NEW:
        raise Refusal("realm_state", Status.ERROR_REALM)
    if params.mpidr & _MPIDR_SBZ or mpidr_to_index(params.mpidr) != realm.rec_index:
        raise Refusal("mpidr_index", Status.ERROR_INPUT)
    if params.num_aux != REC_AUX_COUNT:
        raise Refusal("num_aux", Status.ERROR_INPUT)

    if port.events.active:
        rmm.detail["params"] = params.describe()
    runnable = bool(params.flags & REC_RUNNABLE)
    if runnable:
        extend_rim_rec(port, realm, params)
    granules.take(port, rec, GranuleState.REC)
    for pa in aux:
        granules.take(port, pa, GranuleState.REC_AUX)
    context = registers.initial(port, realm, params)
    rmm.recs[rec] = Rec(rec, realm, params.mpidr, context, aux, runnable)
    realm.rec_index += 1
    realm.num_recs += 1
    return ()


def rec_destroy(rmm: "Rmm", port: El2Port, rec: int) -> tuple[int, ...]:
    """RMI_REC_DESTROY: the REC and its auxiliary granules are wiped and DELEGATED again."""
    found = require_rec(rmm, rec, "rec")
    if found.running:
        raise Refusal("rec_state", Status.ERROR_REC)

    port.release(found.ctx)
    del rmm.recs[rec]
    for pa in (rec, *found.aux):
        rmm.granules.release(port, pa)
    found.realm.num_recs -= 1
    return ()


def psci_complete(rmm: "Rmm", port: El2Port, calling_rec: int, target_rec: int, status: int) -> tuple[int, ...]:
    """RMI_PSCI_COMPLETE: the Host answers a CPU_ON or AFFINITY_INFO request of ``calling_rec`` about ``target_rec``."""
    if calling_rec == target_rec:
        raise Refusal("alias", Status.ERROR_INPUT)
    calling = require_rec(rmm, calling_rec, "calling")
    target = require_rec(rmm, target_rec, "target")
    request = calling.psci_pending
    if request is None:
        raise Refusal("pending", Status.ERROR_INPUT)
    if calling.realm is not target.realm:
        raise Refusal("owner", Status.ERROR_INPUT)
    if target.mpidr != request.mpidr:
        raise Refusal("target", Status.ERROR_INPUT)
    answer = signed(status)
    if not psci_requests.is_permitted(request, target, answer):
        raise Refusal("status", Status.ERROR_INPUT)

    psci_requests.complete(calling, target, PsciStatus(answer))
    return ()


def require_rec(rmm: "Rmm", pa: int, name: str) -> Rec:
    """The REC of a granule, by the conditions ``<name>_align``, ``_bound`` and ``_gran_state`` (RMI_ERROR_INPUT)."""
    rmm.granules.require(pa, GranuleState.REC, name, f"{name}_gran_state")
    return rmm.recs[pa]


COMMANDS: Final[tuple[Command, ...]] = (
    rmi_command(Rmi.REC_CREATE, rec_create),
    rmi_command(Rmi.REC_DESTROY, rec_destroy),
    rmi_command(Rmi.PSCI_COMPLETE, psci_complete),
)
