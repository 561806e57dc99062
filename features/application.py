"""The application table: its 120 raw columns, declared once.

Names, order and descriptions follow the data dictionary of Kaggle's "Home Credit Default Risk"
(HomeCredit_columns_description.csv). Bounds are wide enough for any real applicant, and narrow enough to catch a
swapped column or a wrong unit. Days count backwards from the day of the application.
"""

from __future__ import annotations

from functools import partial

from features.schema import Calendar, Column, ColumnKind, Order, ProtectedAttribute, Schema

_WHOLE_CURRENCY = 1e9
# 120 years of 365.25 days: nobody's birth, job or registration lies further back.
_LIFETIME_IN_DAYS = 43_830.0
# Home Credit writes XNA where a category is not known.
_NOT_AVAILABLE = ("XNA",)

_LEAST_AMOUNT = 1.0
"""The lowest legal credit or yearly income: a form that was not filled in says 0."""

_category = partial(Column, kind=ColumnKind.CATEGORY, unit="level", missing=_NOT_AVAILABLE)
_flag = partial(Column, kind=ColumnKind.FLAG, unit="0 or 1", low=0, high=1)
_count = partial(Column, kind=ColumnKind.COUNT, unit="count", low=0, high=1000)
_share = partial(Column, kind=ColumnKind.NUMBER, unit="normalized to 0..1", low=0, high=1)
_amount = partial(Column, kind=ColumnKind.NUMBER, unit="currency", low=0, high=_WHOLE_CURRENCY)
_days = partial(Column, kind=ColumnKind.COUNT, unit="days before application", low=-_LIFETIME_IN_DAYS, high=0)

_WEEKDAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")

_OCCUPATIONS = (
    "Accountants", "Cleaning staff", "Cooking staff", "Core staff", "Drivers", "HR staff", "High skill tech staff",
    "IT staff", "Laborers", "Low-skill Laborers", "Managers", "Medicine staff", "Private service staff",
    "Realty agents", "Sales staff", "Secretaries", "Security staff", "Waiters/barmen staff",
)  # fmt: skip

_ORGANIZATIONS = (
    "Advertising", "Agriculture", "Bank", "Business Entity Type 1", "Business Entity Type 2", "Business Entity Type 3",
    "Cleaning", "Construction", "Culture", "Electricity", "Emergency", "Government", "Hotel", "Housing",
    *(f"Industry: type {i}" for i in range(1, 14)), "Insurance", "Kindergarten", "Legal Services", "Medicine",
    "Military", "Mobile", "Other", "Police", "Postal", "Realtor", "Religion", "Restaurant", "School", "Security",
    "Security Ministries", "Self-employed", "Services", "Telecom", *(f"Trade: type {i}" for i in range(1, 8)),
    *(f"Transport: type {i}" for i in range(1, 5)), "University",
)  # fmt: skip

# Levels are those of the public files. A lender gets new ones, so that a level outside the list is legal and counted.
_CONTRACT_AND_CLIENT = (
    _category(
        name="NAME_CONTRACT_TYPE", required=True, levels=("Cash loans", "Revolving loans"),
        description="Identification if loan is cash or revolving",
    ),
    # ECOA protects sex, marital status and age: 15 U.S.C. 1691(a)(1), Regulation B in 12 CFR 1002.2(z).
    _category(
        name="CODE_GENDER", protected=ProtectedAttribute.SEX, levels=("F", "M"),
        description="Gender of the client",
    ),
    _category(name="FLAG_OWN_CAR", levels=("N", "Y"), description="Flag if the client owns a car"),
    _category(name="FLAG_OWN_REALTY", levels=("N", "Y"), description="Flag if client owns a house or flat"),
    _count(name="CNT_CHILDREN", high=30, description="Number of children the client has"),
    _amount(name="AMT_INCOME_TOTAL", required=True, low=_LEAST_AMOUNT, description="Income of the client"),
    _amount(name="AMT_CREDIT", required=True, low=_LEAST_AMOUNT, description="Credit amount of the loan"),
    _amount(name="AMT_ANNUITY", description="Loan annuity"),
    _amount(
        name="AMT_GOODS_PRICE",
        description="For consumer loans it is the price of the goods for which the loan is given",
    ),
    _category(
        name="NAME_TYPE_SUITE",
        levels=("Children", "Family", "Group of people", "Other_A", "Other_B", "Spouse, partner", "Unaccompanied"),
        description="Who was accompanying client when he was applying for the loan",
    ),
    _category(
        name="NAME_INCOME_TYPE",
        levels=(
            "Businessman", "Commercial associate", "Maternity leave", "Pensioner", "State servant", "Student",
            "Unemployed", "Working",
        ),
        description="Clients income type (businessman, working, maternity leave, ...)",
    ),
    _category(
        name="NAME_EDUCATION_TYPE",
        levels=(
            "Academic degree", "Higher education", "Incomplete higher", "Lower secondary",
            "Secondary / secondary special",
        ),
        description="Level of highest education the client achieved",
    ),
    _category(
        name="NAME_FAMILY_STATUS", protected=ProtectedAttribute.MARITAL_STATUS, missing=("XNA", "Unknown"),
        levels=("Civil marriage", "Married", "Separated", "Single / not married", "Widow"),
        description="Family status of the client",
    ),
    _category(
        name="NAME_HOUSING_TYPE",
        levels=(
            "Co-op apartment", "House / apartment", "Municipal apartment", "Office apartment", "Rented apartment",
            "With parents",
        ),
        description="What is the housing situation of the client (renting, living with parents, ...)",
    ),
    _share(
        name="REGION_POPULATION_RELATIVE",
        description="Normalized population of region where client lives "
        "(higher number means the client lives in more populated region)",
    ),
    # 5,844 days are 16 years: nobody younger is an applicant.
    _days(
        name="DAYS_BIRTH", protected=ProtectedAttribute.AGE, high=-5844,
        description="Client's age in days at the time of application",
    ),
    # 365243 days, 1,000 years ahead, stand for no employment: the rows are those whose ORGANIZATION_TYPE is XNA.
    _days(
        name="DAYS_EMPLOYED", missing=(365243.0,),
        description="How many days before the application the person started current employment",
    ),
    _days(
        name="DAYS_REGISTRATION",
        description="How many days before the application did client change his registration",
    ),
    _days(
        name="DAYS_ID_PUBLISH",
        description="How many days before the application did client change the identity document with which he "
        "applied for the loan",
    ),
    _count(name="OWN_CAR_AGE", unit="years", high=120, description="Age of client's car"),
)  # fmt: skip

