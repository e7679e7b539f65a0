"""RMI_REALM_CREATE, ACTIVATE, DESTROY and RMI_REC_AUX_COUNT (spec: rmi sections 6.4-6.7)."""

from typing import TYPE_CHECKING, Final

from realmkit.arch.pas import GRANULE_SIZE
from realmkit.arch.rmi import (
    FEATURE_REGISTER_0,
    REALM_FLAG_LPA2,
    REALM_FLAG_PMU,
    REALM_FLAG_SVE,
    HashAlgorithm,
    RealmParams,
    Rmi,
    Status,
)
from realmkit.arch.time import CHARGE_PAGE
from realmkit.arch.vmsa import starting_tables
from realmkit.machine.port import El2Port
from realmkit.rmm.dispatch import Command, rmi_command
from realmkit.rmm.features import IPA_WIDTH_MIN, PA_LIMIT, REC_AUX_COUNT, feature_register_0, vmid_limit
from realmkit.rmm.measurement import initial_rim
from realmkit.rmm.rtt import fill_starting_tables
from realmkit.rmm.state import GranuleState, Realm, RealmState, Refusal

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm


def realm_create(rmm: "Rmm", port: El2Port, rd: int, params_ptr: int) -> tuple[int, ...]:
    """RMI_REALM_CREATE: ``rd`` and the starting RTTs become a Realm in state NEW."""
    granules = rmm.granules
    granules.require_ns(params_ptr, "params")
    params = RealmParams.unpack(granules.read_ns(port, params_ptr, "params"))
    if port.events.active:
        rmm.detail["params"] = params.describe()
    if not _params_valid(params):
        raise Refusal("params_valid", Status.ERROR_INPUT)
    if not _params_supported(params, feature_register_0(port)):
        raise Refusal("params_supp", Status.ERROR_INPUT)
    if starting_tables(params.s2sz, params.rtt_level_start) != params.rtt_num_start:
        raise Refusal("rtt_num_level", Status.ERROR_INPUT)
    if params.vmid >= vmid_limit(port) or params.vmid in rmm.vmids:
        raise Refusal("vmid_valid", Status.ERROR_INPUT)
    starting_size = params.rtt_num_start * GRANULE_SIZE
    tables = range(params.rtt_base, params.rtt_base + starting_size, GRANULE_SIZE)
    if params.rtt_base <= rd < params.rtt_base + starting_size:
        raise Refusal("alias", Status.ERROR_INPUT)
    granules.require(rd, GranuleState.DELEGATED, "rd")
    if params.rtt_base % starting_size:
        raise Refusal("rtt_align", Status.ERROR_INPUT)
    if params.rtt_base >= PA_LIMIT and granules.is_delegable(params.rtt_base):
        raise Refusal("rtt_bound2", Status.ERROR_INPUT)  # VTTBR_EL2 cannot hold it, as in RTT_CREATE
    for table in tables:
        granules.require(table, GranuleState.DELEGATED, "rtt")

    algorithm = HashAlgorithm(params.hash_algo)
    realm = Realm(
        rd=rd,
        ipa_width=params.s2sz,
        hash_algo=algorithm,
        rpv=params.rpv,
        vmid=params.vmid,
        rtt_base=params.rtt_base,
        rtt_level_start=params.rtt_level_start,
        rtt_num_start=params.rtt_num_start,
        flags=params.flags,
        sve_vl=params.sve_vl,
        num_bps=params.num_bps,
        num_wps=params.num_wps,
        pmu_num_ctrs=params.pmu_num_ctrs,
    )
    granules.take(port, rd, GranuleState.RD)
    for table in tables:
        granules.take(port, table, GranuleState.RTT)
        rmm.live_entries[table] = 0
    fill_starting_tables(port, realm)
    port.charge(CHARGE_PAGE)
    initial_rim(port, realm, params)
    rmm.realms[rd] = realm
    rmm.vmids.add(realm.vmid)
    return ()


def realm_activate(rmm: "Rmm", port: El2Port, rd: int) -> tuple[int, ...]:
    """RMI_REALM_ACTIVATE: NEW to ACTIVE; from here on the RIM is frozen."""
    realm = rmm.require_realm(rd)
    if realm.state is not RealmState.NEW:
        raise Refusal("realm_state", Status.ERROR_REALM)
    realm.state = RealmState.ACTIVE
    return ()


def realm_destroy(rmm: "Rmm", port: El2Port, rd: int) -> tuple[int, ...]:
    """RMI_REALM_DESTROY: a Realm without RECs, DATA and further RTTs gives its RD and starting RTTs back."""
    realm = rmm.require_realm(rd)
    tables = [realm.rtt_base + number * GRANULE_SIZE for number in range(realm.rtt_num_start)]
    if realm.num_recs or any(rmm.live_entries[table] for table in tables):
        raise Refusal("realm_live", Status.ERROR_REALM)

    port.tlbi_vmid(realm.vmid)  # Unprotected mappings do not keep a Realm alive
    for table in tables:
        del rmm.live_entries[table]
        rmm.granules.release(port, table)
    del rmm.realms[rd]
    rmm.vmids.remove(realm.vmid)
    rmm.granules.release(port, rd)
    return ()


def rec_aux_count(rmm: "Rmm", port: El2Port, rd: int) -> tuple[int, ...]:
    """RMI_REC_AUX_COUNT: the same for every Realm."""
    rmm.require_realm(rd)
    return (REC_AUX_COUNT,)


def _params_valid(params: RealmParams) -> bool:
    """No reserved encodings: the numbers of breakpoints and watchpoints are minus one, and 0 is reserved."""
    return params.num_bps != 0 and params.num_wps != 0 and params.hash_algo in (0, 1)


def _params_supported(params: RealmParams, register: int) -> bool:
    """Nothing that the feature register does not offer."""
    limit = FEATURE_REGISTER_0.get
    flags = params.flags
    return not (
        (flags & REALM_FLAG_LPA2 and not limit(register, "LPA2"))
        or not IPA_WIDTH_MIN <= params.s2sz <= limit(register, "S2SZ")
        or params.num_bps > limit(register, "NUM_BPS")
        or params.num_wps > limit(register, "NUM_WPS")
        or (flags & REALM_FLAG_SVE and (not limit(register, "SVE_EN") or params.sve_vl > limit(register, "SVE_VL")))
        or (
            flags & REALM_FLAG_PMU
            and (not limit(register, "PMU_EN") or params.pmu_num_ctrs > limit(register, "PMU_NUM_CTRS"))
        )
        or not limit(register, ("HASH_SHA_256", "HASH_SHA_512")[params.hash_algo])
    )


COMMANDS: Final[tuple[Command, ...]] = (
    rmi_command(Rmi.REALM_CREATE, realm_create),
    rmi_command(Rmi.REALM_ACTIVATE, realm_activate),
    rmi_command(Rmi.REALM_DESTROY, realm_destroy),
    rmi_command(Rmi.REC_AUX_COUNT, rec_aux_count),
)
