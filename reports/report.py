"""A report: evidence, the policy it was judged by, and the verdicts, kept together so that a page cannot mix them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from dpsynth.errors import IntegrityError, UsageError
from reports.attestation import Record
from reports.evidence import Edition, Evidence
from reports.gate import Verdict, decide
from reports.gate.deciding import NOBODY
from reports.policy import Policy


@dataclass(frozen=True, kw_only=True)
class Report:
    """What every renderer takes. Use `Report.of`.

    Args:
        evidence: The edition that is shown; nothing outside it can reach a page.
        policy: The policy of both verdicts.
        verdict: The release gate's verdict, made from the shareable edition alone.
        review: The internal review verdict; only an internal report has one.
    Raises:
        IntegrityError: a verdict was made from other evidence, by another policy or for another stage.
    """

    evidence: Evidence
    policy: Policy
    verdict: Verdict
    review: Verdict | None

    def __post_init__(self) -> None:
        if self.verdict.stage != "release" or self.verdict.evidence_sha256 != self.evidence.shareable().digest:
            raise IntegrityError("the verdict was not made from this evidence")
        if (self.review is None) != (self.evidence.edition == "shareable"):
            raise IntegrityError("the internal report has a review verdict, and the shareable report has none")
        if self.review and (self.review.stage != "review" or self.review.evidence_sha256 != self.evidence.digest):
            raise IntegrityError("the review verdict was not made from this evidence")
        for verdict in filter(None, (self.verdict, self.review)):
            if verdict.policy_sha256 != self.policy.digest:
                raise IntegrityError("the verdict was not made by this policy")

    @classmethod
    def of(
        cls, policy: Policy, evidence: Evidence, *, on: date, edition: Edition = "shareable", record: Record = NOBODY
    ) -> Report:
        """Judges the evidence and keeps what the edition may show.

        Args:
            policy: The policy to apply.
            evidence: The internal evidence, or the shareable one for a shareable report.
            on: The day of the verdict.
            edition: Which report to make.
            record: What people signed about the release.
        Raises:
            UsageError: an internal report was asked for and only the shareable evidence is there.
            IntegrityError: the evidence cannot be shared, so that there is no shareable page to make.
        """
        if edition == "internal" and evidence.edition != "internal":
            raise UsageError("the internal report needs the internal evidence, and only the shareable one is here")
        verdict = decide(policy, evidence, stage="release", on=on, record=record)
        if edition == "shareable":
            return cls(evidence=evidence.shareable(), policy=policy, verdict=verdict, review=None)
        review = decide(policy, evidence, stage="review", on=on)
        return cls(evidence=evidence, policy=policy, verdict=verdict, review=review)

    @property
    def is_internal(self) -> bool:
        """Whether this report holds numbers of real people without noise."""
        return self.review is not None
