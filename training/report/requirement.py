"""What readers of a model report ask for, and where it is answered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Requirement:
    """A topic that a text asks for; `sections` answer it, and `open` says what the lender has to add."""

    text: str
    topic: str
    sections: tuple[str, ...] = ()
    open: str = ""


SECTIONS = {
    "purpose": "Model purpose and intended use",
    "data": "Data",
    "soundness": "Conceptual soundness",
    "outcomes": "Outcomes analysis",
    "policies": "Price of each policy",
    "fairness": "Fairness screening",
    "gates": "Gates",
    "monitoring": "Ongoing monitoring",
    "limits": "Limits",
    "lineage": "Lineage, code and settings",
    "requirements": "Where each requirement is answered",
}
"""The sections of the report by their anchor, in order."""

_US, _EU = "SR 26-2", "EU AI Act"

REQUIREMENTS = (
    Requirement(_US, "model purpose and use", ("purpose",), "materiality: exposure and place in the inventory"),
    Requirement(_US, "development data", ("data",), "how applicants came to be in the data"),
    Requirement(_US, "conceptual soundness", ("soundness", "policies"), "independent review"),
    Requirement(_US, "outcomes analysis", ("outcomes", "fairness"), "outcomes since the training"),
    Requirement(_US, "ongoing monitoring", ("monitoring",), "who looks, how often, what triggers a review"),
    Requirement(_US, "limits and assumptions", ("limits",)),
    Requirement(_US, "effective challenge and governance", ("gates",), "people and approvals"),
    Requirement(_EU, "Annex IV 1, general description", ("purpose", "lineage"), "provider, forms of distribution"),
    Requirement(_EU, "Annex IV 2, elements and development", ("data", "soundness", "lineage"), "security measures"),
    Requirement(
        _EU, "Annex IV 3, monitoring, functioning and control", ("purpose", "outcomes", "limits"), "training of staff"
    ),
    Requirement(_EU, "Annex IV 4, suitability of the measures", ("outcomes",)),
    Requirement(_EU, "Annex IV 5, risk management (Article 9)", (), "all of it"),
    Requirement(_EU, "Annex IV 6, changes over the life cycle", ("lineage",), "reasons for each change"),
    Requirement(_EU, "Annex IV 7, harmonised standards", (), "all of it"),
    Requirement(_EU, "Annex IV 8, declaration of conformity", (), "all of it"),
    Requirement(_EU, "Annex IV 9, monitoring after release (Article 72)", ("monitoring",), "the plan itself"),
    Requirement(_EU, "Article 10, data and bias", ("data", "fairness"), "representativeness for your applicants"),
    Requirement(_EU, "Article 14, human oversight", ("purpose", "policies"), "who decides referred applications"),
    Requirement(_EU, "Article 15, accuracy and robustness", ("outcomes", "soundness"), "security"),
    Requirement("Regulation B", "12 CFR 1002.6(b), age", ("data", "fairness"), "legal review"),
    Requirement("Regulation B", "12 CFR 1002.9(b), reasons", ("soundness",), "the notices to applicants"),
)
