"""Record what was measured for a claim, and read the ledger of all claims from what is recorded.

    from lop_utils.evidence import claims
    verdict = claims.record("clone-sgd-confined", {"r2_last": values}, profile="laptop", device="cpu", seeds=range(5))
    for verdict in claims.ledger("laptop"): ...

A record holds measured values, never a verdict: verdicts are computed from the values whenever they are read.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from lop_utils import profiles
from lop_utils.errors import UsageError, check_choice
from lop_utils.evidence.files import Unusable, seal, unseal, write_atomically
from lop_utils.evidence.judging import NOT_JUDGED, VERDICTS, TestOutcome, Verdict, judge
from lop_utils.evidence.paths import results_root
from lop_utils.evidence.provenance import provenance
from lop_utils.evidence.schema import Claim, Test, load_claims
from lop_utils.evidence.stats import finite

__all__ = ["VERDICTS", "Claim", "Test", "TestOutcome", "Verdict", "ledger", "load_claims", "read", "record"]
log = logging.getLogger(__name__)


def record(
    claim_id: str,
    measures: Mapping[str, Sequence[float]],
    *,
    profile: str,
    device: torch.device | str,
    seeds: Sequence[int],
    wall_s: float = 0.0,
) -> Verdict:
    """Judge the claim by `measures` (name -> values, one per seed or case) and keep the values for the ledger.

    Raises `UsageError` for an unknown claim or profile, for values that are missing, empty or not finite.
    """
    profiles.check(profile)
    claims = load_claims()
    check_choice("claim", claim_id, claims)
    claim = claims[claim_id]
    values = {name: finite(measures[name], f"claim {claim_id}: values of {name}").tolist() for name in measures}
    missing = [name for name in claim.measures if name not in values]
    if missing:
        raise UsageError(f"claim {claim_id}: no values of {', '.join(missing)}", remedy="give all it needs")
    content = {
        "claim": claim_id,
        "profile": profile,
        "criterion": claim.criterion_digest,
        "measures": values,
        "provenance": provenance(device=device, seeds=seeds, wall_s=wall_s),
    }
    path = _path(profile, claim_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, seal(content))
    return _judged(claim, content)


def read(claim: Claim, profile: str) -> Verdict:
    """The verdict on `claim` from its record under `profile`; `not judged`, with the reason, without a usable one."""
    path = _path(profile, claim.id)
    reason = "" if path.exists() else "no chapter has measured it yet" if not claim.as_stated else "not run yet"
    if not reason:
        try:
            content = unseal(path)
        except Unusable as problem:
            log.warning("record %s is not used: %s", path, problem)
            reason = f"its record is damaged: {problem}"
        else:
            if content["criterion"] == claim.criterion_digest:
                return _judged(claim, content)
            reason = "its criterion changed after it was measured"
    return Verdict(claim, NOT_JUDGED, profile=profile, reason=reason)


def ledger(profile: str) -> list[Verdict]:
    """One verdict per claim, in the order of the claims file, from what is recorded under `profile`."""
    profiles.check(profile)
    return [read(claim, profile) for claim in load_claims().values()]


def _path(profile: str, claim_id: str) -> Path:
    return results_root() / profile / "claims" / f"{claim_id}.json"


def _judged(claim: Claim, content: dict) -> Verdict:
    made = content["provenance"]
    return judge(
        claim,
        content["measures"],
        profile=content["profile"],
        device=made["device"],
        seeds=tuple(made["seeds"]),
        date=made["date"],
        version=made["versions"]["lop-book"],
        provenance=made,
    )
