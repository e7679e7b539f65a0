"""A CCA token: made by a Realm's calls of the RMM, verified by its owner."""

from statistics import median

from benchmarks import programs
from benchmarks.measure import Measurement, Settings, interleaved, timed
from benchmarks.realm import DATA, HOST_CALL, GuestRealm, launch_plan
from realmkit.arch.pas import GRANULE_SIZE, Pas, SecurityState
from realmkit.attestation import Expectations, TrustAnchor, predict_rim, verify
from realmkit.stack import assemble

_WORD = 0x0123_4567_89AB_CDEF
_CHALLENGE = _WORD.to_bytes(8, "little") * 8


def run(settings: Settings) -> list[Measurement]:
    """RSI_ATTESTATION_TOKEN_INIT and CONTINUE to the last byte; verification with the expected RIM."""
    stack = assemble()
    plan = launch_plan(programs.TOKEN, (_WORD, HOST_CALL, DATA), GRANULE_SIZE)
    realm = GuestRealm(stack, plan)
    anchor = TrustAnchor.from_pem(stack.trust_anchor_pem())
    expected = Expectations(rim=predict_rim(plan))
    token = b""

    def generate() -> float:
        nonlocal token
        spent = timed(realm.work)
        size = realm.last_exit().gprs[0]
        token = stack.machine.buses[SecurityState.ROOT].read(Pas.REALM, realm.realm.data[DATA], size)
        return spent

    def check() -> None:
        if not verify(token, trust_anchor=anchor, challenge=_CHALLENGE, expected=expected).verified:
            raise RuntimeError("the token does not verify")

    made, verified = interleaved(settings.rounds, generate, lambda: timed(check))
    return [
        Measurement("token generation", median(made) * 1e3, "ms", note=f"{len(token)} bytes"),
        Measurement("token verification", median(verified) * 1e3, "ms"),
        Measurement("generation and verification", (median(made) + median(verified)) * 1e3, "ms"),
    ]