_CONTACT_AND_WORK = (
    _flag(name="FLAG_MOBIL", description="Did client provide mobile phone (1=YES, 0=NO)"),
    _flag(name="FLAG_EMP_PHONE", description="Did client provide work phone (1=YES, 0=NO)"),
    # The data dictionary has the same text for FLAG_WORK_PHONE and FLAG_PHONE; it is kept as published.
    _flag(name="FLAG_WORK_PHONE", description="Did client provide home phone (1=YES, 0=NO)"),
    _flag(name="FLAG_CONT_MOBILE", description="Was mobile phone reachable (1=YES, 0=NO)"),
    _flag(name="FLAG_PHONE", description="Did client provide home phone (1=YES, 0=NO)"),
    _flag(name="FLAG_EMAIL", description="Did client provide email (1=YES, 0=NO)"),
    _category(
        name="OCCUPATION_TYPE", levels=_OCCUPATIONS, description="What kind of occupation does the client have"
    ),
    _count(name="CNT_FAM_MEMBERS", high=40, description="How many family members does client have"),
    _count(
        name="REGION_RATING_CLIENT", unit="rating", low=1, high=3, missing=(-1.0,),
        description="Our rating of the region where client lives (1,2,3)",
    ),
    _count(
        name="REGION_RATING_CLIENT_W_CITY", unit="rating", low=1, high=3, missing=(-1.0,),
        description="Our rating of the region where client lives with taking city into account (1,2,3)",
    ),
    _category(
        name="WEEKDAY_APPR_PROCESS_START", levels=_WEEKDAYS, calendar=Calendar.WEEK,
        description="On which day of the week did the client apply for the loan",
    ),
    _count(
        name="HOUR_APPR_PROCESS_START", unit="hour of day", high=23, calendar=Calendar.DAY,
        description="Approximately at what hour did the client apply for the loan",
    ),
    _flag(
        name="REG_REGION_NOT_LIVE_REGION",
        description="Flag if client's permanent address does not match contact address "
        "(1=different, 0=same, at region level)",
    ),
    _flag(
        name="REG_REGION_NOT_WORK_REGION",
        description="Flag if client's permanent address does not match work address "
        "(1=different, 0=same, at region level)",
    ),
    _flag(
        name="LIVE_REGION_NOT_WORK_REGION",
        description="Flag if client's contact address does not match work address "
        "(1=different, 0=same, at region level)",
    ),
    _flag(
        name="REG_CITY_NOT_LIVE_CITY",
        description="Flag if client's permanent address does not match contact address "
        "(1=different, 0=same, at city level)",
    ),
    _flag(
        name="REG_CITY_NOT_WORK_CITY",
        description="Flag if client's permanent address does not match work address "
        "(1=different, 0=same, at city level)",
    ),
    _flag(
        name="LIVE_CITY_NOT_WORK_CITY",
        description="Flag if client's contact address does not match work address "
        "(1=different, 0=same, at city level)",
    ),
    _category(
        name="ORGANIZATION_TYPE", levels=_ORGANIZATIONS, description="Type of organization where client works"
    ),
    *(_share(name=f"EXT_SOURCE_{i}", description="Normalized score from external data source") for i in (1, 2, 3)),
)  # fmt: skip

