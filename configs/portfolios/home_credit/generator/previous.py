"""previous_application: draws the applications that clients made to this lender before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from configs.portfolios.home_credit.generator.application import Clients
from configs.portfolios.home_credit.generator.draws import (
    Booleans,
    Category,
    Columns,
    Floats,
    LevelShares,
    Marginal,
    chance,
    choose,
    constant,
    draw_by,
    merged,
    missing_where,
    to_decimals,
    whole,
)
from configs.portfolios.home_credit.generator.offers import (
    CASH,
    CONSUMER,
    REFUSED,
    REVOLVING,
    UNUSED,
    Contracts,
    Offers,
    Terms,
    contract_days,
    draw_contracts,
    draw_offers,
    draw_terms,
)
from configs.portfolios.home_credit.generator.population import Chunk, Stream

_NEW_IF_FIRST = 0.85
_WALK_IN_BY_YIELD = {"high": 0.45, "middle": 0.19, "low_normal": 0.19, "low_action": 0.19}
_WALK_IN_CARD = 0.34
_FREE_OF_INTEREST = {"low_action": 1.0, "low_normal": 0.3}
_CHANNEL_LEVELS = (
    "Credit and cash offices", "Country-wide", "Stone", "Regional / Local", "Contact center", "AP+ (Cash loan)",
    "Channel of corporate sales", "Car dealer",
)  # fmt: skip
_CHANNELS = {
    CASH: LevelShares(_CHANNEL_LEVELS, (0.804, 0.053, 0.004, 0.003, 0.084, 0.047, 0.005, 0.0)),
    CONSUMER: LevelShares(_CHANNEL_LEVELS, (0.001, 0.592, 0.272, 0.1345, 0.0, 0.0, 0.0, 0.0005)),
    REVOLVING: LevelShares(_CHANNEL_LEVELS, (0.677, 0.137, 0.025, 0.033, 0.051, 0.071, 0.006, 0.0)),
}
_GOODS = LevelShares.of(
    {
        "Mobile": 0.306, "Consumer Electronics": 0.163, "Computers": 0.147, "Audio/Video": 0.134, "Furniture": 0.075,
        "Construction Materials": 0.037, "Clothing and Accessories": 0.036, "Photo / Cinema Equipment": 0.033,
        "XNA": 0.011, "Auto Accessories": 0.011, "Jewelry": 0.009, "Homewares": 0.008, "Medical Supplies": 0.005,
        "Vehicles": 0.004, "Gardening": 0.004, "Sport and Leisure": 0.004, "Office Appliances": 0.003, "Tourism": 0.003,
        "Other": 0.003, "Medicine": 0.002, "Direct Sales": 0.001, "Fitness": 5e-4, "Additional Service": 2e-4,
        "Weapon": 2e-4, "Education": 1e-4, "Insurance": 1e-4,
    }
)  # fmt: skip
_INDUSTRIES = {
    "Mobile": "Connectivity", "Furniture": "Furniture", "Construction Materials": "Construction",
    "Clothing and Accessories": "Clothing", "Auto Accessories": "Auto technology", "Vehicles": "Auto technology",
    "Jewelry": "Jewelry", "Tourism": "Tourism", "Direct Sales": "MLM partners", "Homewares": "Industry",
    "Medical Supplies": "Industry", "Gardening": "Industry", "Other": "Industry", "XNA": "XNA",
}  # fmt: skip
_INDUSTRY_OTHERWISE = "Consumer electronics"
_COMBINATIONS = {"Connectivity": "mobile", "Consumer electronics": "household", "MLM partners": "other", "XNA": "other"}
_SELLER_AREA = Marginal((0, 5, 12, 20, 36, 100, 584, 1_800, 2_640, 3_500, 9_000))
_PURPOSES = LevelShares.of(
    {
        "Repairs": 0.3, "Other": 0.19, "Urgent needs": 0.12, "Buying a used car": 0.045, "Everyday expenses": 0.04,
        "Payments on other loans": 0.035, "Building a house or an annex": 0.035, "Medicine": 0.03, "Education": 0.02,
        "Buying a new car": 0.014, "Buying a holiday home / land": 0.014, "Car repairs": 0.012, "Journey": 0.012,
        "Purchase of electronic equipment": 0.012, "Buying a home": 0.012, "Furniture": 0.01,
        "Wedding / gift / holiday": 0.008, "Business development": 0.007, "Gasification / water supply": 0.003,
        "Hobby": 0.002, "Buying a garage": 0.002, "Refusal to name the goal": 0.001,
    }
)  # fmt: skip
_REASONS = LevelShares.of(
    {"HC": 0.625, "LIMIT": 0.19, "SCO": 0.112, "SCOFR": 0.043, "XNA": 0.016, "VERIF": 0.013, "SYSTEM": 0.001}
)
_PAYMENTS = LevelShares.of(
    {
        "Cash through the bank": 0.885,
        "XNA": 0.107,
        "Non-cash from your account": 0.007,
        "Cashless from the account of the employer": 0.001,
    }
)
_SUITES = LevelShares.of(
    {
        "Unaccompanied": 0.608, "Family": 0.246, "Spouse, partner": 0.076, "Children": 0.036, "Other_B": 0.021,
        "Other_A": 0.0105, "Group of people": 0.003,
    }
)  # fmt: skip


def draw_products(rng: np.random.Generator, offers: Offers, terms: Terms) -> Columns:
    """Draw the labels of each previous application, and the size of the seller's place."""
    size = len(offers)
    consumer = offers.contract.equals(CONSUMER)
    walk_in = chance(rng, terms.yield_group.values(_WALK_IN_BY_YIELD, otherwise=_WALK_IN_CARD), size)
    goods = merged(consumer, _GOODS.draw(rng, size), constant("XNA", size))
    industry = _industry(goods, consumer)
    return {
        "NAME_CASH_LOAN_PURPOSE": _purpose(rng, offers, walk_in),
        "NAME_PAYMENT_TYPE": merged(_has_payment_type(offers), _PAYMENTS.draw(rng, size), constant("XNA", size)),
        "CODE_REJECT_REASON": _reason(rng, offers),
        "NAME_TYPE_SUITE": _SUITES.draw(rng, size).only(offers.priced & chance(rng, 0.66, size)),
        "NAME_CLIENT_TYPE": _client_type(rng, offers),
        "NAME_GOODS_CATEGORY": goods,
        "NAME_PORTFOLIO": _portfolio(offers),
        "NAME_PRODUCT_TYPE": _product_type(offers, walk_in),
        "CHANNEL_TYPE": draw_by(rng, offers.contract, _CHANNELS),
        "SELLERPLACE_AREA": _seller_area(rng, consumer),
        "NAME_SELLER_INDUSTRY": industry,
        "NAME_YIELD_GROUP": _with_xna(terms.yield_group),
        "PRODUCT_COMBINATION": _combination(rng, offers, terms, walk_in, industry),
    }


