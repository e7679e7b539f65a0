"""The Realm owner's side: tokens, verification, expected measurements. Importable without Unicorn.

Predict the RIM from the launch plan, then judge the token that the Realm hands over::

    expected = Expectations(rim=predict_rim(plan))
    verdict = verify(token, trust_anchor=TrustAnchor.load(path), challenge=nonce, expected=expected)
"""

from realmkit.attestation.describe import describe
from realmkit.attestation.keys import TrustAnchor
from realmkit.attestation.reference import (
    Expectations,
    ExpectedComponent,
    load_expectations,
    save_expectations,
)
from realmkit.attestation.rim import (
    explain_rim,
    extend_data,
    extend_rec,
    extend_rem,
    extend_ripas,
    initial_rim,
    predict_rim,
)
from realmkit.attestation.token import (
    CcaToken,
    Lifecycle,
    PlatformToken,
    RealmToken,
    SwComponent,
    TokenError,
    decode,
)
from realmkit.attestation.verify import Check, Verdict, verify

__all__ = [
    "CcaToken",
    "Check",
    "Expectations",
    "ExpectedComponent",
    "Lifecycle",
    "PlatformToken",
    "RealmToken",
    "SwComponent",
    "TokenError",
    "TrustAnchor",
    "Verdict",
    "decode",
    "describe",
    "explain_rim",
    "extend_data",
    "extend_rec",
    "extend_rem",
    "extend_ripas",
    "initial_rim",
    "load_expectations",
    "predict_rim",
    "save_expectations",
    "verify",
]