_BUILDING_MEASURES = {
    "APARTMENTS": "apartment size",
    "BASEMENTAREA": "basement area",
    "YEARS_BEGINEXPLUATATION": "age of use",
    "YEARS_BUILD": "age of building",
    "COMMONAREA": "common area",
    "ELEVATORS": "number of elevators",
    "ENTRANCES": "number of entrances",
    "FLOORSMAX": "highest number of floors",
    "FLOORSMIN": "lowest number of floors",
    "LANDAREA": "land area",
    "LIVINGAPARTMENTS": "size of the apartments lived in",
    "LIVINGAREA": "living area",
    "NONLIVINGAPARTMENTS": "size of the apartments not lived in",
    "NONLIVINGAREA": "area not lived in",
}
_BUILDING_STATISTICS = {"AVG": "average", "MODE": "modus", "MEDI": "median"}
_BUILDING = "Normalized information about building where the client lives"

_BUILDING_COLUMNS = (
    *(
        _share(name=f"{measure}_{suffix}", description=f"{_BUILDING}: {statistic} {text}")
        for suffix, statistic in _BUILDING_STATISTICS.items()
        for measure, text in _BUILDING_MEASURES.items()
    ),
    _category(
        name="FONDKAPREMONT_MODE",
        levels=("not specified", "org spec account", "reg oper account", "reg oper spec account"),
        description=f"{_BUILDING}: modus account for capital repairs",
    ),
    _category(
        name="HOUSETYPE_MODE", levels=("block of flats", "specific housing", "terraced house"),
        description=f"{_BUILDING}: modus type of house",
    ),
    _share(name="TOTALAREA_MODE", description=f"{_BUILDING}: modus total area"),
    _category(
        name="WALLSMATERIAL_MODE",
        levels=("Block", "Mixed", "Monolithic", "Others", "Panel", "Stone, brick", "Wooden"),
        description=f"{_BUILDING}: modus material of the walls",
    ),
    _category(
        name="EMERGENCYSTATE_MODE", levels=("No", "Yes"),
        description=f"{_BUILDING}: modus emergency state",
    ),
)  # fmt: skip

_SOCIAL_CIRCLE = (
    _count(
        name="OBS_30_CNT_SOCIAL_CIRCLE",
        description="How many observation of client's social surroundings with observable 30 DPD (days past due) "
        "default",
    ),
    _count(
        name="DEF_30_CNT_SOCIAL_CIRCLE",
        description="How many observation of client's social surroundings defaulted on 30 DPD (days past due)",
    ),
    _count(
        name="OBS_60_CNT_SOCIAL_CIRCLE",
        description="How many observation of client's social surroundings with observable 60 DPD (days past due) "
        "default",
    ),
    _count(
        name="DEF_60_CNT_SOCIAL_CIRCLE",
        description="How many observation of client's social surroundings defaulted on 60 (days past due) DPD",
    ),
    # Public solutions of the competition read 0 as missing too.
    _days(
        name="DAYS_LAST_PHONE_CHANGE", missing=(0.0,),
        description="How many days before application did client change phone",
    ),
)  # fmt: skip

_DOCUMENTS = tuple(
    _flag(name=f"FLAG_DOCUMENT_{i}", description=f"Did client provide document {i}") for i in range(2, 22)
)

_ENQUIRY_WINDOWS = {
    "HOUR": "one hour before application",
    "DAY": "one day before application (excluding one hour before application)",
    "WEEK": "one week before application (excluding one day before application)",
    "MON": "one month before application (excluding one week before application)",
    "QRT": "3 month before application (excluding one month before application)",
    "YEAR": "one year before application (excluding last 3 months before application)",
}
# AMT in these names misleads: the values are counts.
_ENQUIRIES = tuple(
    _count(
        name=f"AMT_REQ_CREDIT_BUREAU_{window}",
        description=f"Number of enquiries to Credit Bureau about the client {text}",
    )
    for window, text in _ENQUIRY_WINDOWS.items()
)

APPLICATION = Schema(
    id_column="SK_ID_CURR",
    target_column="TARGET",
    columns=(
        *_CONTRACT_AND_CLIENT,
        *_CONTACT_AND_WORK,
        *_BUILDING_COLUMNS,
        *_SOCIAL_CIRCLE,
        *_DOCUMENTS,
        *_ENQUIRIES,
    ),
    orders=(
        Order("AMT_ANNUITY", "AMT_CREDIT"),
        Order("CNT_CHILDREN", "CNT_FAM_MEMBERS"),
        Order("DAYS_BIRTH", "DAYS_EMPLOYED"),
    ),
)
"""The application table of one loan application, 120 columns in the order of `application_train.csv`."""