def _with_xna(column: Category) -> Category:
    return merged(column.codes >= 0, column, constant("XNA", len(column)))


def _industry(goods: Category, consumer: Booleans) -> Category:
    levels = (*dict.fromkeys(_INDUSTRIES.values()), _INDUSTRY_OTHERWISE)
    # Derived from the goods, so that no mobile phone is sold by a furniture shop.
    by_goods = np.array([levels.index(_INDUSTRIES.get(level, _INDUSTRY_OTHERWISE)) for level in goods.levels])
    return merged(consumer, Category(levels, by_goods[goods.codes].astype(np.int16)), constant("XNA", len(goods)))


def _purpose(rng: np.random.Generator, offers: Offers, walk_in: Booleans) -> Category:
    """Purpose of each application: only cash loans have one, and many do not state it."""
    cash = offers.contract.equals(CASH)
    stated = cash & walk_in & chance(rng, 0.5, len(offers))
    # Two codes for no purpose: XNA where a cash loan states none, XAP for contracts that never have one.
    unstated = choose({"XNA": cash, "XAP": ~cash})
    return merged(stated, _PURPOSES.draw(rng, len(offers)), unstated)


def _has_payment_type(offers: Offers) -> Booleans:
    return (offers.priced | offers.contract.equals(CONSUMER)) & ~offers.contract.equals(REVOLVING)


