"""Pattern families about a person's life: home, work, study, love, age, diet, health. One row a pattern."""

from __future__ import annotations

from lamina.text.english import places, readings
from lamina.text.english.family import Family, family
from lamina.text.english.lexicon import PARTNERS
from lamina.text.english.numbers import NUMBER
from lamina.text.english.places import ON_THE_WAY
from lamina.text.english.readings import DIETS, END, NAME, PERSON, REGIMES, SCHOOL, SINCE_JOB, SOME, THING

LIFE: tuple[Family, ...] = (
    # where one lives
    family("live reside settle stay", "residence", "state", rf"^(?:[\w]+ ){{0,2}}?in {NAME}", check=places.place),
    family("be", "residence", "state", rf"^(?:based|living|settled|located) (?:\w+ )?in {NAME}", check=places.place),
    family(
        "move relocate",
        "residence",
        "event",
        rf"^(?:{ON_THE_WAY} ){{0,6}}?(?:with (?:[\w']+ ){{1,4}}?)?(?:to|into) {NAME}",
        check=places.place,
    ),
    family(
        "rent buy own purchase have get",
        "residence",
        "event",
        r"^(?:an? |our |my )(?:[\w-]+ ){0,2}(?:apartment|flat|house|home|condo|studio) ",
        rf"in {NAME}",
        check=places.place,
    ),
    family("call", "residence", "state", rf"^{NAME} home\b", check=places.place),
    # where one works
    family(
        "start accept take",
        "employer",
        "event",
        rf"^(?:as an? [\w -]{{2,30}}? )?{SINCE_JOB} (?:at|with|for|in) (?:an? |the )?{NAME}",
        check=readings.employer,
    ),
    family("join", "employer", "event", rf"^{NAME} as an? ", check=readings.employer),
    family(
        "take accept", "employer", "event", rf"^(?:the|an|their) offer (?:from|at|with) {NAME}", check=readings.employer
    ),
    family("start begin", "employer", "event", rf"^(?:[\w-]+ )?at {NAME}", check=readings.started_at),
    family(
        "get land find accept take start",
        "title",
        "event",
        rf"^{SINCE_JOB} as (?:an? |the ){THING}",
        check=readings.title,
    ),
    family(
        "get land find have accept take",
        "employer",
        "event",
        rf"^{SINCE_JOB} (?:at|with) (?:an? |the )?{NAME}",
        check=readings.employer,
    ),
    family("be get", "employer", "event", rf"^(?:employed|hired) (?:by|at) {SOME}", check=readings.employer),
    family(
        "work",
        "employer",
        "state",
        rf"^(?:[\w-]+ ){{0,3}}?(?:at|for) (?:an? |the |my )?{NAME}",
        check=readings.employer,
    ),
    family("work", "employer", "state", rf"^(?:[\w-]+ )??(?:at|for) (?:an? |the ){THING}", check=readings.employer),
    family(
        "leave quit",
        "employer",
        "end",
        rf"^(?:my |the )?(?:job|work|position|role|company)(?: (?:at|with) {NAME})?",
        check=readings.lost_job,
        negative=True,
    ),
    family(
        "lose",
        "employer",
        "end",
        rf"^my job(?: as an? [\w-]+)?(?: (?:at|with) {NAME})?",
        check=readings.lost_job,
        negative=True,
    ),
    family(
        "be get",
        "employer",
        "end",
        rf"^(?:fired|sacked|laid off|let go|made redundant)(?: (?:from|by|at) {NAME})?",
        check=readings.lost_job,
        negative=True,
    ),
    family("resign retire", "employer", "end", rf"^(?:from {NAME})?", check=readings.lost_job, negative=True),
    # what one is
    family("work", "title", "state", rf"^(?:[\w-]+ )?as (?:an? |the ){THING}", check=readings.title),
    family("become", "title", "event", rf"^(?:an? |the ){THING}", check=readings.title),
    family("be get", "title", "event", rf"^(?:promoted|hired) (?:to|as) (?:an? |the )?{THING}", check=readings.title),
    family("make", "title", "event", rf"^me (?:an? |the |their )?{THING}", check=readings.title),
    family("end", "title", "event", rf"^up as an? {THING}", check=readings.title),
    family("retrain train qualify", "title", "event", rf"^as an? {THING}", check=readings.title),
    # study
    family("major", "major", "state", rf"^in {THING}"),
    family("do pursue get finish study", "major", "state", rf"^(?:for )?(?:an? |my )?(?:[\w']+ )?degree in {THING}"),
    family("switch change", "major", "event", rf"^(?:my )?(?:major|course|degree) (?:from [\w ]+ )?to {THING}"),
    family("study", "school", "state", rf"^(?:[\w-]+ )??at {NAME}"),
    family("go attend", "school", "state", rf"^(?:to )?{SCHOOL}"),
    family("enrol enroll", "school", "event", rf"^(?:at|in) {SCHOOL}"),
    family("transfer", "school", "event", rf"^(?:\w+ )?to {NAME}"),
    family("be", "school", "state", rf"^(?:an? )?(?:[\w-]+ ){{0,2}}student at {NAME}"),
    family("study", "studies", "state", rf"^(?!for\b|at\b|with\b|in\b){THING}"),
    # relationships
    family("be get", "partner", "state", rf"^(?:already |happily )?married to {PERSON}", check=readings.partner),
    family("marry", "partner", "event", rf"^{PERSON}", check=readings.partner),
    family(
        "be",
        "marital",
        "state",
        r"^(?:happily |still )?(?P<v>single|married|engaged|divorced|widowed|separated|in a ",
        rf"(?:serious )?relationship|a widower?)(?! (?:in|by|from|to)\b){END}",
        check=readings.marital,
    ),
    family(
        "get", "marital", "event", rf"^(?P<v>married|engaged|divorced|separated|hitched){END}", check=readings.marital
    ),
    family("file", "marital", "event", r"^for (?P<v>divorce)\b", check=readings.divorced),
    family(
        "be go",
        "partner",
        "state",
        rf"^(?:engaged to|out with|in a relationship with) {PERSON}",
        check=readings.partner,
    ),
    family("see", "partner", "state", rf"^{PERSON}", check=readings.seeing),
    family("break", "partner", "end", rf"^it off with {PERSON}", check=readings.split_up, negative=True),
    family("tie", "marital", "event", r"^the (?P<v>knot)", check=readings.tied_the_knot),
    family("date", "partner", "state", rf"^{PERSON}", check=readings.partner),
    family("date", "partner", "state", r"^[\s.,!]*$", check=readings.couple),
    family(
        "break split",
        "partner",
        "end",
        rf"^up(?: with (?:(?:my \w+,? )?{PERSON})?)?",
        check=readings.split_up,
        negative=True,
    ),
    family(
        "be",
        "partner",
        "state",
        rf"^(?:together|a couple|an item|an official couple|dating){END}",
        check=readings.couple,
    ),
    family(
        "have",
        "partner",
        "state",
        rf"^an? (?:new )?(?:{'|'.join(sorted(PARTNERS))})(?:,| named| called) {PERSON}",
        check=readings.partner,
    ),
    # body and food
    family(
        "be turn become hit",
        "age",
        "state",
        rf"^(?:only |exactly |about )?(?P<v>{NUMBER})(?: years? old| years? of age)?(?! (?:minutes?",
        r"|hours?|miles?|km|days?|weeks?|months?|years?|percent|of|feet|people|cm|pounds|kg)\b",
        rf"|%){END}",
        check=readings.age,
    ),
    family("give cut", "diet", "event", r"^(?:up|out) (?:on )?(?:all )?(?P<v>meat)\b", check=readings.no_meat),
    family("touch", "diet", "state", r"^(?P<v>meat)\b", check=readings.meat),
    family(
        "be become go turn",
        "diet",
        "event",
        rf"^(?:an? )?(?:strict |fully |mostly )?(?P<v>{'|'.join(sorted(DIETS | REGIMES))})\b",
        check=readings.diet,
    ),
    family(
        "follow do eat be start try",
        "diet",
        "state",
        rf"^(?:on )?(?:an? |the )?(?P<v>{'|'.join(sorted(DIETS | REGIMES))}|[Mm]editerranean|[Kk]eto)\b",
        check=readings.diet,
    ),
    family("eat", "diet", "state", r"^(?:red )?(?P<v>meat)\b", check=readings.meat),
    family("be", "allergy", "state", rf"^(?:[\w-]+ )?allergic to {SOME}"),
    family("have", "allergy", "state", r"^an? (?:[\w-]+ )??(?P<v>[\w-]+) allergy"),
    family("be", "allergy", "state", r"^(?P<v>[\w-]+)[ -]intolerant"),
    family("be get", "health", "done", rf"^diagnosed with {SOME}"),
    family(
        "have suffer",
        "health",
        "state",
        r"^(?:from )?(?:type \d )?(?P<v>diabetes|asthma|migraines?|epilepsy|arthritis|adhd|ADHD",
        r"|anxiety|depression|celiac disease|coeliac disease|insomnia|high blood pressure)\b",
    ),
)
