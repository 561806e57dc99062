"""The application table: all 120 declared columns of some clients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .address import Address, draw_address
from .building import draw_building
from .columns import Booleans, Columns, Floats
from .contact import Contact, draw_contact
from .documents import draw_documents
from .drift import Population
from .employment import Employment, draw_employment
from .loan import Loan, draw_loan
from .person import Person, draw_person
from .property import Property, draw_property
from .references import Circle, draw_circle, draw_enquiries
from .region import Region, draw_region
from .risk import Latent
from .scores import draw_scores

_Part = Person | Region | Employment | Address | Property | Loan | Contact | Circle


@dataclass(frozen=True, slots=True)
class Application:
    """The applications of some clients.

    The parts with an effect of their own on the risk are typed; `remainder` holds the columns of scores, enquiries,
    documents and building, which only reflect the risk or have nothing to do with it.
    """

    person: Person
    region: Region
    employment: Employment
    address: Address
    owned: Property
    loan: Loan
    contact: Contact
    circle: Circle
    remainder: Columns

    @property
    def annuity_to_income(self) -> Floats:
        """Monthly instalment over yearly income, shape (n,)."""
        return self.loan.instalment / self.employment.income

    def columns(self) -> Columns:
        """The declared columns, in no particular order."""
        return {name: values for part in self._parts() for name, values in part.columns().items()} | self.remainder

    def log_odds(self) -> Floats:
        """Effect of the parts on the log-odds of default, shape (n,)."""
        total: Floats = np.sum([part.log_odds() for part in self._parts()], axis=0)
        return total

    def _parts(self) -> tuple[_Part, ...]:
        return (
            self.person, self.region, self.employment, self.address, self.owned, self.loan, self.contact, self.circle,
        )  # fmt: skip


def draw_application(
    rng: np.random.Generator, latent: Latent, *, filed: Booleans, population: Population
) -> Application:
    """The applications of clients with the given risk, `filed` at the credit bureau or not."""
    person, region = draw_person(rng, len(filed)), draw_region(rng, len(filed))
    employment = draw_employment(rng, person, region, latent)
    owned = draw_property(rng, person, employment)
    loan = draw_loan(rng, person, employment, population)
    scores = draw_scores(
        rng, latent=latent, person=person, employment=employment, region=region, filed=filed, population=population
    )
    enquiries = draw_enquiries(rng, latent, filed, population)
    documents = draw_documents(rng, loan, employment, population)
    return Application(
        person=person,
        region=region,
        employment=employment,
        address=draw_address(rng, employment.employed),
        owned=owned,
        loan=loan,
        contact=draw_contact(rng, person, employment, latent, population),
        circle=draw_circle(rng, latent),
        remainder=scores | enquiries | documents | draw_building(rng, owned, region),
    )