def _reason(rng: np.random.Generator, offers: Offers) -> Category:
    unused = offers.status.equals(UNUSED)
    otherwise = choose({"CLIENT": unused, "XAP": ~unused})
    return merged(offers.status.equals(REFUSED), _REASONS.draw(rng, len(offers)), otherwise)


def _client_type(rng: np.random.Generator, offers: Offers) -> Category:
    new = offers.first & chance(rng, _NEW_IF_FIRST, len(offers))
    refreshed = chance(rng, 0.1, len(offers))
    return choose({"New": new, "Refreshed": refreshed, "Repeater": ~(new | refreshed)})


def _portfolio(offers: Offers) -> Category:
    names = {"Cash": CASH, "POS": CONSUMER, "Cards": REVOLVING}
    priced = {name: offers.priced & offers.contract.equals(contract) for name, contract in names.items()}
    return choose({**priced, "XNA": ~offers.priced})


def _product_type(offers: Offers, walk_in: Booleans) -> Category:
    sold = offers.priced & ~offers.contract.equals(CONSUMER)
    return choose({"walk-in": sold & walk_in, "x-sell": sold & ~walk_in, "XNA": ~sold})


def _seller_area(rng: np.random.Generator, consumer: Booleans) -> Floats:
    area = np.floor(_SELLER_AREA.at(rng.standard_normal(len(consumer))))
    # -1 stands for a contract that no shop sold.
    return np.where(consumer | chance(rng, 0.08, len(consumer)), area, -1.0)


def _combination(
    rng: np.random.Generator, offers: Offers, terms: Terms, walk_in: Booleans, industry: Category
) -> Category:
    """PRODUCT_COMBINATION, which spells out contract, product, price level or kind of shop."""
    cash, consumer, card = (offers.contract.equals(contract) for contract in (CASH, CONSUMER, REVOLVING))
    # The order decides, as `choose` takes the first mask that holds: "Card X-Sell" is for the cards left over.
    masks = {"Cash": cash & ~offers.priced, "Card Street": card & (walk_in | ~offers.priced), "Card X-Sell": card}
    masks |= _cash_combinations(cash, walk_in, terms.yield_group)
    free = chance(rng, terms.yield_group.values(_FREE_OF_INTEREST), len(offers))
    return choose(masks | _shop_combinations(consumer, industry, free))


def _cash_combinations(cash: Booleans, walk_in: Booleans, yields: Category) -> dict[str, Booleans]:
    sales = {"Cash Street": cash & walk_in, "Cash X-Sell": cash & ~walk_in}
    levels = {"high": ("high",), "middle": ("middle",), "low": ("low_action", "low_normal")}
    return {
        f"{sale}: {name}": mask & yields.among(members)
        for sale, mask in sales.items()
        for name, members in levels.items()
    }


def _shop_combinations(consumer: Booleans, industry: Category, free: Booleans) -> dict[str, Booleans]:
    combinations = {}
    for shop in ("household", "mobile", "industry", "other"):
        members = [level for level in industry.levels if _COMBINATIONS.get(level, "industry") == shop]
        sold = consumer & industry.among(members)
        combinations[f"POS {shop} with interest"] = sold & ~free
        # The layout spells "POS other with interest", but "POS others without interest".
        combinations[f"POS {'others' if shop == 'other' else shop} without interest"] = sold & free
    return combinations


FIRST_PREVIOUS = 1_000_001

_WEEKDAYS = LevelShares.of(
    {
        "MONDAY": 0.151, "TUESDAY": 0.157, "WEDNESDAY": 0.152, "THURSDAY": 0.148, "FRIDAY": 0.153, "SATURDAY": 0.142,
        "SUNDAY": 0.097,
    }
)  # fmt: skip
_HOUR = Marginal((0, 5, 7, 8, 10, 12, 15, 17, 18, 20, 23))
_SUPERSEDED, _NOT_LAST_OF_DAY = 0.0042, 0.0033
_INSURED = {CASH: 0.45, CONSUMER: 0.3, REVOLVING: 0.05}
_INTEREST_STATED = 0.0042
_PRIMARY = Marginal((0.06, 0.06, 0.142, 0.15, 0.161, 0.189, 0.193, 0.195, 0.197, 0.696, 0.745))
_PRIVILEGED = Marginal((0.42, 0.42, 0.64, 0.68, 0.716, 0.835, 0.853, 0.86, 0.867, 0.867, 0.867))


@dataclass(frozen=True, slots=True)
class Previous:
    """Previous applications, their terms and contracts, and the columns of their table."""

    offers: Offers
    terms: Terms
    contracts: Contracts
    columns: Columns


def draw_previous(chunk: Chunk, clients: Clients, *, first_id: int) -> Previous:
    """Draw the previous applications of `clients`; their identifiers start at `first_id`."""
    rng = chunk.generator(Stream.PREVIOUS)
    offers = draw_offers(rng, clients, first_id=first_id)
    terms = draw_terms(rng, clients, offers)
    contracts = draw_contracts(rng, offers, terms)
    columns: Columns = {"SK_ID_PREV": offers.ids, "SK_ID_CURR": clients.ids[offers.client]}
    columns |= _process(rng, offers) | terms.columns() | draw_products(rng, offers, terms)
    columns |= contract_days(rng, contracts) | _conditions(rng, offers, contracts)
    return Previous(offers, terms, contracts, columns)


def _process(rng: np.random.Generator, offers: Offers) -> Columns:
    size = len(offers)
    superseded = chance(rng, _SUPERSEDED, size)
    return {
        "NAME_CONTRACT_TYPE": offers.contract,
        "NAME_CONTRACT_STATUS": offers.status,
        "DAYS_DECISION": whole(offers.day),
        "WEEKDAY_APPR_PROCESS_START": _WEEKDAYS.draw(rng, size),
        "HOUR_APPR_PROCESS_START": whole(_HOUR.at(rng.standard_normal(size))),
        "FLAG_LAST_APPL_PER_CONTRACT": choose({"N": superseded, "Y": ~superseded}),
        "NFLAG_LAST_APPL_IN_DAY": whole(~chance(rng, _NOT_LAST_OF_DAY, size)),
    }


def _conditions(rng: np.random.Generator, offers: Offers, contracts: Contracts) -> Columns:
    size = len(offers)
    insured = chance(rng, offers.contract.values(_INSURED), size).astype(np.float64)
    # Nearly half of all rows are consumer loans, so twice the share among them gives about that share of all rows.
    stated = offers.contract.equals(CONSUMER) & chance(rng, 2 * _INTEREST_STATED, size)
    return {
        "NFLAG_INSURED_ON_APPROVAL": missing_where(~contracts.dated, insured),
        "RATE_INTEREST_PRIMARY": _rate(rng, _PRIMARY, ~stated),
        "RATE_INTEREST_PRIVILEGED": _rate(rng, _PRIVILEGED, ~stated),
    }


def _rate(rng: np.random.Generator, marginal: Marginal, missing: Booleans) -> Floats:
    return missing_where(missing, to_decimals(marginal.at(rng.standard_normal(len(missing))), 4))
